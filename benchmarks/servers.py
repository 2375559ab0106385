"""Server processes: start one on a core, read its CPU time and memory, stop it."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PYTHON: Final = ROOT / ".venv" / "bin" / "python"
GATEWAY: Final = PYTHON.with_name("contact-gateway")
GATEWAY_CORE: Final = 0
LOAD_CORE: Final = 1
HIGH_RATE_LIMIT: Final = 1_000_000_000
"""An hourly limit that no run reaches: operations are counted, and none is refused."""

_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_START_TIMEOUT_SECONDS: Final = 60
_STOP_TIMEOUT_SECONDS: Final = 30


class BenchmarkError(Exception):
    """The run is invalid. The message says why."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a server. Its output goes to the log."""

    command: Sequence[str]
    port: int
    log: Path
    core: int = GATEWAY_CORE
    folder: Path = ROOT
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Server:
    """A running server process."""

    process: subprocess.Popen[bytes]
    port: int
    started_at: float

    @property
    def age(self) -> float:
        """Return the seconds since the start."""
        return time.perf_counter() - self.started_at

    def check_alive(self) -> None:
        """Raise a BenchmarkError if the process has ended."""
        if self.process.poll() is not None:
            raise BenchmarkError(f"The server has ended: {self.process.args!r}")

    def cpu_seconds(self) -> float:
        """Return the CPU time of all threads."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8")
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / _TICKS_PER_SECOND

    def memory_mb(self, measure: str) -> float:
        """Return the resident memory: `VmRSS` is the current value, `VmHWM` the peak."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        for line in status.splitlines():
            name, _, value = line.partition(":")
            if name == measure:
                return int(value.split()[0]) / 1024
        raise BenchmarkError(f"Process {self.process.pid} has no {measure}.")


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
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def limited(server: Server, percent: int) -> Iterator[None]:
    """Give a server at most a part of a core: it is stopped in between, some times a second."""
    command = (tool("cpulimit", "cpulimit"), "--pid", str(server.process.pid))
    with subprocess.Popen(  # noqa: S603 - the command is the benchmarks' own
        (*command, "--limit", str(percent)), stdout=subprocess.DEVNULL
    ) as limiter:
        try:
            yield
        finally:
            # It continues the server.
            limiter.send_signal(signal.SIGINT)


def gateway(
    log: Path, settings: Mapping[str, str], program: Path = GATEWAY
) -> AbstractContextManager[Server]:
    """Run contact-gateway with these settings, in the folder of its log."""
    port = free_port()
    command = (str(program), "serve", "--port", str(port))
    return running(Launch(command, port, log, folder=log.parent, settings=settings))


@contextmanager
def upstream(log: Path) -> Iterator[Server]:
    """Run the upstream API on the load's core, and wait until it listens."""
    port = free_port()
    command = (str(PYTHON), "-m", "benchmarks.upstream_server", str(port))
    with running(Launch(command, port, log, core=LOAD_CORE)) as server:
        _wait_for_port(server)
        yield server


def free_port() -> int:
    """Return an unused port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def tool(name: str, package: str) -> str:
    """Return the path of a program of a Debian package.

    Raises:
        BenchmarkError: it is not installed.
    """
    path = shutil.which(name)
    if path is None:
        raise BenchmarkError(f"{name} is missing. Install Debian's package {package}.")
    return path


def output(*command: str, folder: Path = ROOT, environment: Mapping[str, str] | None = None) -> str:
    """Run a command and return what it prints.

    Raises:
        BenchmarkError: it fails.
    """
    done = subprocess.run(  # noqa: S603 - the commands are the benchmarks' own
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        shown = " ".join(Path(word).name for word in command)
        raise BenchmarkError(f"{shown} failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def pin_here(core: int) -> None:
    """Pin this process, and the child processes that choose no core, to one core."""
    if (os.cpu_count() or 1) <= max(GATEWAY_CORE, LOAD_CORE):
        raise BenchmarkError("A benchmark needs two cores: one for the server, one for the load.")
    os.sched_setaffinity(0, {core})


def _wait_for_port(server: Server) -> None:
    while server.age < _START_TIMEOUT_SECONDS:
        try:
            socket.create_connection(("127.0.0.1", server.port), timeout=1).close()
        except OSError:
            time.sleep(0.002)
        else:
            return
    raise BenchmarkError(f"Nothing listens on port {server.port}.")
