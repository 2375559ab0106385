"""The one writer of contacts in a process: creations that wait share a transaction."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from contact_gateway.contacts.source import Creation, CreationOutcome, SourceUnavailable
from contact_gateway.store import contacts
from contact_gateway.store.engine import Database

MAX_BATCH: Final = 128
MAX_WAITING: Final = 4096
_HOUR: Final = 3600.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Waiting:
    creation: Creation
    answer: asyncio.Future[CreationOutcome] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class ContactWriter:
    """Carries out creations, many to a commit, and answers each after the commit that holds it.

    A lone creation waits for nobody: a batch is what came in while the last one was committed.
    A batch that fails is carried out again one by one, so that only the guilty one fails.
    """

    def __init__(self, database: Database) -> None:
        self._database: Final = database
        self._waiting: Final[deque[_Waiting]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._forgot_at = -_HOUR

    async def create(self, creation: Creation) -> CreationOutcome:
        """Carry out one creation; it goes on even if its caller goes away.

        Raises:
            SourceUnavailable: too many wait already, or the database does not answer.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise SourceUnavailable("too many creations wait")
        waiting = _Waiting(creation)
        self._waiting.append(waiting)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain())
        return await asyncio.shield(waiting.answer)

    async def close(self) -> None:
        """Wait until all that was accepted is carried out."""
        if self._task is not None:
            await self._task

    async def _drain(self) -> None:
        while self._waiting:
            size = min(MAX_BATCH, len(self._waiting))
            batch = [self._waiting.popleft() for _ in range(size)]
            try:
                await self._carry_out(batch)
            except SourceUnavailable as error:
                _fail_all(batch, error)
            except Exception as error:  # noqa: BLE001 - every caller of the batch must be answered
                if len(batch) == 1:
                    _fail(batch[0], error)
                else:
                    await self._carry_out_one_by_one(batch)
            await self._forget_old_keys()

    async def _carry_out(self, batch: Sequence[_Waiting]) -> None:
        async with self._database.writing() as connection:
            outcomes = await contacts.create(connection, [waiting.creation for waiting in batch])
        for waiting, outcome in zip(batch, outcomes, strict=True):
            if not waiting.answer.done():
                waiting.answer.set_result(outcome)

    async def _carry_out_one_by_one(self, batch: Sequence[_Waiting]) -> None:
        for waiting in batch:
            try:
                await self._carry_out([waiting])
            except SourceUnavailable as error:
                _fail_all(batch, error)
                return
            except Exception as error:  # noqa: BLE001 - it is this caller's to see
                _fail(waiting, error)

    async def _forget_old_keys(self) -> None:
        if time.monotonic() - self._forgot_at < _HOUR:
            return
        self._forgot_at = time.monotonic()
        try:
            async with self._database.writing() as connection:
                await contacts.forget_old_idempotency_keys(connection)
        except Exception as error:  # noqa: BLE001 - no caller's business: they wait for the next batch
            _log.warning("old idempotency keys not deleted; trying again later", cause=repr(error))


def _fail_all(batch: Sequence[_Waiting], error: SourceUnavailable) -> None:
    """Answer all that are not answered: it is nobody's fault, and each would wait as long again."""
    for waiting in batch:
        _fail(waiting, SourceUnavailable(error.reason, error.retry_after_seconds))


def _fail(waiting: _Waiting, error: Exception) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(error)
