"""One row's measurements: its cold starts, its rounds under load, its memory."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Final

from benchmarks.load import CONNECTIONS, Creation, Load, WrongAnswerError, create_one, send
from benchmarks.rows import REST, Row
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
    starts: list[float] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    most_memory_mb: float = 0


@contextmanager
def started(row: Row, log: Path, upstream: Server) -> Iterator[tuple[Server, float]]:
    """Start a row's gateway, and give it with the seconds to its first correct answer."""
    with row.start(log, upstream.port) as server:
        yield server, _first_answer(row.creation, server)


def measure(
    name: str, creation: Creation, server: Server, upstream: Server, seconds: float
) -> Round:
    """Load a server for a round.

    Raises:
        BenchmarkError: an answer was wrong, or the upstream was not asked once for each.
    """
    time.sleep(_SETTLING_SECONDS)
    created_before, cpu_before = _newest_id(upstream), server.cpu_seconds()
    load = send(creation, server.port, seconds)
    cpu = server.cpu_seconds() - cpu_before
    memory = server.memory_mb("VmRSS")
    if load.failures or not load.requests:
        raise BenchmarkError(
            f"{name}: {load.failures} failures beside {load.requests} answers. {load.failure}"
        )
    time.sleep(_SETTLING_SECONDS)
    created = _newest_id(upstream) - created_before - 1
    if not load.requests <= created <= load.requests + CONNECTIONS:
        raise BenchmarkError(f"{name}: {load.requests} answers, but {created} creations upstream")
    return Round(load, cpu / load.requests * 1e6, memory)


def _first_answer(creation: Creation, server: Server) -> float:
    reason: Exception | None = None
    while server.age < _STARTS_WITHIN_SECONDS:
        try:
            create_one(creation, server.port)
        except (OSError, HTTPException, WrongAnswerError) as error:
            reason = error
            server.check_alive()
            time.sleep(_POLL_SECONDS)
        else:
            return server.age
    raise BenchmarkError(f"no correct answer in {_STARTS_WITHIN_SECONDS} s: {reason}")


def _newest_id(upstream: Server) -> int:
    """Create a contact upstream, to learn how many were created."""
    return int(json.loads(create_one(REST, upstream.port))["data"]["id"])
