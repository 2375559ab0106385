"""Connections to a database, each with a thread that runs a whole transaction at a time.

Work is plain SQLAlchemy on one connection: a switch of threads for every step of every statement
takes ten times as long.
"""

import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import closing, suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, ClassVar, Final, Generic, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.pool import StaticPool

from contact_gateway.contacts.source import SourceUnavailable
from contact_gateway.store.turns import take_turn

T = TypeVar("T")

CONNECTION_TIMEOUT_SECONDS: Final = 5
"""How long a caller waits for a free connection, and closing for the connections in use."""

_MAX_ATTEMPTS: Final = 10
_MAX_PAUSE_SECONDS: Final = 0.01


class LostRaceError(Exception):
    """Another transaction stored, under the same unique key, what this one was about to store.

    Work raises it to be rolled back and run again: then it reads what the other one has stored.
    """


class DatabaseFault(Exception):  # noqa: N818 - a fault of the gateway, not a mistake
    """A statement failed, and would fail again. The message holds no values of callers."""


class Failure(NamedTuple):
    """A database's error.

    Attributes:
        text: what the database says, without values of callers.
        repeat: why the transaction may succeed if it is run again at once.
        is_temporary: whether the database cannot answer now; otherwise the statement is wrong.
    """

    text: str
    repeat: Literal["lost race", "rolled back", "lost connection"] | None = None
    is_temporary: bool = True


_LOST_RACE: Final = Failure("other transactions won every race", "lost race")


class Driver(ABC):
    """What differs between database systems.

    Attributes:
        label: the name of the database in messages.
        dialect: the URL by which SQLAlchemy selects its dialect.
        paramstyle: how statements have their positional parameters, in SQLAlchemy's words.
    """

    label: str
    dialect: ClassVar[str]
    paramstyle: ClassVar[Literal["qmark", "numeric_dollar"]]

    @abstractmethod
    def connect(self) -> object:
        """Open a connection on which the driver begins no transactions by itself.

        Raises:
            SourceUnavailable: the database cannot be reached.
        """

    @abstractmethod
    def failure(self, error: Exception) -> Failure | None:
        """Return what an error of the database means; None for any other error."""

    def check(self) -> None:  # noqa: B027 - a server answers each commit itself
        """Check, before and after each transaction, that commits reach the database.

        Raises:
            SourceUnavailable: they do not.
        """


class PoolObserver(Protocol):
    """Receives the events of connections, for metrics. Its methods must not raise or block."""

    def connections_changed(self, pool: str, in_use: int, /) -> None:
        """Record how many connections of a pool are in use."""
        ...

    def transaction_repeated(self, cause: str, /) -> None:
        """Record that a transaction is run again. Called on any thread."""
        ...


class _Job(NamedTuple, Generic[T]):
    """Work for a thread of a pool, and the future that its caller awaits."""

    work: Callable[[Connection], T]
    future: asyncio.Future[T]


# The jobs' answers have any types. A future without a job asks a thread to close its connection.
_Queue: TypeAlias = SimpleQueue[_Job[Any] | asyncio.Future[None]]


class ConnectionPool:
    """Connections of one kind, each on a thread. The threads share a queue of jobs.

    A job is queued only when a thread is free, so that a caller waits a bounded time for one.
    `begin` is the statement that begins a transaction; None leaves each statement on its own.
    """

    def __init__(
        self,
        name: str,
        driver: Driver,
        size: int,
        begin: str | None,
        observer: PoolObserver | None = None,
    ) -> None:
        self.name: Final = name
        self.driver: Final = driver
        self.size: Final = size
        self.begin: Final = begin
        self.observer: Final = observer
        self._free_threads: Final = asyncio.Semaphore(size)
        self._in_use = 0
        self._threads = 0
        self.queue = _Queue()

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction: roll it back if `work` fails or the caller is cancelled.

        Raises:
            SourceUnavailable: the database does not answer.
        """
        try:
            await take_turn(self._free_threads, CONNECTION_TIMEOUT_SECONDS)
        except TimeoutError:
            reason = f"{self.driver.label}: all connections are in use"
            raise SourceUnavailable(reason) from None
        self._set_in_use(self._in_use + 1)
        if self._in_use > self._threads:
            _ConnectionThread(self)
            self._threads += 1
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.queue.put(_Job(work, future))
        return await future

    async def close(self) -> None:
        """Close the connections after their jobs in flight; do not wait for those that hang."""
        loop = asyncio.get_running_loop()
        closed = [loop.create_future() for _ in range(self._threads)]
        for future in closed:
            self.queue.put(future)
        self._threads, self.queue = 0, _Queue()
        if closed:
            await asyncio.wait(closed, timeout=CONNECTION_TIMEOUT_SECONDS)

    def answer(self, job: _Job[Any], set_answer: Callable[[T], None], answer: T) -> None:
        """Answer the caller of a job, whose thread is free now."""
        self._free_threads.release()
        self._set_in_use(self._in_use - 1)
        if not job.future.done():
            set_answer(answer)

    def _set_in_use(self, number: int) -> None:
        self._in_use = number
        if self.observer is not None:
            self.observer.connections_changed(self.name, number)


class _CancelledError(Exception):
    """The caller was cancelled, so its transaction is rolled back."""


class _ConnectionThread(Thread):
    """A thread that runs jobs on a connection, which it opens for the first one."""

    def __init__(self, pool: ConnectionPool) -> None:
        driver = pool.driver
        # A disk or a network that hangs must not keep the process from ending.
        super().__init__(name=f"{pool.name} {driver.label}", daemon=True)
        self._pool: Final = pool
        self._queue: Final = pool.queue
        self._driver: Final = driver
        self._job: _Job[Any] | None = None
        self._is_committing = False
        self._engine: Final = create_engine(
            driver.dialect,
            paramstyle=driver.paramstyle,
            creator=driver.connect,
            poolclass=StaticPool,
            pool_reset_on_return=None,
            # The text of an exception may be logged; it must not hold what callers sent.
            hide_parameters=True,
        )
        if pool.begin is not None:
            event.listen(self._engine, "begin", self._begin)
        event.listen(self._engine, "before_cursor_execute", self._raise_if_cancelled)
        self.start()

    def run(self) -> None:
        """Run jobs until the connection is to be closed."""
        while isinstance(job := self._queue.get(), _Job):
            self._job = job
            try:
                answer = self._run_again_if_possible(job.work)
            except BaseException as error:  # noqa: BLE001 - the caller awaits an answer or an error
                _call(job.future, self._pool.answer, job, job.future.set_exception, error)
            else:
                _call(job.future, self._pool.answer, job, job.future.set_result, answer)
        self._engine.dispose()
        _call(job, job.set_result, None)

    def _run_again_if_possible(self, work: Callable[[Connection], T]) -> T:
        attempts = 0
        while True:
            attempts += 1
            self._is_committing = False
            try:
                return self._run_in_transaction(work)
            except Exception as error:
                is_lost_race = isinstance(error, LostRaceError)
                failure = _LOST_RACE if is_lost_race else self._driver.failure(error)
                if failure is None:
                    raise
                has_lost_connection = failure.repeat == "lost connection"
                if has_lost_connection:
                    self._engine.dispose()
                # Once the commit is sent, its outcome is unknown.
                is_unknown = has_lost_connection and self._is_committing
                if failure.repeat is None or is_unknown or attempts == _MAX_ATTEMPTS:
                    text = f"{self._driver.label}: {failure.text}"
                    if failure.is_temporary:
                        raise SourceUnavailable(text) from error
                    # Without the cause, whose text may hold what callers sent.
                    raise DatabaseFault(text).with_traceback(error.__traceback__) from None
                if self._pool.observer is not None:
                    self._pool.observer.transaction_repeated(failure.repeat)
            # A random pause, so that transactions that conflicted do not conflict again.
            time.sleep(random.uniform(0, _MAX_PAUSE_SECONDS))  # noqa: S311 - no secret

    def _run_in_transaction(self, work: Callable[[Connection], T]) -> T:
        self._driver.check()
        with self._engine.connect() as connection:
            try:
                with connection.begin():
                    answer = work(connection)
                    self._raise_if_cancelled()
                    self._is_committing = True
            except BaseException:
                # SQLAlchemy does not roll back after a commit that fails. If this fails too, the
                # connection is lost, and the first error says so.
                with suppress(Exception):
                    connection.connection.rollback()
                raise
        # A commit to a database that is no longer at its place is lost.
        self._driver.check()
        return answer

    def _begin(self, connection: Connection) -> None:
        """Begin a transaction by the driver: SQLAlchemy takes five times as long as SQLite."""
        self._raise_if_cancelled()
        with closing(connection.connection.cursor()) as cursor:
            cursor.execute(self._pool.begin)

    def _raise_if_cancelled(self, *_: object) -> None:
        # Another thread may read a future's state, but not set it.
        if self._job is not None and self._job.future.cancelled():
            raise _CancelledError


def _call(future: asyncio.Future[Any], callback: Callable[..., None], *values: object) -> None:
    """Call `callback` on a future's event loop, unless the loop has been closed."""
    with suppress(RuntimeError):
        future.get_loop().call_soon_threadsafe(callback, *values)
