"""`contact-gateway` in forks of a process that has imported it.

The imports take two seconds of CPU, three if coverage is measured: ten times what a gateway then
does to start. The parent process has no threads. It belongs to one test worker, and ends with it.
"""

import atexit
import fcntl
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Final, Self

_PROGRAM: Final = """
import sys
from contact_gateway import __main__, cli
sys.path.insert(0, sys.argv[2])
from support.forks import serve
del sys.path[0]
serve(int(sys.argv[1]))
sys.argv[0] = __main__.__file__
__main__.run()
"""
_NUMBER: Final = struct.Struct("i")
_MAX_DESCRIPTORS: Final = 8


class Fork:
    """A process that runs `contact-gateway`, with what tests use of `subprocess.Popen`.

    Args:
        arguments: of the command line.
        folder: the working directory.
        environment: all variables.
        stderr: receives standard error.
        listeners: file descriptors, which the process gets as from systemd.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        stderr: IO[str],
        listeners: Sequence[int] = (),
    ) -> None:
        self.args: Final = arguments
        self.returncode: int | None = None
        output, stdout = os.pipe()
        reading, status = os.pipe()
        self.stdout: Final = os.fdopen(output, encoding="utf-8")
        self._status: Final = os.fdopen(reading, "rb", buffering=0)
        with TemporaryFile() as request:
            request.write(json.dumps([list(arguments), str(folder), dict(environment)]).encode())
            request.flush()
            descriptors = (request.fileno(), stdout, stderr.fileno(), status, *listeners)
            # One byte is one request, however many are sent at once.
            socket.send_fds(_parent(), [b"."], descriptors)
        os.close(stdout)
        os.close(status)
        (self.pid,) = _NUMBER.unpack(self._status.read(_NUMBER.size))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stdout.close()
        self.wait()
        self._status.close()

    def poll(self) -> int | None:
        """Return the exit status, or None while the process runs."""
        return self._exit_status(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the process has ended; return its exit status."""
        status = self._exit_status(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return status

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask the process to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the process at once."""
        self.send_signal(signal.SIGKILL)

    def _exit_status(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            (self.returncode,) = _NUMBER.unpack(self._status.read(_NUMBER.size))
        return self.returncode


@cache
def _parent() -> socket.socket:
    """Return a socket of the parent process, which is started at the first call."""
    ours, theirs = socket.socketpair()
    tests = str(Path(__file__).parents[1])
    process = subprocess.Popen(
        (sys.executable, "-c", _PROGRAM, str(theirs.fileno()), tests),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        pass_fds=(theirs.fileno(),),
    )
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def serve(descriptor: int) -> None:
    """Fork a process for each request; return only in these, in the requested surroundings."""
    request, stdout, stderr, status, *listeners = _accept(descriptor)
    process = os.fork()
    if process != 0:
        # Waits in place of the parent, which serves the next request.
        os.write(status, _NUMBER.pack(process))
        _, ended = os.waitpid(process, 0)
        os.write(status, _NUMBER.pack(os.waitstatus_to_exitcode(ended)))
        os._exit(0)
    os.setsid()
    with os.fdopen(request, "rb") as file:
        file.seek(0)
        arguments, folder, environment = json.load(file)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    for each in (stdout, stderr, status):
        os.close(each)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if listeners:
        _pass_as_systemd(listeners)
    sys.argv[1:] = arguments


def _accept(descriptor: int) -> list[int]:
    """Return the file descriptors of a request, in a fork of its own."""
    with socket.socket(fileno=descriptor) as requests:
        while True:
            received, descriptors, *_ = socket.recv_fds(requests, 1, _MAX_DESCRIPTORS)
            _reap()
            if not received:
                sys.exit()
            if os.fork() == 0:
                return descriptors
            for each in descriptors:
                os.close(each)


def _pass_as_systemd(listeners: Sequence[int]) -> None:
    """Move the file descriptors to 3 and on, and announce them to this process."""
    moved = [fcntl.fcntl(each, fcntl.F_DUPFD, 100) for each in listeners]
    for each in listeners:
        os.close(each)
    for number, each in enumerate(moved, 3):
        os.dup2(each, number)
        os.close(each)
    os.environ["LISTEN_FDNAMES"] = ":".join("x" for _ in listeners)
    os.environ.setdefault("LISTEN_FDS", str(len(listeners)))
    os.environ.setdefault("LISTEN_PID", str(os.getpid()))


def _reap() -> None:
    """Let those processes go that have waited, with the CPU time of their forks."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
