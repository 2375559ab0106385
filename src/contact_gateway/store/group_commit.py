"""Group commit: queued jobs share a transaction, and each is answered after its commit."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

import structlog
from sqlalchemy import Connection

from contact_gateway.contacts.source import SourceUnavailable
from contact_gateway.store.batching import fill_batch
from contact_gateway.store.database import ANSWER_TIMEOUT_SECONDS, Database

MAX_BATCH_SIZE: Final = 128
"""The batch size: how many jobs, such as creations, share a commit at most."""

MAX_QUEUED: Final = 4096
"""How many jobs are queued at most. Further ones are refused, as back pressure."""

_PURGE_INTERVAL_SECONDS: Final = 3600.0

# Another batch begins beside those in flight if so many jobs are queued, or none of them has
# begun for so long. Otherwise it would only be smaller, and each commit costs.
_JOBS_WORTH_A_BATCH: Final = 16
_PATIENCE_SECONDS: Final = 0.02

_log = structlog.get_logger(__name__)

Job = TypeVar("Job")
Answer = TypeVar("Answer")


class CommitObserver(Protocol):
    """Receives the figures of group commits, for metrics. Its methods must not raise or block."""

    def batch_started(self, queued: int, /) -> None:
        """Record how many jobs are queued when a batch starts, including its own."""
        ...

    def committed(self, jobs: int, seconds: float, /) -> None:
        """Record the size and duration of a commit."""
        ...

    def failed(self, kind: str, /) -> None:
        """Record a batch that failed, or a job that was refused."""
        ...


class _QueuedJob(NamedTuple, Generic[Job, Answer]):
    job: Job
    future: asyncio.Future[Answer]

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class GroupCommit(Generic[Job, Answer]):
    """Runs jobs in batches, one transaction each.

    A batch is all that was queued while the last one was committed, so a lone job waits for no
    other. Under load, as many batches are in flight as the database has connections that write. If
    a batch raises, its jobs run again one by one, and only the faulty ones fail. If a batch times
    out, its callers get `SourceUnavailable`; if all do, so do the queued ones, and new ones until
    a batch ends.

    `apply` runs jobs inside a transaction, and returns their answers in the same order. `purge`
    deletes a bounded number of expired rows, and returns whether none are left. It runs once an
    hour, and after each batch until none are left.
    """

    def __init__(
        self,
        database: Database,
        apply: Callable[[Connection, Sequence[Job]], Sequence[Answer]],
        purge: Callable[[Connection], bool],
        observer: CommitObserver | None = None,
        max_queued: int = MAX_QUEUED,
    ) -> None:
        self._database: Final = database
        self._apply: Final = apply
        self._purge: Final = purge
        self._observer: Final = observer
        self._max_queued: Final = max_queued
        self._timed_out: Final = f"{database.address.label}: the store timed out"
        self._queue: Final[deque[_QueuedJob[Job, Answer]]] = deque()
        self._tasks: Final[set[asyncio.Task[None]]] = set()
        self._stalled: Final[set[asyncio.Task[None]]] = set()
        self._began_at = 0.0
        self._purged_at = -_PURGE_INTERVAL_SECONDS

    async def write(self, job: Job) -> Answer:
        """Run a job and return its answer. It runs even if the caller is cancelled.

        Raises:
            SourceUnavailable: the queue is full, or the database does not answer.
        """
        is_stalled = self._is_stalled()
        if is_stalled or len(self._queue) >= self._max_queued:
            self._report_failure("turned away")
            raise SourceUnavailable(self._timed_out if is_stalled else "the write queue is full")
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._queue.append(_QueuedJob(job, future))
        if not self._tasks or len(self._queue) >= _JOBS_WORTH_A_BATCH or self._is_slow():
            self._start_batches()
        return await future

    async def write_together(self, jobs: Sequence[Job]) -> Sequence[Answer]:
        """Run jobs in a transaction of their own, in order, and return their answers.

        Raises:
            SourceUnavailable: the database does not answer.
        """
        if self._is_stalled():
            self._report_failure("turned away")
            raise SourceUnavailable(self._timed_out)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
                return await self._commit(jobs)
        except TimeoutError:
            self._report_failure("too slow")
            raise SourceUnavailable(self._timed_out) from None

    async def close(self) -> None:
        """Wait until the queue is empty, or the batches in flight time out."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=ANSWER_TIMEOUT_SECONDS)

    def _is_stalled(self) -> bool:
        return len(self._stalled) >= self._database.concurrent_writes

    def _is_slow(self) -> bool:
        return time.monotonic() - self._began_at >= _PATIENCE_SECONDS

    def _start_batches(self) -> None:
        """Run batches beside those in flight, if there are jobs and a connection for them."""
        if self._queue and len(self._tasks) < self._database.concurrent_writes:
            # It serves all callers, so its log lines must not carry the first one's request id.
            self._tasks.add(asyncio.create_task(self._run_batches(), context=Context()))

    async def _run_batches(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("batches run in a task")
        try:
            while self._queue:
                self._began_at = time.monotonic()
                await fill_batch(self._queue, MAX_BATCH_SIZE)
                if self._observer is not None and self._queue:
                    self._observer.batch_started(len(self._queue))
                # Another task may have taken them.
                size = min(MAX_BATCH_SIZE, len(self._queue))
                batch = [self._queue.popleft() for _ in range(size)]
                if batch:
                    await self._run_batch_in_time(task, batch)
        finally:
            # At once: a job that is queued next must not wait for a task that has ended.
            self._tasks.discard(task)

    async def _run_batch_in_time(
        self, task: asyncio.Task[None], batch: Sequence[_QueuedJob[Job, Answer]]
    ) -> None:
        """Run a batch; once it takes too long, fail its jobs and wait on for its end."""

        def time_out() -> None:
            self._stalled.add(task)
            fail = self._fail_all if self._is_stalled() else self._fail
            fail(batch, SourceUnavailable(self._timed_out), "too slow")

        loop = task.get_loop()
        timeout = loop.call_later(ANSWER_TIMEOUT_SECONDS, time_out)
        # For the jobs that are queued by then; later ones look for themselves.
        patience = loop.call_later(_PATIENCE_SECONDS, self._start_batches)
        try:
            await self._run_batch(batch)
        finally:
            timeout.cancel()
            patience.cancel()
            self._stalled.discard(task)

    async def _run_batch(self, batch: Sequence[_QueuedJob[Job, Answer]]) -> None:
        """Commit a batch, or after a fault each of its jobs alone."""
        parts = deque([batch])
        while parts:
            part = parts.popleft()
            try:
                await self._answer(part)
            except SourceUnavailable as error:
                self._fail_all(batch, error, "unavailable")
                return
            except Exception as error:  # noqa: BLE001 - each caller of the batch awaits an answer
                if part is batch:
                    self._report_failure("fault")
                if len(part) == 1:
                    part[0].fail(error)
                else:
                    parts.extend([queued] for queued in part)
        await self._purge_expired_rows()

    async def _commit(self, jobs: Sequence[Job]) -> Sequence[Answer]:
        began = time.perf_counter()
        answers = await self._database.write(lambda connection: self._apply(connection, jobs))
        if self._observer is not None:
            self._observer.committed(len(jobs), time.perf_counter() - began)
        return answers

    async def _answer(self, batch: Sequence[_QueuedJob[Job, Answer]]) -> None:
        answers = await self._commit([queued.job for queued in batch])
        for queued, answer in zip(batch, answers, strict=True):
            if not queued.future.done():
                queued.future.set_result(answer)

    def _fail_all(
        self, batch: Sequence[_QueuedJob[Job, Answer]], error: SourceUnavailable, kind: str
    ) -> None:
        """Fail a batch and the whole queue: each further batch would wait as long, in vain."""
        self._fail((*batch, *self._queue), error, kind)
        self._queue.clear()

    def _fail(
        self, jobs: Sequence[_QueuedJob[Job, Answer]], error: SourceUnavailable, kind: str
    ) -> None:
        self._report_failure(kind)
        for queued in jobs:
            queued.fail(SourceUnavailable(error.reason, error.retry_after_seconds))

    def _report_failure(self, kind: str) -> None:
        if self._observer is not None:
            self._observer.failed(kind)

    async def _purge_expired_rows(self) -> None:
        if time.monotonic() - self._purged_at < _PURGE_INTERVAL_SECONDS:
            return
        # At its start: no other batch runs it meanwhile.
        self._purged_at = time.monotonic()
        try:
            if not await self._database.write(self._purge):
                self._purged_at = -_PURGE_INTERVAL_SECONDS
        except Exception as error:  # noqa: BLE001 - it must not fail the jobs that are queued
            _log.warning("purge of expired rows failed; retrying in an hour", cause=repr(error))
