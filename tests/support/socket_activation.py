"""Sockets passed to a gateway as systemd passes them."""

import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from support.gateway import Store
from support.process import GatewayProcess, gateway_process

SERVE = (sys.executable, "-m", "contact_gateway", "serve")
# Moves the descriptors of its first argument to 3 and on, and runs the other arguments, as systemd
# does: the id of the process is known only in it.
_AS_SYSTEMD = """
import fcntl, os, sys
passed = [fcntl.fcntl(int(each), fcntl.F_DUPFD, 100) for each in sys.argv[1].split(",")]
for number, each in enumerate(passed, 3):
    os.dup2(each, number)
os.environ["LISTEN_FDNAMES"] = ":".join("x" for _ in passed)
os.environ.setdefault("LISTEN_FDS", str(len(passed)))
os.environ.setdefault("LISTEN_PID", str(os.getpid()))
os.execv(sys.executable, sys.argv[2:])
"""


def as_systemd(*descriptors: int) -> tuple[str, ...]:
    """Return a command that serves on these descriptors."""
    listed = ",".join(map(str, descriptors))
    return (sys.executable, "-I", "-c", _AS_SYSTEMD, listed, *SERVE)


@contextmanager
def activated(
    folder: Path,
    *listeners: socket.socket,
    options: Sequence[str] = (),
    store: Store | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[GatewayProcess]:
    """Run the gateway on these sockets."""
    descriptors = [each.fileno() for each in listeners]
    with gateway_process(
        folder,
        *options,
        command=as_systemd(*descriptors),
        address=(),
        passed=descriptors,
        store=store,
        environment=environment,
    ) as process:
        yield process
