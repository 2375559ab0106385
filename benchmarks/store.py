"""The gateway with its own store and its peers, in interleaved rounds of one run.

Run it with `scripts/bench`.
"""

import argparse
import operator
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks import database, peers, servers
from benchmarks.database import Prepared
from benchmarks.load import check, send
from benchmarks.measuring import Measured, measure, started
from benchmarks.operations import CONTACT, CONTACTS, CREATE, CREATE_BY_REST, ECHO, Operation
from benchmarks.postgresql_server import postgresql
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

_CREATIONS: Final = (OPERATIONS["create-graphql"], OPERATIONS["create-rest"])
_BY_GRAPHQL: Final = tuple(each for each in OPERATIONS.values() if each.path == "/graphql")


@dataclass(frozen=True, slots=True)
class _Contestant:
    """A server over a database file. Errors of one that `may_fail` are counted.

    `counter` returns the function that counts the contacts created so far.
    """

    name: str
    start: Callable[[Path, Path], AbstractContextManager[Server]]
    operations: Sequence[Operation] = tuple(OPERATIONS.values())
    may_fail: bool = False
    counter: Callable[[Path], Callable[[], int]] = database.counter

    @property
    def slug(self) -> str:
        """The name of its files."""
        return re.sub("[^a-z]+", "-", self.name.lower())

    def file(self, prepared: Prepared) -> Path:
        """Return its copy of the database."""
        return prepared.file.with_name(f"{self.slug}.sqlite3")


class _Plan(NamedTuple):
    """What to measure, and for how long. Times are in seconds."""

    rounds: int
    seconds: int
    warm_up: int
    operations: Sequence[Operation]
    contestants: Sequence[_Contestant]


def gateway(
    log: Path, file: Path, program: Path = servers.GATEWAY
) -> AbstractContextManager[Server]:
    """Run the gateway over a database file, with a rate limit that no run reaches."""
    return _gateway_on(f"sqlite+aiosqlite:///{file}", log, program)


def _gateway_on(
    url: str, log: Path, program: Path = servers.GATEWAY
) -> AbstractContextManager[Server]:
    settings = {
        "CONTACT_GATEWAY_DATABASE_URL": url,
        "CONTACT_GATEWAY_RATE_LIMIT_PER_HOUR": str(servers.HIGH_RATE_LIMIT),
    }
    return servers.gateway(log, settings, program)


_GATEWAY: Final = _Contestant("contact-gateway", gateway)
_MERCURIUS: Final = _Contestant("Mercurius", peers.mercurius)
# Its reads are those of Mercurius.
_MERCURIUS_WITH_GROUP_COMMIT: Final = _Contestant(
    "Mercurius, group commit", peers.mercurius_with_group_commit, _CREATIONS
)
_YOGA_ON_BUN: Final = _Contestant("Yoga on Bun", peers.yoga_on_bun, _BY_GRAPHQL)
_YOGA_ON_NODE: Final = _Contestant("Yoga on Node", peers.yoga_on_node, _BY_GRAPHQL)
_NAIVE: Final = _Contestant("naive Strawberry", peers.naive, may_fail=True)
_BARE_UVICORN: Final = _Contestant("bare uvicorn", peers.bare_uvicorn, (ECHO,))
_QUICK: Final = _Plan(
    rounds=2,
    seconds=1,
    warm_up=1,
    operations=(*_CREATIONS, CONTACTS),
    contestants=(_GATEWAY, _MERCURIUS, _MERCURIUS_WITH_GROUP_COMMIT),
)
_FULL: Final = _Plan(
    rounds=5,
    seconds=4,
    warm_up=4,
    operations=(*OPERATIONS.values(), ECHO),
    contestants=(
        *(*_QUICK.contestants, _YOGA_ON_BUN, _YOGA_ON_NODE),
        *(_NAIVE, _BARE_UVICORN),
    ),
)
_LEAST_RATES: Final[Mapping[tuple[str, str], float]] = {
    (OPERATIONS["create-graphql"].name, _MERCURIUS.name): 3.5,
    (OPERATIONS["create-rest"].name, _MERCURIUS.name): 4,
    (OPERATIONS["contact"].name, _MERCURIUS.name): 1.2,
    (OPERATIONS["contacts"].name, _MERCURIUS.name): 1,
    (OPERATIONS["create-graphql"].name, _MERCURIUS_WITH_GROUP_COMMIT.name): 1.3,
    (OPERATIONS["create-rest"].name, _MERCURIUS_WITH_GROUP_COMMIT.name): 1.3,
    (OPERATIONS["create-graphql"].name, _NAIVE.name): 40,
}
"""The least ratio of the gateway's rate to a peer's, by operation and peer."""


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
    plan = _plan()
    with session(requires=peers.REQUIREMENTS), ExitStack() as stack:
        peers.install_node()
        libraries = ("strawberry-graphql", "graphql-core", "uvicorn", "sqlalchemy")
        versions = ", ".join(f"{library} {version(library)}" for library in libraries)
        head = (
            f"contact-gateway at {commit()} on {python()} ({versions}); "
            f"{peers.node_versions()}. The server on one core, the load on another, PostgreSQL "
            f"beside the load. {conditions(plan.rounds, plan.seconds, plan.warm_up)}"
        )
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=LOGS)))
        prepared = database.prepare(folder)
        url = stack.enter_context(postgresql(servers.LOAD_CORE))
        prepared.copy_to(url)
        on_postgresql = _on_postgresql(url)
        own, *others = plan.contestants
        plan = plan._replace(contestants=(own, on_postgresql, *others))
        results = _measure(plan, prepared)
    sys.stdout.write("\n\n".join((head, *_report(results))) + "\n")


def _plan() -> _Plan:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="creations and pages of the gateway and Mercurius, in about a minute",
    )
    parser.add_argument("--rounds", type=int, help=f"default: {_FULL.rounds}")
    parser.add_argument("--seconds", type=int, help=f"length of a round; default: {_FULL.seconds}")
    parser.add_argument(
        "--warm-up",
        type=int,
        help=f"seconds of load before the rounds; default: {_FULL.warm_up}",
    )
    options = vars(parser.parse_args())
    plan = _QUICK if options.pop("quick") else _FULL
    return plan._replace(**{name: value for name, value in options.items() if value is not None})


def _on_postgresql(url: str) -> _Contestant:
    """Return the gateway on a PostgreSQL database. It does not open its file."""
    return _Contestant(
        "contact-gateway, PostgreSQL",
        lambda log, _file: _gateway_on(url, log),
        counter=lambda _file: database.postgresql_counter(url),
    )


def _measure(plan: _Plan, prepared: Prepared) -> _Results:
    results = _Results()
    rows = [
        (contestant, replace(operation, key=prepared.key))
        # Each operation with all its contestants, so that they are measured close in time.
        for operation in plan.operations
        for contestant in plan.contestants
        if operation in contestant.operations
    ]
    with ExitStack() as stack:
        for contestant in plan.contestants:
            for _ in range(plan.rounds):
                with _started(contestant, prepared) as (_, seconds_to_start):
                    results.starts.setdefault(contestant.name, []).append(seconds_to_start)
        running = {
            contestant.name: stack.enter_context(_started(contestant, prepared))[0]
            for contestant in plan.contestants
        }
        for contestant, operation in rows:
            send(operation, running[contestant.name].port, plan.warm_up)
            if not contestant.may_fail:
                check(operation, running[contestant.name].port)
        for _ in range(plan.rounds):
            for contestant, operation in rows:
                results.of(operation, contestant).rounds.append(
                    measure(
                        f"{contestant.name}, {operation.name}",
                        operation,
                        running[contestant.name],
                        plan.seconds,
                        contestant.counter(contestant.file(prepared)),
                        may_fail=contestant.may_fail,
                    )
                )
        for contestant, operation in rows:
            peak = running[contestant.name].memory_mb("VmHWM")
            results.of(operation, contestant).peak_memory_mb = peak
    return results


@contextmanager
def _started(contestant: _Contestant, prepared: Prepared) -> Iterator[tuple[Server, float]]:
    """Start a contestant over a new copy of the database."""
    file = prepared.copy(contestant.file(prepared).name)
    first = replace(contestant.operations[0], key=prepared.key)
    with started(contestant.start(LOGS / f"{contestant.slug}.log", file), first) as server:
        yield server


def _report(results: _Results) -> Iterator[str]:
    for name, rows in results.rows.items():
        yield f"#### {name}\n\n{figures(rows.values())}"
    head = ("", "compared with", "answers/s", "p99")
    yield f"#### Ratios by round\n\n{table(head, _comparisons(results))}"


def _comparisons(results: _Results) -> Iterator[tuple[str, str, str, str]]:
    """Yield a row for each operation and peer, with the gateway on SQLite to that peer."""
    for operation, rows in results.rows.items():
        ours = rows.get(_GATEWAY.name)
        for peer in rows.values():
            if ours is None or peer is ours:
                continue
            least_rate = _LEAST_RATES.get((operation, peer.name))
            most_p99 = 1 if peer.name == _MERCURIUS.name else None
            yield _row(operation, ours, peer, least_rate, most_p99)
    by_graphql, by_rest = (results.of(each, _GATEWAY) for each in _CREATIONS)
    rest = replace(by_rest, name=f"its own {_CREATIONS[1].name}")
    yield _row(_CREATIONS[0].name, by_graphql, rest, 0.8, None)


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
