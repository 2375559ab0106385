"""The gateway as a user starts it: a process with a socket, standard output and a log."""

import mmap
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from threading import Timer
from typing import IO

import httpx
import pytest
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed
from typer.testing import Result

from support.clock import WATCHDOG_SECONDS
from support.databases import PREPARES_STATEMENTS
from support.forks import Fork
from support.gateway import Gateway, Store, gateway_of

Command = Callable[..., Result]

CONTACT_GATEWAY = (sys.executable, "-m", "contact_gateway")
SERVE = (*CONTACT_GATEWAY, "serve")
_FREE_PORT = ("--port", "0")
# No module that a fork has from its parent reads them.
_READ_AT_THE_START = ("CONTACT_GATEWAY_", "LISTEN_", "NOTIFY_SOCKET", "OTEL_")
_ANNOUNCED = re.compile(
    r"(?P<name>Listening|GraphQL|REST|Database|Admin key|Member key|Admin port) +"
    r"(?P<value>\S+(?:(?<=,) \S+)*)"
)


class GatewayProcess:
    """A process that serves."""

    def __init__(
        self,
        process: subprocess.Popen[str] | Fork,
        announced: Mapping[str, str],
        log_file: Path,
    ) -> None:
        self._process = process
        self._announced = announced
        self._log_file = log_file

    @property
    def address(self) -> str:
        return self._announced["GraphQL"].removesuffix("/graphql")

    @property
    def database(self) -> Path:
        return Path(self._announced["Database"])

    @property
    def listening(self) -> str:
        """The addresses, where there is not exactly one URL."""
        return self._announced["Listening"]

    @property
    def id(self) -> int:
        return self._process.pid

    @property
    def admin_key(self) -> str:
        return self._announced["Admin key"]

    @property
    def member_key(self) -> str:
        return self._announced["Member key"]

    def admin_client(self) -> httpx.Client:
        """Return a client of the health checks, on the admin port if there is one."""
        address = self._announced.get("Admin port", self.address)
        return httpx.Client(base_url=address, timeout=WATCHDOG_SECONDS, trust_env=False)

    def client(self, key: str | None = None) -> httpx.Client:
        """Return a client that presents a key. The caller closes it."""
        headers = {} if key is None else {"X-Api-Key": key}
        return httpx.Client(
            base_url=self.address, headers=headers, timeout=WATCHDOG_SECONDS, trust_env=False
        )

    @asynccontextmanager
    async def gateway(self, store: Store, *, keep_alive: bool = True) -> AsyncIterator[Gateway]:
        """Return a client of the process, with the contacts and keys of a store."""
        limits = httpx.Limits(max_keepalive_connections=None if keep_alive else 0)
        async with (
            httpx.AsyncClient(
                base_url=self.address, timeout=WATCHDOG_SECONDS, trust_env=False, limits=limits
            ) as client,
            gateway_of(client, store) as gateway,
        ):
            yield gateway

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def exit_status(self) -> int:
        """Wait until the process has ended; return its exit status."""
        return self._process.wait(WATCHDOG_SECONDS)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End the process with a signal; return its exit status."""
        self.send(number)
        return self.exit_status()

    def run(self, *arguments: str) -> None:
        """Run another command of `contact-gateway` in the same folder."""
        completed((*CONTACT_GATEWAY, *arguments), self._log_file.parent).check_returncode()

    def workers(self, count: int, without: int | None = None) -> list[int]:
        """Wait until there are so many workers; return their ids."""

        def running() -> list[int]:
            return [
                child
                for child in child_processes(self.id)
                if child != without and "spawn_main" in _command_of(child)
            ]

        return retry(
            stop=stop_after_delay(WATCHDOG_SECONDS),
            wait=wait_fixed(0.05),
            retry=retry_if_result(lambda found: len(found) != count),
        )(running)()

    def log(self) -> str:
        """Return the text that the process has written to standard error."""
        return self._log_file.read_text(encoding="utf-8")


@contextmanager
def gateway_process(
    folder: Path,
    *options: str,
    store: Store | None = None,
    environment: Mapping[str, str] | None = None,
    command: Sequence[str] = SERVE,
    address: Sequence[str] = _FREE_PORT,
    listeners: Sequence[int] = (),
) -> Iterator[GatewayProcess]:
    """Run `contact-gateway serve` in a folder, on a free port and on a store if there is one.

    It is a fork if nothing hinders it, and starts Python itself with another command, or with
    variables that are not the gateway's. A fork can get file descriptors as from systemd.
    """
    settings = {"CONTACT_GATEWAY_DATABASE_PREPARED_STATEMENTS": str(PREPARES_STATEMENTS)}
    if store is not None:
        settings["CONTACT_GATEWAY_DATABASE_URL"] = store.url
    log_file = folder / "stderr.log"
    with (
        log_file.open("w", encoding="utf-8") as log,
        _started(
            (*command, *address, *options),
            folder,
            settings | dict(environment or {}),
            log,
            listeners,
        ) as process,
    ):
        wanted = {"GraphQL", "REST", "Database"}
        if "--demo" in options:
            wanted |= {"Admin key", "Member key"}
        announced = _announcement(process, wanted)
        assert announced.keys() >= wanted, log_file.read_text(encoding="utf-8")
        yield GatewayProcess(process, announced, log_file)


def refused_start(
    folder: Path,
    *options: str,
    environment: Mapping[str, str] | None = None,
    command: Sequence[str] = SERVE,
    address: Sequence[str] = _FREE_PORT,
    listeners: Sequence[int] = (),
) -> subprocess.CompletedProcess[str]:
    """Run `contact-gateway serve` in a folder, where it ends with an error."""
    return completed((*command, *address, *options), folder, environment, listeners)


def completed(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str] | None = None,
    listeners: Sequence[int] = (),
) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder to its end, as `gateway_process` does."""
    with (
        TemporaryFile("w+", encoding="utf-8") as errors,
        _started(command, folder, environment or {}, errors, listeners) as process,
    ):
        assert process.stdout is not None
        with _watchdog(process):
            output = process.stdout.read()
        status = process.wait(WATCHDOG_SECONDS)
        errors.seek(0)
        return subprocess.CompletedProcess(command, status, output, errors.read())


def clean_environment() -> dict[str, str]:
    """Return this process's environment without the gateway's settings.

    Bytecode is written: without it, each process compiles all that it imports, for seconds.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith("CONTACT_GATEWAY_")
        and name not in {"HOST", "PORT", "NOTIFY_SOCKET", "PYTHONDONTWRITEBYTECODE"}
    }


def child_processes(process_id: int) -> list[int]:
    """Return the ids of a process's children."""
    children = Path(f"/proc/{process_id}/task/{process_id}/children")
    try:
        return [int(child) for child in children.read_text(encoding="ascii").split()]
    except FileNotFoundError:
        pytest.skip(f"{children} does not exist: the workers are not known")


def _command_of(process_id: int) -> str:
    try:
        return Path(f"/proc/{process_id}/cmdline").read_text(encoding="utf-8")
    except OSError:
        return ""


def resident_bytes(process: int | str = "self") -> int:
    """Return the resident memory of a process, or of this one."""
    statistics = Path(f"/proc/{process}/statm")
    try:
        pages = statistics.read_text(encoding="ascii").split()[1]
    except FileNotFoundError:
        pytest.skip(f"{statistics} does not exist: memory cannot be measured")
    return int(pages) * mmap.PAGESIZE


@contextmanager
def _started(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    log: IO[str],
    listeners: Sequence[int],
) -> Iterator[subprocess.Popen[str] | Fork]:
    with _process(command, folder, environment, log, listeners) as process:
        try:
            yield process
        finally:
            _end(process)


def _process(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    log: IO[str],
    listeners: Sequence[int],
) -> subprocess.Popen[str] | Fork:
    variables = {**clean_environment(), **environment}
    prefix = len(CONTACT_GATEWAY)
    # Modules that the parent has imported may have read other variables.
    is_own = all(name.startswith(_READ_AT_THE_START) for name in environment)
    if tuple(command[:prefix]) == CONTACT_GATEWAY and is_own:
        return Fork(command[prefix:], folder, variables, log, listeners)
    assert not listeners, "only a fork gets them"
    return subprocess.Popen(
        command,
        cwd=folder,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
        encoding="utf-8",
        start_new_session=True,
    )


def _announcement(process: subprocess.Popen[str] | Fork, wanted: set[str]) -> dict[str, str]:
    """Read standard output until everything is announced, or the process ends."""
    announced: dict[str, str] = {}
    assert process.stdout is not None
    with _watchdog(process):
        while not announced.keys() >= wanted and (line := process.stdout.readline()):
            match = _ANNOUNCED.match(line)
            if match is not None:
                announced[match["name"]] = match["value"]
    return announced


@contextmanager
def _watchdog(process: subprocess.Popen[str] | Fork) -> Iterator[None]:
    """Kill a silent process, which ends its output, and so the wait for it."""
    watchdog = Timer(WATCHDOG_SECONDS, process.kill)
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()


def _end(process: subprocess.Popen[str] | Fork) -> None:
    """End the process and its workers, in whatever state a failed test has left them."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(WATCHDOG_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
