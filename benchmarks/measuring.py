"""One row's measurements: its cold starts, its rounds under load, its memory."""

import operator
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from statistics import median
from typing import Final

from benchmarks.figures import spread
from benchmarks.load import CONNECTIONS, Load, Operation, WrongAnswerError, ask_once, send
from benchmarks.servers import BenchmarkError, Server

_STARTS_WITHIN_SECONDS: Final = 60
_POLL_SECONDS: Final = 0.002
_SETTLING_SECONDS: Final = 0.3


@dataclass(frozen=True, slots=True)
class Round:
    """What one round of load showed."""

    load: Load
    cpu_microseconds: float
    memory_mb: float


@dataclass(slots=True)
class Measured:
    """All that is measured of one row."""

    name: str
    starts: Sequence[float] = ()
    rounds: list[Round] = field(default_factory=list)
    most_memory_mb: float = 0

    def spread(self, figure: Callable[[Round], float], digits: int = 0) -> str:
        """Return the median of a figure of the rounds, with the least and the most."""
        return spread([figure(each) for each in self.rounds], digits)


@dataclass(frozen=True, slots=True)
class Aim:
    """A figure whose ratio to that of another row, round by round, is told.

    `compare` and `ratio` say what is aimed at; without a ratio, nothing is.
    """

    figure: Callable[[Round], float]
    compare: Callable[[float, float], bool]
    ratio: float | None

    def told(self, measured: Measured, peer: Measured) -> str:
        """Return the ratios, and whether their median is what is aimed at."""
        rounds = zip(measured.rounds, peer.rounds, strict=True)
        ratios = [self.figure(mine) / self.figure(its) for mine, its in rounds]
        if self.ratio is None:
            return spread(ratios, 2)
        bound = "at least" if self.compare is operator.ge else "at most"
        met = "met" if self.compare(median(ratios), self.ratio) else "missed"
        return f"{spread(ratios, 2)}; {bound} {self.ratio:.3g}: {met}"


@contextmanager
def started(
    starting: AbstractContextManager[Server], operation: Operation
) -> Iterator[tuple[Server, float]]:
    """Start a server, and give it with the seconds to its first correct answer."""
    with starting as server:
        yield server, _first_answer(operation, server)


def measure(  # noqa: PLR0913 - a round has this many parts
    name: str,
    operation: Operation,
    server: Server,
    seconds: float,
    created: Callable[[], int],
    *,
    may_fail: bool = False,
) -> Round:
    """Load a server for a round.

    Args:
        name: what is measured, for messages.
        operation: what is asked for.
        server: who is asked.
        seconds: how long.
        created: returns how many contacts were created so far.
        may_fail: whether wrong answers are counted, instead of making the run worth nothing.

    Raises:
        BenchmarkError: an answer was wrong, or it was not one creation for each.
    """
    time.sleep(_SETTLING_SECONDS)
    created_before, cpu_before = created(), server.cpu_seconds()
    load = send(operation, server.port, seconds)
    cpu = server.cpu_seconds() - cpu_before
    memory = server.memory_mb("VmRSS")
    if (load.failures and not may_fail) or not load.requests:
        raise BenchmarkError(
            f"{name}: {load.failures} failures beside {load.requests} answers. {load.failure}"
        )
    time.sleep(_SETTLING_SECONDS)
    new = created() - created_before
    least = load.requests if operation.creates else 0
    most = least + CONNECTIONS + load.failures if operation.creates else 0
    if not least <= new <= most:
        raise BenchmarkError(f"{name}: {load.requests} answers, but {new} contacts created")
    return Round(load, cpu / load.requests * 1e6, memory)


def _first_answer(operation: Operation, server: Server) -> float:
    reason: Exception | None = None
    while server.age < _STARTS_WITHIN_SECONDS:
        try:
            ask_once(operation, server.port)
        except (OSError, HTTPException, WrongAnswerError) as error:
            reason = error
            server.check_alive()
            time.sleep(_POLL_SECONDS)
        else:
            return server.age
    raise BenchmarkError(f"no correct answer in {_STARTS_WITHIN_SECONDS} s: {reason}")
