"""Where a run keeps its servers' logs, and how it begins and ends."""

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks import servers
from benchmarks.servers import BenchmarkError

LOGS: Final = Path(__file__).with_name("results")
NODE: Final = (("node", "nodejs"), ("npm", "npm"))
"""Programs that peers on Node need, with Debian's packages of them."""

_PROGRAMS: Final = (("wrk", "wrk"), ("taskset", "util-linux"), ("git", "git"))


@contextmanager
def measuring(also: Sequence[tuple[str, str]] = ()) -> Iterator[None]:
    """Measure in the block, from the load's core, with logs of this run alone.

    Args:
        also: further programs that are needed, with Debian's packages of them.

    Ends the process with a sentence where a program is missing, or the run is worth nothing.
    """
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir()
    try:
        servers.pin_here(servers.LOAD_CORE)
        for program, package in (*_PROGRAMS, *also):
            servers.tool(program, package)
        yield
    except BenchmarkError as error:
        sys.exit(f"{error}\nLogs of servers, if any, are in {LOGS.relative_to(servers.ROOT)}.")
