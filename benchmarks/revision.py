"""Which commit is measured."""

import subprocess

from benchmarks import servers


def commit() -> str:
    """Return the short name of the commit, and whether what is measured differs from it."""
    git = servers.tool("git", "git")

    def told(*words: str) -> str:
        return subprocess.run(  # noqa: S603 - git, with words from below
            (git, *words), cwd=servers.ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    changed = " with changes" if told("status", "--porcelain") else ""
    return f"`{told('rev-parse', '--short', 'HEAD')}`{changed}"
