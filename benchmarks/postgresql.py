"""One and two gateway processes on one PostgreSQL server, and one on SQLite.

Run it with `scripts/bench postgresql`.
"""

import argparse
import operator
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks import database, servers
from benchmarks.load import CONNECTIONS, Load, check, send
from benchmarks.measuring import started
from benchmarks.operations import CREATE, CREATE_BY_REST, Operation
from benchmarks.postgresql_server import postgresql
from benchmarks.report import spread, table
from benchmarks.run import LOGS, commit, python, session
from benchmarks.servers import BenchmarkError, Server, limited

_OPERATIONS: Final = (CREATE, CREATE_BY_REST)
_LEAST_OF_TWO: Final = 1.7


@dataclass(frozen=True, slots=True)
class _Gateways:
    """The gateways that share a load, and how to count the contacts that they created."""

    name: str
    servers: Sequence[Server]
    created: Callable[[], int]


@dataclass(slots=True)
class _Results:
    """Right answers a second, by operation and gateways, in rounds."""

    rows: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def add(self, operation: Operation, gateways: _Gateways, rate: float) -> None:
        """Add the figure of a round."""
        self.rows.setdefault((operation.name, gateways.name), []).append(rate)


def main() -> None:
    """Measure, and print the results as markdown."""
    parser = argparse.ArgumentParser(prog="scripts/bench postgresql", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=4, help="length of a round")
    parser.add_argument("--warm-up", type=int, default=4, help="seconds of load before the rounds")
    parser.add_argument("--share", type=int, default=10, help="CPU of a gateway, in % of a core")
    options = parser.parse_args()
    with session(requires=(("cpulimit", "cpulimit"),)):
        results = _measure(options.rounds, options.seconds, options.warm_up, options.share)
    sys.stdout.write(
        f"contact-gateway at {commit()} on {python()}. Each gateway has at most {options.share} % "
        f"of one core, by cpulimit; PostgreSQL and the load have the other. {options.rounds} "
        f"interleaved rounds of {options.seconds} s, {CONNECTIONS} connections to each gateway. "
        f"Medians (least to most).\n\n{_report(results)}\n"
    )


def _measure(rounds: int, seconds: float, warm_up: float, share: int) -> _Results:
    results = _Results()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(dir=LOGS)))
        url = stack.enter_context(postgresql(servers.LOAD_CORE))
        key = database.fill(url, folder)
        prepared = database.prepare(folder)
        operations = [replace(each, key=key, ids=database.ADVERTISERS) for each in _OPERATIONS]
        one, two = (
            stack.enter_context(_limited_gateway(f"postgresql-{number}", url, operations, share))
            for number in (1, 2)
        )
        file = prepared.copy("own.sqlite3")
        on_sqlite = [replace(each, key=prepared.key) for each in operations]
        sqlite_url = f"sqlite+aiosqlite:///{file}"
        alone = stack.enter_context(_limited_gateway("sqlite", sqlite_url, on_sqlite, share))
        created = database.postgresql_counter(url)
        contestants = (
            (_Gateways("one process", (one,), created), operations),
            (_Gateways("two processes", (one, two), created), operations),
            (_Gateways("one process on SQLite", (alone,), database.counter(file)), on_sqlite),
        )
        for gateways, sent in contestants:
            for operation in sent:
                _load(gateways, operation, warm_up)
                check(operation, gateways.servers[-1].port)
        for _ in range(rounds):
            for index in range(len(_OPERATIONS)):
                for gateways, sent in contestants:
                    results.add(sent[index], gateways, _load(gateways, sent[index], seconds))
    return results


@contextmanager
def _limited_gateway(
    name: str, url: str, operations: Sequence[Operation], share: int
) -> Iterator[Server]:
    settings = {
        "CONTACT_GATEWAY_DATABASE_URL": url,
        "CONTACT_GATEWAY_RATE_LIMIT_PER_HOUR": str(servers.HIGH_RATE_LIMIT),
    }
    starting: AbstractContextManager[Server] = servers.gateway(LOGS / f"{name}.log", settings)
    with started(starting, operations[0]) as (server, _), limited(server, share):
        yield server


def _load(gateways: _Gateways, operation: Operation, seconds: float) -> float:
    """Load all gateways at the same time; return their right answers a second together."""
    before = gateways.created()
    with ThreadPoolExecutor(len(gateways.servers)) as callers:
        loads = [
            callers.submit(send, operation, server.port, seconds) for server in gateways.servers
        ]
        figures: list[Load] = [load.result() for load in loads]
    failed = [load for load in figures if load.failures or not load.requests]
    if failed:
        raise BenchmarkError(
            f"{gateways.name}, {operation.name}: {failed[0].failure or 'no answer'}"
        )
    answered, created = sum(load.requests for load in figures), gateways.created() - before
    if created < answered:
        raise BenchmarkError(
            f"{gateways.name}: {answered} answers, but {created} contacts created."
        )
    return sum(load.per_second for load in figures)


def _report(results: _Results) -> str:
    rows = [(*names, spread(rates)) for names, rates in results.rows.items()]
    ratios = [
        (operation.name, what, spread(values, 2), target)
        for operation in _OPERATIONS
        for what, values, target in _ratios(results.rows, operation)
    ]
    return "\n\n".join(
        (
            table(("operation", "gateways", "answers/s"), rows),
            table(("operation", "ratio", "by round", "target"), ratios),
        )
    )


def _ratios(
    rows: Mapping[tuple[str, str], Sequence[float]], operation: Operation
) -> Iterator[tuple[str, list[float], str]]:
    def of(ours: str, peer: str) -> list[float]:
        pairs = zip(rows[operation.name, ours], rows[operation.name, peer], strict=True)
        return [operator.truediv(*pair) for pair in pairs]

    target = f"at least {_LEAST_OF_TWO}" if operation.name == CREATE.name else ""
    yield "two processes to one", of("two processes", "one process"), target
    yield "PostgreSQL to SQLite", of("one process", "one process on SQLite"), ""


if __name__ == "__main__":
    main()
