"""The one writer of a kind in a process: what waits to be written shares a transaction."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

import structlog
from sqlalchemy import Connection

from contact_gateway.contacts.outcomes import CreateContactOutcome
from contact_gateway.contacts.source import Creation, SourceUnavailable
from contact_gateway.store import contacts
from contact_gateway.store.batching import fill_batch
from contact_gateway.store.sqlite import ANSWER_TIMEOUT_SECONDS, Database

MAX_BATCH: Final = 128
MAX_WAITING: Final = 4096
_TOO_LONG: Final = "the store takes too long"
_HOUR: Final = 3600.0

_log = structlog.get_logger(__name__)

Job = TypeVar("Job")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[Job, Answer]):
    job: Job
    answer: asyncio.Future[Answer]


class Observer(Protocol):
    """Is told how the writers of a process keep up. It raises nothing: callers wait meanwhile."""

    def begun(self, waiting: int, /) -> None:
        """Take note of how many jobs wait when a batch is begun, its own among them."""
        ...

    def committed(self, jobs: int, seconds: float, /) -> None:
        """Take note of a commit."""
        ...

    def failed(self, kind: str, /) -> None:
        """Take note of a batch that was not carried out, or of a job that was turned away."""
        ...


class GroupCommit(ABC, Generic[Job, Answer]):
    """Carries out jobs, many to a commit, and answers each after the commit that holds it.

    A lone job waits for nobody: a batch is what has come in when the event loop has brought all
    that came together, or while the last one was committed.
    A batch that fails is carried out again one by one, so that only the guilty one fails. While one
    takes too long, nobody waits for it, nor behind it.
    """

    def __init__(
        self, database: Database, observer: Observer | None = None, max_waiting: int = MAX_WAITING
    ) -> None:
        self._database: Final = database
        self._max_waiting: Final = max_waiting
        self._observer: Final = observer
        self._waiting: Final[deque[_Waiting[Job, Answer]]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._is_stuck = False
        self._tidied_at = -_HOUR

    @abstractmethod
    def carry_out(self, connection: Connection, jobs: Sequence[Job]) -> Sequence[Answer]:
        """Carry out jobs, in order, inside a transaction; return the answer of each."""

    @abstractmethod
    def tidy(self, connection: Connection) -> bool:
        """Delete what is past its time, but no more than delays nobody; tell whether that was all.

        Done once an hour, and behind each batch until it was all.
        """

    async def write(self, job: Job) -> Answer:
        """Carry out one job; it goes on even if its caller goes away.

        Raises:
            SourceUnavailable: too many wait already, or the database does not answer.
        """
        if self._is_stuck:
            self._note_failure("turned away")
            raise SourceUnavailable(_TOO_LONG)
        if len(self._waiting) >= self._max_waiting:
            self._note_failure("turned away")
            raise SourceUnavailable("too many wait to be written")
        if self._task is None or self._task.done():
            # It serves all who come, and logs nothing in the name of the first.
            self._task = asyncio.create_task(self._drain(), context=Context())
        answer: asyncio.Future[Answer] = self._task.get_loop().create_future()
        self._waiting.append(_Waiting(job, answer))
        return await answer

    async def close(self) -> None:
        """Wait until all that was accepted is carried out, or nobody waits for it any more."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=ANSWER_TIMEOUT_SECONDS)

    async def _drain(self) -> None:
        while self._waiting:
            await fill_batch(self._waiting, MAX_BATCH)
            if self._observer is not None:
                self._observer.begun(len(self._waiting))
            size = min(MAX_BATCH, len(self._waiting))
            batch = [self._waiting.popleft() for _ in range(size)]
            watch = asyncio.get_running_loop().call_later(
                ANSWER_TIMEOUT_SECONDS, self._give_up, batch
            )
            try:
                if await self._answer(batch):
                    await self._tidy()
            finally:
                watch.cancel()
            self._is_stuck = False

    def _give_up(self, batch: Sequence[_Waiting[Job, Answer]]) -> None:
        """Answer those of a batch that takes too long, and those behind it, who were not begun."""
        self._is_stuck = True
        self._fail_all(batch, SourceUnavailable(_TOO_LONG), "too slow")

    async def _answer(self, batch: Sequence[_Waiting[Job, Answer]]) -> bool:
        """Answer a batch; tell whether the database carried it out."""
        try:
            await self._carry_out(batch)
        except SourceUnavailable as error:
            self._fail_all(batch, error, "unavailable")
        except Exception as error:  # noqa: BLE001 - every caller of the batch must be answered
            self._note_failure("fault")
            if len(batch) == 1:
                _fail(batch[0], error)
            else:
                await self._carry_out_one_by_one(batch)
        else:
            return True
        return False

    def _fail_all(
        self, batch: Sequence[_Waiting[Job, Answer]], error: SourceUnavailable, kind: str
    ) -> None:
        """Answer a batch and all behind it: it is nobody's fault, and each would wait as long."""
        self._note_failure(kind)
        for waiting in (*batch, *self._waiting):
            _fail(waiting, SourceUnavailable(error.reason, error.retry_after_seconds))
        self._waiting.clear()

    async def _carry_out(self, batch: Sequence[_Waiting[Job, Answer]]) -> None:
        began = time.perf_counter()
        jobs = [waiting.job for waiting in batch]
        answers = await self._database.write(lambda connection: self.carry_out(connection, jobs))
        if self._observer is not None:
            self._observer.committed(len(batch), time.perf_counter() - began)
        for waiting, answer in zip(batch, answers, strict=True):
            if not waiting.answer.done():
                waiting.answer.set_result(answer)

    def _note_failure(self, kind: str) -> None:
        if self._observer is not None:
            self._observer.failed(kind)

    async def _carry_out_one_by_one(self, batch: Sequence[_Waiting[Job, Answer]]) -> None:
        for waiting in batch:
            try:
                await self._carry_out([waiting])
            except SourceUnavailable as error:
                self._fail_all(batch, error, "unavailable")
                return
            except Exception as error:  # noqa: BLE001 - it is this caller's to see
                _fail(waiting, error)

    async def _tidy(self) -> None:
        if time.monotonic() - self._tidied_at < _HOUR:
            return
        try:
            is_tidy = await self._database.write(self.tidy)
        except Exception as error:  # noqa: BLE001 - no caller's business: they wait for the next batch
            _log.warning("old idempotency keys not deleted; trying again later", cause=repr(error))
            is_tidy = True
        if is_tidy:
            self._tidied_at = time.monotonic()


class ContactGroupCommit(GroupCommit[Creation, CreateContactOutcome]):
    """Creates contacts: what `contacts.create` does, many to a commit."""

    def carry_out(
        self, connection: Connection, jobs: Sequence[Creation]
    ) -> Sequence[CreateContactOutcome]:
        """Carry out creations."""
        return contacts.create(connection, jobs)

    def tidy(self, connection: Connection) -> bool:
        """Forget old idempotency keys."""
        return contacts.forget_old_idempotency_keys(connection)


def _fail(waiting: _Waiting[Job, Answer], error: Exception) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(error)
