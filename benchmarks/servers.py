"""Servers as processes of their own: pinned to a core, waited for, read, and stopped."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PYTHON: Final = ROOT / ".venv" / "bin" / "python"
GATEWAY_CORE: Final = 0
LOAD_CORE: Final = 1
UNREACHED_RATE_LIMIT: Final = 1_000_000_000
"""Operations are counted, and nobody makes so many in an hour."""

_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_STARTS_WITHIN_SECONDS: Final = 60
_STOPS_WITHIN_SECONDS: Final = 30


class BenchmarkError(Exception):
    """The run is worth nothing. The message says why."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How a server is started. What it prints goes into the log."""

    command: Sequence[str]
    port: int
    log: Path
    core: int = GATEWAY_CORE
    folder: Path = ROOT
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Server:
    """A running server, seen from outside."""

    process: subprocess.Popen[bytes]
    port: int
    started_at: float

    @property
    def age(self) -> float:
        """Return how many seconds ago it was started."""
        return time.perf_counter() - self.started_at

    def check_alive(self) -> None:
        """Raise a BenchmarkError where it has ended."""
        if self.process.poll() is not None:
            raise BenchmarkError(f"a server has ended, which was {self.process.args!r}")

    def cpu_seconds(self) -> float:
        """Return the time that all its threads have had a core."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8")
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / _TICKS_PER_SECOND

    def memory_mb(self, measure: str) -> float:
        """Return a measure of its memory, `VmRSS` for now's or `VmHWM` for the most there was."""
        for line in (
            Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8").splitlines()
        ):
            name, _, value = line.partition(":")
            if name == measure:
                return int(value.split()[0]) / 1024
        raise BenchmarkError(f"process {self.process.pid} has no {measure}")


@contextmanager
def running(launch: Launch) -> Iterator[Server]:
    """Run a server until the end of the block."""
    pinned = (tool("taskset", "util-linux"), "--cpu-list", str(launch.core), *launch.command)
    environment = {**os.environ, **launch.settings}
    with launch.log.open("ab") as log:
        started_at = time.perf_counter()
        process = subprocess.Popen(  # noqa: S603 - the commands are the benchmarks' own
            pinned, cwd=launch.folder, env=environment, stdout=log, stderr=log
        )
        try:
            yield Server(process, launch.port, started_at)
        finally:
            _stop(process)


@contextmanager
def upstream(log: Path) -> Iterator[Server]:
    """Run the upstream on the load's core, and wait until it listens."""
    port = free_port()
    command = (str(PYTHON), "-m", "benchmarks.upstream_server", str(port))
    with running(Launch(command, port, log, core=LOAD_CORE)) as server:
        _wait_for_port(server)
        yield server


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def tool(name: str, package: str) -> str:
    """Return where a program is.

    Raises:
        BenchmarkError: it is not there.
    """
    path = shutil.which(name)
    if path is None:
        raise BenchmarkError(f"{name} is missing: install Debian's package {package}.")
    return path


def pin_here(core: int) -> None:
    """Keep this process, and what it starts without a word of its own, on one core."""
    if (os.cpu_count() or 1) <= max(GATEWAY_CORE, LOAD_CORE):
        raise BenchmarkError("Two cores are needed: one for what is measured, one for the rest.")
    os.sched_setaffinity(0, {core})


def _wait_for_port(server: Server) -> None:
    while time.perf_counter() - server.started_at < _STARTS_WITHIN_SECONDS:
        try:
            socket.create_connection(("127.0.0.1", server.port), timeout=1).close()
        except OSError:
            time.sleep(0.002)
        else:
            return
    raise BenchmarkError(f"nothing listens on port {server.port}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOPS_WITHIN_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
