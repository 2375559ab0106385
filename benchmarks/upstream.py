"""This gateway beside Hive Gateway, in front of one upstream, in interleaved rounds of one run.

Run it by `scripts/bench upstream`.
"""

import argparse
import re
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from benchmarks import hive, servers
from benchmarks.load import send
from benchmarks.measuring import Measured, measure, started
from benchmarks.report import conditions, report
from benchmarks.rows import OURS, PEERS, REST, Row
from benchmarks.servers import BenchmarkError

_LOGS: Final = Path(__file__).with_name("results")
_PROGRAMS: Final = (
    ("wrk", "wrk"),
    ("taskset", "util-linux"),
    ("git", "git"),
    ("node", "nodejs"),
    ("npm", "npm"),
)
_NO_LETTER: Final = re.compile("[^a-z]+")
_ROWS: Final = (*OURS, *PEERS)
_UPSTREAM_AT_LEAST: Final = 8_000


def main() -> None:
    """Measure, and print what was measured as markdown."""
    parser = argparse.ArgumentParser(prog="scripts/bench upstream", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6, help="of each round")
    parser.add_argument("--warm-up", type=float, default=10, help="seconds of load before them")
    options = parser.parse_args()
    shutil.rmtree(_LOGS, ignore_errors=True)
    try:
        servers.pin_here(servers.LOAD_CORE)
        for program, package in _PROGRAMS:
            servers.tool(program, package)
        hive.prepare()
        head = conditions(options)
        gateways, alone = _measure(options.rounds, options.seconds, options.warm_up)
    except BenchmarkError as error:
        sys.exit(f"{error}\nLogs of servers, if any, are in {_LOGS.relative_to(servers.ROOT)}.")
    ours, peers = gateways[: len(OURS)], gateways[len(OURS) :]
    sys.stdout.write(report(head, ours, peers, alone))


def _measure(rounds: int, seconds: float, warm_up: float) -> tuple[list[Measured], Measured]:
    """Return what was measured of each row, and of the upstream without a gateway."""
    _LOGS.mkdir()
    gateways, alone = [Measured(row.name) for row in _ROWS], Measured("the upstream alone, REST")
    with ExitStack() as stack:
        upstream = stack.enter_context(servers.upstream(_LOGS / "upstream.log"))
        alone.rounds.append(measure(alone.name, REST, upstream, upstream, seconds))
        if alone.rounds[0].load.per_second < _UPSTREAM_AT_LEAST:
            raise BenchmarkError("The upstream is too slow here to compare gateways with.")
        for _ in range(rounds):
            for row, measured in zip(_ROWS, gateways, strict=True):
                with started(row, _log(row), upstream) as (_, seconds_to_start):
                    measured.starts.append(seconds_to_start)
        running = [stack.enter_context(started(row, _log(row), upstream))[0] for row in _ROWS]
        for row, server in zip(_ROWS, running, strict=True):
            send(row.creation, server.port, warm_up)
        for _ in range(rounds):
            for row, server, measured in zip(_ROWS, running, gateways, strict=True):
                measured.rounds.append(measure(row.name, row.creation, server, upstream, seconds))
        for server, measured in zip((*running, upstream), (*gateways, alone), strict=True):
            measured.most_memory_mb = server.memory_mb("VmHWM")
    return gateways, alone


def _log(row: Row) -> Path:
    return _LOGS / f"{_NO_LETTER.sub('-', row.name.lower())}.log"


if __name__ == "__main__":
    main()
