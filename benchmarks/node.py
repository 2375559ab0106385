"""Peers that run on Node: what runs them, and how their packages are installed."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks import servers
from benchmarks.servers import BenchmarkError


def install(folder: Path, *options: str) -> None:
    """Install what a folder's lock file says, unless it is there."""
    modules, lock = folder / "node_modules", folder / "package-lock.json"
    installed = modules / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        run(folder, servers.tool("npm", "npm"), "ci", "--no-audit", "--no-fund", *options)
        installed.touch()


def systems_node() -> str:
    """Return the Node that is installed."""
    return servers.tool("node", "nodejs")


def version(node: str) -> str:
    """Return the version of a Node, as `v20.1.0`."""
    return run(servers.ROOT, node, "--version").strip()


def run(folder: Path, *command: str) -> str:
    """Run a command to its end, and return what it prints.

    Raises:
        BenchmarkError: it fails.
    """
    done = subprocess.run(  # noqa: S603 - the commands are the benchmarks' own
        command, cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BenchmarkError(f"{_told(command)} failed: {done.stderr or done.stdout}")
    return done.stdout


def _told(command: Sequence[str]) -> str:
    return " ".join(Path(word).name for word in command)
