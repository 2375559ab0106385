"""This checkout and another commit, in interleaved rounds of one run.

Run it with `scripts/bench against REV`. Each round starts new servers of both commits. It measures
each operation on one right after the other, in an order that alternates by round, and compares
these pairs: most noise of a shared machine affects both and cancels out.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks import database, servers, store, upstream
from benchmarks.database import Prepared
from benchmarks.load import check, send
from benchmarks.measuring import Measured, Round, measure, started
from benchmarks.operations import Operation
from benchmarks.report import conditions, spread, table
from benchmarks.run import LOGS, commit, git, python, session
from benchmarks.servers import Server

_TOLERANCE: Final = 0.03

# A server and a function that counts the contacts created so far.
_Served = tuple[Server, Callable[[], int]]


@dataclass(frozen=True, slots=True)
class _Build:
    """An installed commit, the name of its files, and its figures by operation."""

    commit: str
    slug: str
    program: Path
    measured: dict[str, Measured] = field(default_factory=dict)

    def rounds(self, operation: Operation) -> list[Round]:
        """Return the rounds of an operation, to read or to append to."""
        return self.measured.setdefault(operation.name, Measured(operation.name)).rounds


@dataclass(frozen=True, slots=True)
class _Setup:
    """A way to serve a build, and the operations to measure there."""

    operations: Sequence[Operation]
    serve: Callable[[_Build], AbstractContextManager[_Served]]


@dataclass(frozen=True, slots=True)
class _Figure:
    """A figure to compare. `is_worse` judges the ratio of this checkout's to the other's."""

    name: str
    of: Callable[[Round], float]
    is_worse: Callable[[float], bool]


_FIGURES: Final = (
    _Figure("answers/s", lambda each: each.load.per_second, lambda ratio: ratio < 1 - _TOLERANCE),
    _Figure(
        "CPU µs per answer",
        lambda each: each.cpu_microseconds,
        lambda ratio: ratio > 1 + _TOLERANCE,
    ),
)


def main() -> None:
    """Measure, and print the ratios as markdown."""
    options = _options()
    with session(), tempfile.TemporaryDirectory(dir=LOGS) as folder, ExitStack() as stack:
        other = _install(options.revision, Path(folder) / "checkout")
        this = _Build(commit(), "this", servers.GATEWAY)
        setups = [*_setups(options.operations, other, Path(folder), stack)]
        _measure(setups, (this, other), options.rounds, options.seconds, options.warm_up)
    head = (
        f"This commit, {this.commit}, and the other, {other.commit}, on {python()}. "
        "The gateway on one core, the load and the upstream on another. "
        f"{conditions(options.rounds, options.seconds, options.warm_up)}"
    )
    sys.stdout.write(f"{head}\n\n{_report(this, other)}\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench against", description=__doc__)
    names = [*store.OPERATIONS, *upstream.OPERATIONS]
    parser.add_argument("revision", metavar="REV", help="a commit, best an ancestor of this one")
    parser.add_argument(
        "operations",
        nargs="*",
        metavar="OPERATION",
        help=f"{', '.join(names)}; without any, all those on the gateway's own store",
    )
    parser.add_argument(
        "--upstream", action="store_true", help="add the operations in front of an upstream API"
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=3, help="length of a measurement")
    parser.add_argument("--warm-up", type=int, default=1, help="seconds of load before each")
    options = parser.parse_intermixed_args()
    if unknown := set(options.operations).difference(names):
        parser.error(f"unknown operation {min(unknown)}; choose from {', '.join(names)}")
    options.operations = options.operations or [*store.OPERATIONS]
    if options.upstream:
        options.operations += upstream.OPERATIONS
    return options


def _install(revision: str, folder: Path) -> _Build:
    """Check a revision out and install it, with its own locked packages, on this Python."""
    sha = git("rev-parse", "--short", "--verify", f"{revision}^{{commit}}")
    sys.stderr.write(f"Installing {sha} ...\n")
    git("clone", "--quiet", "--shared", "--no-checkout", str(servers.ROOT), str(folder))
    git("-C", str(folder), "checkout", "--quiet", "--detach", sha)
    servers.output(
        str(folder / "scripts" / "environment"),
        *("--no-dev", "--inexact"),
        environment={**os.environ, "PYTHON": str(Path(sys.executable).resolve())},
    )
    program = folder / servers.GATEWAY.relative_to(servers.ROOT)
    return _Build(f"`{sha}`", "other", program)


def _setups(
    names: Sequence[str], other: _Build, folder: Path, stack: ExitStack
) -> Iterator[_Setup]:
    """Yield the setups of the named operations. The other, older commit makes the database."""
    if operations := [each for name, each in store.OPERATIONS.items() if name in names]:
        yield _store_setup(operations, database.prepare(folder, other.program))
    if operations := [each for name, each in upstream.OPERATIONS.items() if name in names]:
        api = stack.enter_context(servers.upstream(LOGS / "upstream.log"))
        yield _upstream_setup(operations, api)


def _store_setup(operations: Sequence[Operation], prepared: Prepared) -> _Setup:
    keyed = [replace(each, key=prepared.key) for each in operations]

    @contextmanager
    def serve(build: _Build) -> Iterator[_Served]:
        file = prepared.copy(f"{build.slug}.sqlite3")
        database.migrate(file, build.program)
        starting = store.gateway(LOGS / f"{build.slug}.log", file, build.program)
        with started(starting, keyed[0]) as (server, _):
            yield server, database.counter(file)

    return _Setup(keyed, serve)


def _upstream_setup(operations: Sequence[Operation], api: Server) -> _Setup:
    named = [replace(each, name=f"{each.name}, upstream API") for each in operations]
    created = upstream.counter(api)

    @contextmanager
    def serve(build: _Build) -> Iterator[_Served]:
        log = LOGS / f"{build.slug}-upstream.log"
        starting = upstream.gateway(log, api.port, build.program)
        with started(starting, named[0]) as (server, _):
            yield server, created

    return _Setup(named, serve)


def _measure(
    setups: Sequence[_Setup],
    builds: tuple[_Build, _Build],
    rounds: int,
    seconds: float,
    warm_up: float,
) -> None:
    for number in range(rounds):
        sys.stderr.write(f"Round {number + 1} of {rounds} ...\n")
        ordered = builds[:: -1 if number % 2 else 1]
        for setup in setups:
            with ExitStack() as stack:
                serving = [(build, *stack.enter_context(setup.serve(build))) for build in ordered]
                for operation in setup.operations:
                    for _, server, _ in serving:
                        check(operation, server.port)
                        send(operation, server.port, warm_up)
                    for build, server, created in serving:
                        name = f"{build.commit}, {operation.name}"
                        build.rounds(operation).append(
                            measure(name, operation, server, seconds, created)
                        )


def _report(this: _Build, other: _Build) -> str:
    def ratios(name: str, figure: _Figure) -> list[float]:
        return this.measured[name].ratios(other.measured[name], figure.of)

    def typical(name: str, figure: _Figure, build: _Build) -> str:
        return f"{median(figure.of(each) for each in build.measured[name].rounds):,.0f}"

    columns = [(figure, build) for figure in _FIGURES for build in (this, other)]
    head = (
        "",
        *(f"{figure.name}, this / other" for figure in _FIGURES),
        *(f"{figure.name}, {build.slug}" for figure, build in columns),
    )
    rows = (
        (
            name,
            *(spread(ratios(name, figure), 3) for figure in _FIGURES),
            *(typical(name, figure, build) for figure, build in columns),
        )
        for name in this.measured
    )
    slower = (
        [name for name in this.measured if figure.is_worse(median(ratios(name, figure)))]
        for figure in _FIGURES
    )
    verdict = (
        f"slower by more than {_TOLERANCE:.0%}",
        *("; ".join(names) or "none" for names in slower),
        *("" for _ in columns),
    )
    return table(head, (*rows, verdict))


if __name__ == "__main__":
    main()
