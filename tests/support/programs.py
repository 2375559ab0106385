"""Programs from outside Python: npm packages, and a Redis server."""

import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final, NoReturn

import pytest
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from support.clock import WATCHDOG_SECONDS

_UNASSIGNED_PORTS: Final = range(20_000, 32_000)
_REDIS_SERVER = shutil.which("redis-server") or shutil.which("valkey-server")


def skip_or_fail(reason: str) -> NoReturn:
    """Skip the test, or fail it where CI=true: there every program must be installed."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must run this test: {reason}")
    pytest.skip(reason)


def node_with_packages(source: Path, folder: Path) -> str:
    """Copy a folder with a `package-lock.json`, install its packages; return the path of Node."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        skip_or_fail("node or npm is not installed")
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("node_modules"))
    # npm caches packages, so only the first run needs the registry.
    options = ("--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund")
    installed = subprocess.run(
        (npm, "ci", *options),
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        timeout=WATCHDOG_SECONDS,
        check=False,
    )
    if installed.returncode != 0:
        skip_or_fail(f"npm cannot install the packages of {source}: {installed.stderr.strip()}")
    return node


@contextmanager
def redis_server(folder: Path, port: int | None = None) -> Iterator[int]:
    """Run a Redis server without persistence; yield its port."""
    if _REDIS_SERVER is None:
        skip_or_fail("redis-server is not installed")
    number = port or free_port()
    options = ["--port", str(number), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with subprocess.Popen([_REDIS_SERVER, *options], stdout=subprocess.DEVNULL) as process:
        try:
            _wait_for(number)
            yield number
        finally:
            process.terminate()


def free_port() -> int:
    """Return a port that is not in use.

    It is below those that systems hand out themselves (32768 and on in Linux, 49152 in others), so
    no other connection takes it before the program listens on it.
    """
    while True:
        # pytest-randomly gives `random` the same seed in each process.
        port = secrets.choice(_UNASSIGNED_PORTS)
        with closing(socket.socket()) as taken, suppress(OSError):
            taken.bind(("127.0.0.1", port))
            return port


@retry(
    retry=retry_if_exception_type(ConnectionRefusedError),
    wait=wait_fixed(0.02),
    stop=stop_after_delay(WATCHDOG_SECONDS),
    reraise=True,
)
def _wait_for(port: int) -> None:
    socket.create_connection(("127.0.0.1", port)).close()
