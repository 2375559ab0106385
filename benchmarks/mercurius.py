"""Mercurius, the peer: how it is installed and started. Its files are in `mercurius/`."""

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from benchmarks import node, servers
from benchmarks.servers import Launch, Server

_FOLDER: Final = Path(__file__).with_name("mercurius")


def prepare() -> None:
    """Install what the lock file says, unless it is there."""
    node.install(_FOLDER)


def start(log: Path, database: Path) -> AbstractContextManager[Server]:
    """Start it over a database file."""
    port = servers.free_port()
    settings = {
        "NODE_ENV": "production",
        "PORT": str(port),
        "DATABASE": str(database),
        "RATE_LIMIT_PER_HOUR": str(servers.UNREACHED_RATE_LIMIT),
    }
    command = (node.systems_node(), "server.js")
    return servers.running(Launch(command, port, log, folder=_FOLDER, settings=settings))


def description() -> str:
    """Return its name and version, and those of what it is made of."""
    dependencies: dict[str, str] = json.loads(
        (_FOLDER / "package.json").read_text(encoding="utf-8")
    )["dependencies"]
    versions = ", ".join(f"{name} {version}" for name, version in dependencies.items())
    return f"{versions} on Node {node.version(node.systems_node())}"
