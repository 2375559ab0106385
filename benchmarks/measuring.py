"""Measure a server: its start, its rounds under load, its memory."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Final

from benchmarks.load import CONNECTIONS, Load, WrongAnswerError, ask_once, send
from benchmarks.operations import Operation
from benchmarks.servers import BenchmarkError, Server

_START_TIMEOUT_SECONDS: Final = 60
_POLL_SECONDS: Final = 0.002
_SETTLING_SECONDS: Final = 0.3


@dataclass(frozen=True, slots=True)
class Round:
    """The figures of one round. CPU time is per right answer."""

    load: Load
    cpu_microseconds: float
    memory_mb: float


@dataclass(slots=True)
class Measured:
    """The figures of one server and one operation, by round."""

    name: str
    starts: Sequence[float] = ()
    rounds: list[Round] = field(default_factory=list)
    peak_memory_mb: float = 0

    def ratios(self, other: "Measured", figure: Callable[[Round], float]) -> list[float]:
        """Return the ratio of a figure to the other's, round by round."""
        rounds = zip(self.rounds, other.rounds, strict=True)
        return [figure(mine) / figure(its) for mine, its in rounds]


@contextmanager
def started(
    starting: AbstractContextManager[Server], operation: Operation
) -> Iterator[tuple[Server, float]]:
    """Start a server, and yield it with the seconds to its first right answer."""
    with starting as server:
        yield server, _seconds_to_first_answer(operation, server)


def measure(  # noqa: PLR0913 - a round has this many parts
    name: str,
    operation: Operation,
    server: Server,
    seconds: float,
    created: Callable[[], int],
    *,
    may_fail: bool = False,
) -> Round:
    """Load a server for one round.

    Args:
        name: appears in errors.
        operation: the request to send.
        server: the server to send it to.
        seconds: the length of the round.
        created: returns the number of contacts created so far.
        may_fail: count wrong answers instead of rejecting the run.

    Raises:
        BenchmarkError: an answer was wrong, or the server created another number of contacts than
            it answered.
    """
    created_before, cpu_before = _settled(created), server.cpu_seconds()
    load = send(operation, server.port, seconds)
    cpu = server.cpu_seconds() - cpu_before
    memory = server.memory_mb("VmRSS")
    if (load.failures and not may_fail) or not load.requests:
        raise BenchmarkError(
            f"{name}: {load.failures} failures, {load.requests} right answers. {load.failure}"
        )
    new = _settled(created) - created_before
    # Requests in flight at the end of the round may create a contact each, without an answer.
    least = load.requests if operation.creates else 0
    most = least + CONNECTIONS + load.failures if operation.creates else 0
    if not least <= new <= most:
        raise BenchmarkError(f"{name}: {load.requests} answers, but {new} contacts created.")
    return Round(load, cpu / load.requests * 1e6, memory)


def _settled(created: Callable[[], int]) -> int:
    """Return the number of contacts once no request in flight creates another."""
    count = created()
    while True:
        time.sleep(_SETTLING_SECONDS)
        previous, count = count, created()
        if count == previous:
            return count


def _seconds_to_first_answer(operation: Operation, server: Server) -> float:
    reason: Exception | None = None
    while server.age < _START_TIMEOUT_SECONDS:
        try:
            ask_once(operation, server.port)
        except (OSError, HTTPException, WrongAnswerError) as error:
            reason = error
            server.check_alive()
            time.sleep(_POLL_SECONDS)
        else:
            return server.age
    raise BenchmarkError(f"No right answer within {_START_TIMEOUT_SECONDS} s: {reason}")
