"""The gateway with its own store and its peers, in interleaved rounds of one run.

Run it with `scripts/bench`.
"""

import argparse
import operator
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Final

from benchmarks import database, peers, servers
from benchmarks.database import Prepared
from benchmarks.load import check, send
from benchmarks.measuring import Measured, measure, started
from benchmarks.operations import CONTACT, CONTACTS, CREATE, CREATE_BY_REST, ECHO, Operation
from benchmarks.report import Target, conditions, figures, table
from benchmarks.run import LOGS, commit, python, session
from benchmarks.servers import Server

OPERATIONS: Final[Mapping[str, Operation]] = {
    "create-graphql": replace(CREATE, ids=database.ADVERTISERS),
    "create-rest": replace(CREATE_BY_REST, ids=database.ADVERTISERS),
    "contact": replace(CONTACT, ids=database.CONTACTS),
    "contacts": CONTACTS,
}
"""The operations on the store, by their names on the command line."""


@dataclass(frozen=True, slots=True)
class _Contestant:
    """A server over a database file. Errors of one that `may_fail` are counted."""

    name: str
    start: Callable[[Path, Path], AbstractContextManager[Server]]
    operations: Sequence[Operation] = tuple(OPERATIONS.values())
    may_fail: bool = False

    @property
    def slug(self) -> str:
        """The name of its files."""
        return self.name.lower().replace(" ", "-")

    def file(self, prepared: Prepared) -> Path:
        """Return its copy of the database."""
        return prepared.file.with_name(f"{self.slug}.sqlite3")


def gateway(
    log: Path, file: Path, program: Path = servers.GATEWAY
) -> AbstractContextManager[Server]:
    """Run the gateway over a database file, with a rate limit that no run reaches."""
    settings = {
        "CONTACT_GATEWAY_DATABASE_URL": f"sqlite+aiosqlite:///{file}",
        "CONTACT_GATEWAY_RATE_LIMIT_PER_HOUR": str(servers.HIGH_RATE_LIMIT),
    }
    return servers.gateway(log, settings, program)


_GATEWAY: Final = _Contestant("contact-gateway", gateway)
_MERCURIUS: Final = _Contestant("Mercurius", peers.mercurius)
_NAIVE: Final = _Contestant("naive Strawberry", peers.naive, may_fail=True)
_BARE_UVICORN: Final = _Contestant("bare uvicorn", peers.bare_uvicorn, (ECHO,))
_CONTESTANTS: Final = (_GATEWAY, _MERCURIUS, _NAIVE, _BARE_UVICORN)


@dataclass(slots=True)
class _Results:
    """The figures by operation and contestant."""

    rows: dict[str, dict[str, Measured]] = field(default_factory=dict)
    starts: dict[str, list[float]] = field(default_factory=dict)

    def of(self, operation: Operation, contestant: _Contestant) -> Measured:
        """Return the row of an operation and a contestant; create it if it is missing."""
        rows = self.rows.setdefault(operation.name, {})
        starts = self.starts.setdefault(contestant.name, [])
        return rows.setdefault(contestant.name, Measured(contestant.name, starts))


def main() -> None:
    """Measure, and print the results as markdown."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="length of a round")
    parser.add_argument("--warm-up", type=int, default=4, help="seconds of load before the rounds")
    options = parser.parse_args()
    with session(requires=peers.REQUIREMENTS):
        peers.install_mercurius()
        libraries = ("strawberry-graphql", "graphql-core", "uvicorn", "sqlalchemy")
        versions = ", ".join(f"{library} {version(library)}" for library in libraries)
        head = (
            f"contact-gateway at {commit()} on {python()} ({versions}); "
            f"{peers.mercurius_versions()}. The server on one core, the load on another. "
            f"{conditions(options.rounds, options.seconds, options.warm_up)}"
        )
        results = _measure(options.rounds, options.seconds, options.warm_up)
    sys.stdout.write("\n\n".join((head, *_report(results))) + "\n")


def _measure(rounds: int, seconds: float, warm_up: float) -> _Results:
    results = _Results()
    with tempfile.TemporaryDirectory(dir=LOGS) as folder, ExitStack() as stack:
        prepared = database.prepare(Path(folder))
        for contestant in _CONTESTANTS:
            for _ in range(rounds):
                with _started(contestant, prepared) as (_, seconds_to_start):
                    results.starts.setdefault(contestant.name, []).append(seconds_to_start)
        running = {
            contestant.name: stack.enter_context(_started(contestant, prepared))[0]
            for contestant in _CONTESTANTS
        }
        for contestant, operation in _rows(prepared):
            send(operation, running[contestant.name].port, warm_up)
            if not contestant.may_fail:
                check(operation, running[contestant.name].port)
        for _ in range(rounds):
            for contestant, operation in _rows(prepared):
                results.of(operation, contestant).rounds.append(
                    measure(
                        f"{contestant.name}, {operation.name}",
                        operation,
                        running[contestant.name],
                        seconds,
                        database.counter(contestant.file(prepared)),
                        may_fail=contestant.may_fail,
                    )
                )
        for contestant, operation in _rows(prepared):
            peak = running[contestant.name].memory_mb("VmHWM")
            results.of(operation, contestant).peak_memory_mb = peak
    return results


def _rows(prepared: Prepared) -> Iterator[tuple[_Contestant, Operation]]:
    """Yield each operation with all its contestants, so that they are measured close in time."""
    for operation in (*OPERATIONS.values(), ECHO):
        for contestant in _CONTESTANTS:
            if operation in contestant.operations:
                yield contestant, replace(operation, key=prepared.key)


@contextmanager
def _started(contestant: _Contestant, prepared: Prepared) -> Iterator[tuple[Server, float]]:
    """Start a contestant over a new copy of the database."""
    file = prepared.copy(contestant.file(prepared).name)
    first = replace(contestant.operations[0], key=prepared.key)
    with started(contestant.start(LOGS / f"{contestant.slug}.log", file), first) as server:
        yield server


def _report(results: _Results) -> Iterator[str]:
    for name, rows in results.rows.items():
        yield f"### {name}\n\n{figures(rows.values())}"
    head = ("", "compared with", "answers/s", "p99")
    yield f"### Ratios by round\n\n{table(head, _comparisons(results))}"


def _comparisons(results: _Results) -> Iterator[tuple[str, str, str, str]]:
    by_graphql, by_rest, contact, contacts = OPERATIONS.values()
    comparisons = (
        (by_graphql, _MERCURIUS, 4, 1),
        (by_rest, _MERCURIUS, 3, 1),
        (contact, _MERCURIUS, 1, 1),
        (contacts, _MERCURIUS, None, 1),
        (by_graphql, _NAIVE, 30, None),
        (by_rest, _NAIVE, None, None),
        (contact, _NAIVE, None, None),
        (contacts, _NAIVE, None, None),
    )
    for operation, peer, least_rate, most_p99 in comparisons:
        ours, its = results.of(operation, _GATEWAY), results.of(operation, peer)
        yield _row(operation.name, ours, its, least_rate, most_p99)
    rest = replace(results.of(by_rest, _GATEWAY), name=f"its own {by_rest.name}")
    yield _row(by_graphql.name, results.of(by_graphql, _GATEWAY), rest, 0.8, None)


def _row(
    name: str,
    ours: Measured,
    peer: Measured,
    least_rate: float | None,
    most_p99: float | None,
) -> tuple[str, str, str, str]:
    rate = Target(lambda each: each.load.per_second, operator.ge, least_rate)
    p99 = Target(lambda each: each.load.p99_ms, operator.le, most_p99)
    return name, peer.name, rate.result(ours, peer), p99.result(ours, peer)


if __name__ == "__main__":
    main()
