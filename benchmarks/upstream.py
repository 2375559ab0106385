"""This gateway beside Hive Gateway, in front of one upstream, in interleaved rounds of one run.

Run it by `scripts/bench upstream`.
"""

import argparse
import itertools
import json
import operator
import re
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from benchmarks import hive, servers
from benchmarks.load import ask_once, send
from benchmarks.measuring import Aim, Measured, measure, started
from benchmarks.operations import CREATE_BY_REST
from benchmarks.provenance import commit, python
from benchmarks.report import figures, ratios, rounds_told
from benchmarks.results import LOGS, NODE, measuring
from benchmarks.rows import OURS, PEERS, Row
from benchmarks.servers import BenchmarkError, Server

_NO_LETTER: Final = re.compile("[^a-z]+")
_ROWS: Final = (*OURS, *PEERS)
_UPSTREAM_AT_LEAST: Final = 8_000
_AIMS: Final = {
    "answers/s": Aim(lambda each: each.load.per_second, operator.ge, 3),
    "p99": Aim(lambda each: each.load.p99_ms, operator.le, 1),
    "memory": Aim(lambda each: each.memory_mb, operator.le, 1 / 3),
}


def main() -> None:
    """Measure, and print what was measured as markdown."""
    parser = argparse.ArgumentParser(prog="scripts/bench upstream", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=6, help="of each round")
    parser.add_argument("--warm-up", type=int, default=10, help="seconds of load before them")
    options = parser.parse_args()
    with measuring(also=NODE):
        hive.prepare()
        compared = (
            f"contact-gateway at {commit()} on {python()}, "
            f"{hive.description()}. The gateway on one core, the load and the upstream on another."
        )
        gateways, alone = _measure(options.rounds, options.seconds, options.warm_up)
    ours, peers = gateways[: len(OURS)], gateways[len(OURS) :]
    told = (
        f"{compared} {rounds_told(options.rounds, options.seconds, options.warm_up)}",
        figures((*gateways, alone)),
        *(ratios(ours, peer, _AIMS) for peer in peers),
    )
    sys.stdout.write("\n\n".join(told) + "\n")


def _measure(rounds: int, seconds: float, warm_up: float) -> tuple[list[Measured], Measured]:
    """Return what was measured of each row, and of the upstream without a gateway."""
    gateways, alone = [Measured(row.name) for row in _ROWS], Measured("the upstream alone, REST")
    with ExitStack() as stack:
        upstream = stack.enter_context(servers.upstream(LOGS / "upstream.log"))
        created = _counter(upstream)
        alone.rounds.append(measure(alone.name, CREATE_BY_REST, upstream, seconds, created))
        if alone.rounds[0].load.per_second < _UPSTREAM_AT_LEAST:
            raise BenchmarkError("The upstream is too slow here to compare gateways with.")
        for row, measured in zip(_ROWS, gateways, strict=True):
            measured.starts = [_seconds_to_start(row, upstream) for _ in range(rounds)]
        running = [
            stack.enter_context(started(row.start(_log(row), upstream.port), row.operation))[0]
            for row in _ROWS
        ]
        for row, server in zip(_ROWS, running, strict=True):
            send(row.operation, server.port, warm_up)
        for _ in range(rounds):
            for row, server, measured in zip(_ROWS, running, gateways, strict=True):
                measured.rounds.append(measure(row.name, row.operation, server, seconds, created))
        for server, measured in zip((*running, upstream), (*gateways, alone), strict=True):
            measured.most_memory_mb = server.memory_mb("VmHWM")
    return gateways, alone


def _seconds_to_start(row: Row, upstream: Server) -> float:
    with started(row.start(_log(row), upstream.port), row.operation) as (_, seconds):
        return seconds


def _counter(upstream: Server) -> Callable[[], int]:
    """Return what tells how many contacts were created upstream, by creating another."""
    own = itertools.count(1)

    def created() -> int:
        newest = json.loads(ask_once(CREATE_BY_REST, upstream.port))["data"]["id"]
        return int(newest) - next(own)

    return created


def _log(row: Row) -> Path:
    return LOGS / f"{_NO_LETTER.sub('-', row.name.lower())}.log"


if __name__ == "__main__":
    main()
