"""What is measured: which commit, and on which Python."""

import platform
import subprocess
import sys
from pathlib import Path

from benchmarks import servers


def python() -> str:
    """Return the version of Python and where it lies: how it was built matters by a sixth."""
    return f"Python {platform.python_version()} ({Path(sys.executable).resolve()})"


def commit() -> str:
    """Return the short name of the commit, and whether what is measured differs from it."""
    git = servers.tool("git", "git")

    def told(*words: str) -> str:
        return subprocess.run(  # noqa: S603 - git, with words from below
            (git, *words), cwd=servers.ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    changed = " with changes" if told("status", "--porcelain") else ""
    return f"`{told('rev-parse', '--short', 'HEAD')}`{changed}"
