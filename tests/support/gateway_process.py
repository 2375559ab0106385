"""The gateway as a user starts it: a process of its own, with a socket and two streams."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import IO

import httpx
from typer.testing import Result

Command = Callable[..., Result]

_CONTACT_GATEWAY = (sys.executable, "-m", "contact_gateway")
_STARTS_WITHIN_SECONDS = 60
_STOPS_WITHIN_SECONDS = 30
_ANNOUNCED = re.compile(r"(?P<what>GraphQL|REST|Admin key|Member key) +(?P<value>\S+)")


class GatewayProcess:
    """A process that serves, what it announced, and what it has logged."""

    def __init__(
        self, process: subprocess.Popen[str], announced: Mapping[str, str], log_file: Path
    ) -> None:
        self._process = process
        self._announced = announced
        self._log_file = log_file

    @property
    def address(self) -> str:
        return self._announced["GraphQL"].removesuffix("/graphql")

    @property
    def id(self) -> int:
        """Return the process's id."""
        return self._process.pid

    @property
    def admin_key(self) -> str:
        return self._announced["Admin key"]

    @property
    def member_key(self) -> str:
        return self._announced["Member key"]

    def client(self, key: str | None = None) -> httpx.Client:
        """Return a client that presents a key; to be closed by the caller."""
        headers = {} if key is None else {"X-Api-Key": key}
        return httpx.Client(base_url=self.address, headers=headers, timeout=20, trust_env=False)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def exit_status(self) -> int:
        """Wait for the process's end."""
        return self._process.wait(_STOPS_WITHIN_SECONDS)

    def run(self, *arguments: str) -> None:
        """Run another command of the gateway's in the same folder."""
        subprocess.run(
            (*_CONTACT_GATEWAY, *arguments),
            cwd=self._log_file.parent,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_STARTS_WITHIN_SECONDS,
            check=True,
        )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask the process to end, and return its exit status."""
        self.send(number)
        return self.exit_status()

    def log(self) -> str:
        """Return what the process has written to standard error."""
        return self._log_file.read_text(encoding="utf-8")


@contextmanager
def gateway_process(
    folder: Path,
    *options: str,
    environment: Mapping[str, str] | None = None,
    command: Sequence[str] = (*_CONTACT_GATEWAY, "serve"),
) -> Iterator[GatewayProcess]:
    """Start `contact-gateway serve` in a folder, on a free port, and wait for its announcement."""
    log_file = folder / "stderr.log"
    with (
        log_file.open("w", encoding="utf-8") as log,
        _started((*command, "--port", "0", *options), folder, environment or {}, log) as process,
    ):
        wanted = {"GraphQL", "REST"}
        if "--demo" in options:
            wanted |= {"Admin key", "Member key"}
        announced = _announcement(process, wanted)
        assert announced.keys() >= wanted, log_file.read_text(encoding="utf-8")
        yield GatewayProcess(process, announced, log_file)


def refused_start(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run `contact-gateway serve` in a folder, on a free port, where it will not start."""
    return subprocess.run(
        (*_CONTACT_GATEWAY, "serve", "--port", "0", *options),
        cwd=folder,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=_STARTS_WITHIN_SECONDS,
        check=False,
    )


@contextmanager
def _started(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], log: IO[str]
) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**clean_environment(), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
        encoding="utf-8",
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            _end(process)


def clean_environment() -> dict[str, str]:
    """Return this process's environment without the gateway's settings.

    Bytecode may be kept: without it each process compiles all that it imports, for seconds.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith("CONTACT_GATEWAY_") and name != "PYTHONDONTWRITEBYTECODE"
    }


def _announcement(process: subprocess.Popen[str], wanted: set[str]) -> dict[str, str]:
    """Read standard output until all is announced, or it ends."""
    announced: dict[str, str] = {}
    assert process.stdout is not None
    # A process that says nothing is killed; then its output ends, and so does the wait.
    watchdog = Timer(_STARTS_WITHIN_SECONDS, process.kill)
    watchdog.start()
    try:
        while not announced.keys() >= wanted and (line := process.stdout.readline()):
            match = _ANNOUNCED.match(line)
            if match is not None:
                announced[match["what"]] = match["value"]
    finally:
        watchdog.cancel()
    return announced


def _end(process: subprocess.Popen[str]) -> None:
    """End the process, its workers too, whatever state a failed test has left it in."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_STOPS_WITHIN_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
