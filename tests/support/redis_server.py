"""A real server of Redis's protocol, on a free port of this machine."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from support.missing_programs import cannot_be_run

COMMAND = shutil.which("redis-server") or shutil.which("valkey-server")


@contextmanager
def redis_server(folder: Path, port: int | None = None) -> Iterator[int]:
    """Run one that keeps nothing; yield its port."""
    if COMMAND is None:
        cannot_be_run("there is no redis-server on the PATH to share rate limits by")
    number = port or _free_port()
    options = ["--port", str(number), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with subprocess.Popen([COMMAND, *options], stdout=subprocess.DEVNULL) as process:
        try:
            _wait_for(number)
            yield number
        finally:
            process.terminate()


def _free_port() -> int:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@retry(
    retry=retry_if_exception_type(ConnectionRefusedError),
    wait=wait_fixed(0.02),
    stop=stop_after_delay(20),
    reraise=True,
)
def _wait_for(port: int) -> None:
    socket.create_connection(("127.0.0.1", port)).close()
