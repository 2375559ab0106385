"""systemd's protocols for services: the sockets that it passes, and the states it is sent.

Sources: sd_listen_fds(3) and sd_notify(3).
"""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from typing import Final

from contact_gateway.server.listeners import AddressError

_FIRST_DESCRIPTOR: Final = 3
_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)

_log = logging.getLogger(__name__)


class State(StrEnum):
    """The states of a service with `Type=notify`."""

    READY = "READY=1"
    STOPPING = "STOPPING=1"


@contextmanager
def passed_listeners() -> Iterator[tuple[socket.socket, ...]]:
    """Yield the listening sockets that systemd has passed to this process, which may be none.

    The variables that describe them are removed, so that no child takes them for its own.

    Raises:
        AddressError: what was passed is not a listening socket.
    """
    process_id, count, *_ = [
        os.environ.pop(name, "")
        for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
    ]
    # A process that was started by a service inherits the variables, but not the sockets.
    is_ours = process_id == str(os.getpid()) and count.isdecimal()
    with ExitStack() as stack:
        yield tuple(
            stack.enter_context(_listener(_FIRST_DESCRIPTOR + number))
            for number in range(int(count) if is_ours else 0)
        )


def _listener(descriptor: int) -> socket.socket:
    try:
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - as in `os`
        passed = socket.socket(fileno=descriptor)
    except OSError:
        raise _not_a_listener(descriptor) from None
    is_listening = passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if passed.family not in _FAMILIES or passed.type is not socket.SOCK_STREAM or not is_listening:
        passed.close()
        raise _not_a_listener(descriptor)
    return passed


def _not_a_listener(descriptor: int) -> AddressError:
    return AddressError(
        f"file descriptor {descriptor} is not a listening stream socket. "
        "In the socket unit, use ListenStream= and Accept=no"
    )


def notify(state: State) -> None:
    """Send a state to the service manager, if it waits for one."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        # The name of an abstract socket begins with a NUL character.
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(state.encode(), address)
    except OSError as error:
        _log.warning("cannot send %s to NOTIFY_SOCKET: %s", state, error.strerror or error)
