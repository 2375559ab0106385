"""One run of a benchmark: its logs, the programs that it needs, its commit and its Python."""

import platform
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks import servers
from benchmarks.servers import BenchmarkError

LOGS: Final = Path(__file__).with_name("results")
_PROGRAMS: Final = (("wrk", "wrk"), ("taskset", "util-linux"), ("git", "git"))


@contextmanager
def session(requires: Sequence[tuple[str, str]] = ()) -> Iterator[None]:
    """Run the block on the load's core, with an empty folder for logs.

    Exits with a message if a program is missing or the run is invalid.

    Args:
        requires: further programs, each with its Debian package.
    """
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir()
    # So that a run that is stopped stops its servers and removes its files.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    try:
        servers.pin_here(servers.LOAD_CORE)
        for program, package in (*_PROGRAMS, *requires):
            servers.tool(program, package)
        yield
    except BenchmarkError as error:
        sys.exit(f"{error}\nThe servers' logs are in {LOGS.relative_to(servers.ROOT)}.")


def commit() -> str:
    """Return the short hash of the commit, and whether the checkout has changes."""
    changes = " with changes" if git("status", "--porcelain") else ""
    return f"`{git('rev-parse', '--short', 'HEAD')}`{changes}"


def git(*words: str) -> str:
    """Run git in this checkout and return what it prints."""
    return servers.output(servers.tool("git", "git"), *words).strip()


def python() -> str:
    """Return the version and path of Python: two builds of one version differ by up to a fifth."""
    return f"Python {platform.python_version()} ({Path(sys.executable).resolve()})"
