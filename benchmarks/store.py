"""This gateway with its own store beside its peers, in interleaved rounds of one run.

Run it by `scripts/bench`.
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

from benchmarks import database, mercurius, servers
from benchmarks.database import Prepared
from benchmarks.figures import table
from benchmarks.load import Operation, check, send
from benchmarks.measuring import Aim, Measured, measure, started
from benchmarks.operations import CONTACT, CONTACTS, CREATE, CREATE_BY_REST, ECHO, PAGE_SIZE
from benchmarks.provenance import commit, python
from benchmarks.report import figures, rounds_told
from benchmarks.results import LOGS, NODE, measuring
from benchmarks.servers import Launch, Server

OPERATIONS: Final[Mapping[str, Operation]] = {
    "createContact by GraphQL": replace(CREATE, ids=database.RECORDS),
    "createContact by REST": replace(CREATE_BY_REST, ids=database.RECORDS),
    "contact(id)": replace(CONTACT, ids=database.CONTACTS),
    f"contacts, a page of {PAGE_SIZE}": CONTACTS,
}
_ECHO: Final[Mapping[str, Operation]] = {"JSON in, JSON out": ECHO}


@dataclass(frozen=True, slots=True)
class _Contestant:
    """A server, how it is started over a database, and what it is asked for."""

    name: str
    start: Callable[[Path, Path], AbstractContextManager[Server]]
    operations: Mapping[str, Operation] = field(default_factory=lambda: OPERATIONS)
    may_fail: bool = False


def gateway(log: Path, file: Path) -> AbstractContextManager[Server]:
    """Start this project's gateway over a database file, with a rate limit that nobody reaches."""
    port = servers.free_port()
    settings = {
        "CONTACT_GATEWAY_DATABASE_URL": f"sqlite+aiosqlite:///{file}",
        "CONTACT_GATEWAY_RATE_LIMIT_PER_HOUR": str(servers.UNREACHED_RATE_LIMIT),
    }
    command = (str(servers.PYTHON.with_name("contact-gateway")), "serve", "--port", str(port))
    return servers.running(Launch(command, port, log, folder=file.parent, settings=settings))


def _naive(log: Path, file: Path) -> AbstractContextManager[Server]:
    return _uvicorn("benchmarks.naive_app:app", log, {"DATABASE": str(file)})


def _echo(log: Path, _: Path) -> AbstractContextManager[Server]:
    return _uvicorn("benchmarks.echo_app:app", log, {}, "--no-access-log")


def _uvicorn(
    app: str, log: Path, settings: Mapping[str, str], *options: str
) -> AbstractContextManager[Server]:
    port = servers.free_port()
    command = (str(servers.PYTHON), "-m", "uvicorn", app, "--port", str(port), *options)
    return servers.running(Launch(command, port, log, settings=settings))


_OURS: Final = _Contestant("contact-gateway", gateway)
_MERCURIUS: Final = _Contestant("Mercurius", mercurius.start)
_NAIVE: Final = _Contestant("the tutorials' way", _naive, may_fail=True)
_LIMIT: Final = _Contestant("bare uvicorn", _echo, _ECHO)
_CONTESTANTS: Final = (_OURS, _MERCURIUS, _NAIVE, _LIMIT)


@dataclass(slots=True)
class _Results:
    """What was measured, by operation and contestant."""

    rows: dict[str, dict[str, Measured]] = field(default_factory=dict)
    starts: dict[str, list[float]] = field(default_factory=dict)

    def of(self, operation: str, contestant: _Contestant) -> Measured:
        """Return a row, to read it or to add to it."""
        rows = self.rows.setdefault(operation, {})
        return rows.setdefault(
            contestant.name,
            Measured(contestant.name, self.starts.setdefault(contestant.name, [])),
        )


def main() -> None:
    """Measure, and print what was measured as markdown."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="of each round")
    parser.add_argument("--warm-up", type=int, default=4, help="seconds of load before them")
    options = parser.parse_args()
    with measuring(also=NODE):
        mercurius.prepare()
        head = _conditions(options)
        results = _measure(options.rounds, options.seconds, options.warm_up)
    sys.stdout.write("\n\n".join((head, *_report(results))) + "\n")


def _conditions(options: argparse.Namespace) -> str:
    libraries = ("strawberry-graphql", "graphql-core", "uvicorn", "sqlalchemy")
    versions = ", ".join(f"{library} {version(library)}" for library in libraries)
    return (
        f"contact-gateway at {commit()} on {python()} ({versions}); "
        f"{mercurius.description()}. The server on one core, the load on another. "
        f"{rounds_told(options.rounds, options.seconds, options.warm_up)}"
    )


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
        for contestant, _, operation in _rows(prepared):
            send(operation, running[contestant.name].port, warm_up)
            if not contestant.may_fail:
                check(operation, running[contestant.name].port)
        for _ in range(rounds):
            for contestant, name, operation in _rows(prepared):
                results.of(name, contestant).rounds.append(
                    measure(
                        f"{contestant.name}, {name}",
                        operation,
                        running[contestant.name],
                        seconds,
                        database.counter(_file(contestant, prepared)),
                        may_fail=contestant.may_fail,
                    )
                )
        for contestant, name, _ in _rows(prepared):
            most = running[contestant.name].memory_mb("VmHWM")
            results.of(name, contestant).most_memory_mb = most
    return results


def _rows(prepared: Prepared) -> Iterator[tuple[_Contestant, str, Operation]]:
    """Yield who is asked for what, an operation after the other, so that peers are neighbours."""
    for operations in (OPERATIONS, _ECHO):
        for name, operation in operations.items():
            for contestant in _CONTESTANTS:
                if name in contestant.operations:
                    yield contestant, name, replace(operation, key=prepared.key)


@contextmanager
def _started(contestant: _Contestant, prepared: Prepared) -> Iterator[tuple[Server, float]]:
    """Start a contestant over a new copy of the database."""
    file = prepared.copy(_file(contestant, prepared))
    log = LOGS / f"{_slug(contestant)}.log"
    first = replace(next(iter(contestant.operations.values())), key=prepared.key)
    with started(contestant.start(log, file), first) as server:
        yield server


def _file(contestant: _Contestant, prepared: Prepared) -> Path:
    return prepared.file.with_name(f"{_slug(contestant)}.sqlite3")


def _slug(contestant: _Contestant) -> str:
    return "".join(letter if letter.isalpha() else "-" for letter in contestant.name.lower())


def _report(results: _Results) -> Sequence[str]:
    tables = (
        f"### {name}\n\n{figures(list(rows.values()))}" for name, rows in results.rows.items()
    )
    head = ("", "beside", "answers/s", "p99")
    return [*tables, f"### Each round's ratios\n\n{table(head, _compared(results))}"]


def _compared(results: _Results) -> Iterator[tuple[str, str, str, str]]:
    by_graphql, by_rest, contact, page = OPERATIONS
    aims = {by_graphql: 4.0, by_rest: 3.0, contact: 1.0, page: None}
    for name, least in aims.items():
        yield _row(name, results.of(name, _OURS), results.of(name, _MERCURIUS), least)
    for name in aims:
        least = 30.0 if name == by_graphql else None
        yield _row(name, results.of(name, _OURS), results.of(name, _NAIVE), least)
    by_rest_here = replace(results.of(by_rest, _OURS), name=f"its own {by_rest}")
    yield _row(by_graphql, results.of(by_graphql, _OURS), by_rest_here, 0.8)


def _row(
    name: str, ours: Measured, peer: Measured, least: float | None
) -> tuple[str, str, str, str]:
    rate = Aim(lambda each: each.load.per_second, operator.ge, least)
    p99 = Aim(
        lambda each: each.load.p99_ms, operator.le, 1 if peer.name == _MERCURIUS.name else None
    )
    return name, peer.name, rate.told(ours, peer), p99.told(ours, peer)


if __name__ == "__main__":
    main()
