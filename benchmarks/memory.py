"""The gateway's memory over a million creations and reads.

Run it with `scripts/bench memory`.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path

from benchmarks import database
from benchmarks.load import send
from benchmarks.measuring import started
from benchmarks.operations import Operation
from benchmarks.report import table
from benchmarks.run import LOGS, commit, python, session
from benchmarks.servers import BenchmarkError, Server
from benchmarks.store import OPERATIONS, gateway


def main() -> None:
    """Send the requests, and print the memory after each part of them."""
    parser = argparse.ArgumentParser(prog="scripts/bench memory", description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--parts", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=3, help="for each operation in turn")
    options = parser.parse_args()
    with session(), tempfile.TemporaryDirectory(dir=LOGS) as folder:
        prepared = database.prepare(Path(folder))
        operations = [replace(each, key=prepared.key) for each in OPERATIONS.values()]
        file = prepared.copy("gateway.sqlite3")
        with started(gateway(LOGS / "gateway.log", file), operations[0]) as (server, _):
            part = options.requests // options.parts
            rows = list(_parts(server, operations, options.parts, part, options.seconds))
    head = (
        f"contact-gateway at {commit()} on {python()}, the operations of `scripts/bench` in turn."
    )
    sys.stdout.write(f"{head}\n\n{table(('requests', 'memory MB'), rows)}\n")


def _parts(
    server: Server, operations: Sequence[Operation], parts: int, size: int, seconds: int
) -> Iterator[tuple[str, str]]:
    requests = 0
    yield "0", f"{server.memory_mb('VmRSS'):.0f}"
    turns = cycle(operations)
    for part in range(1, parts + 1):
        while requests < part * size:
            load = send(next(turns), server.port, seconds)
            if load.failures:
                raise BenchmarkError(f"{load.failures} failures. {load.failure}")
            requests += load.requests
        yield f"{requests:,}", f"{server.memory_mb('VmRSS'):.0f}"


if __name__ == "__main__":
    main()
