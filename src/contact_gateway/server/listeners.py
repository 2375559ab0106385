"""The sockets that the server accepts connections on: on TCP addresses, and Unix sockets."""

import errno
import os
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv6Address
from pathlib import Path
from typing import Final

UNREAD_TIMEOUT_SECONDS: Final = 60
"""A connection is closed if its client reads nothing of a response for this time."""

_BACKLOG: Final = 2048
# Mode 0660: the group lets the proxy connect, and no other user can write `X-Forwarded-For`.
_UMASK_OF_UNIX_SOCKETS: Final = 0o117


class AddressError(OSError):
    """The server cannot listen on this address. The message names it and says why."""


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 selects a free port, `::` listens on IPv4 too.

    Raises:
        AddressError: the address is in use, invalid or not of this machine.
    """
    host = host.removeprefix("[").removesuffix("]")
    try:
        # `create_server` raises a TypeError for an invalid name, and leaves its socket open.
        host.encode("idna")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server(
            (host, port),
            family=family,
            backlog=_BACKLOG,
            dualstack_ipv6=_is_unspecified(host) and socket.has_dualstack_ipv6(),
        )
    except UnicodeError:
        raise AddressError(f"cannot listen on {host}:{port}: not a host name") from None
    except OverflowError:
        raise AddressError(f"cannot listen on {host}:{port}: no such port") from None
    except OSError as error:
        reason = _reason_of(error, "port")
        raise AddressError(f"cannot listen on {host}:{port}: {reason}") from None


def _reason_of(error: OSError, other: str) -> str:
    """Return why an address cannot be used, and what `other` to choose if it is in use."""
    # `create_server` repeats the address in its message. `os.strerror` knows no failed lookup,
    # whose number is negative. Python's own errors, such as that of a long path, have none.
    reason = (error.strerror or str(error)).partition(" (while ")[0]
    if error.errno == errno.EADDRINUSE:
        reason += f". Stop the process that listens on it, or choose another {other}"
    return reason


def _is_unspecified(host: str) -> bool:
    try:
        return IPv6Address(host).is_unspecified
    except ValueError:
        return False


@contextmanager
def listen_on_unix_socket(path: Path) -> Iterator[socket.socket]:
    """Yield a listening Unix socket for the process's user and group; remove it at the end.

    A socket on which no process listens is replaced: a process that was killed has left it.

    Raises:
        AddressError: the path is in use, or a socket cannot be created there.
    """
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            _remove_abandoned(path)
            # The permissions hold from the first moment.
            earlier = os.umask(_UMASK_OF_UNIX_SOCKETS)
            try:
                listener.bind(os.fspath(path))
            finally:
                os.umask(earlier)
            listener.listen(_BACKLOG)
            created = path.lstat()
        except OSError as error:
            raise AddressError(f"cannot listen on {path}: {_reason_of(error, 'path')}") from None
        try:
            yield listener
        finally:
            listener.close()
            # Another process may have replaced the socket since this one stopped listening.
            with suppress(OSError):
                if os.path.samestat(path.lstat(), created):
                    path.unlink()


def _remove_abandoned(path: Path) -> None:
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OSError("it exists and is not a socket")
        with socket.socket(socket.AF_UNIX) as probe:
            # If the backlog of a busy server is full, connecting would block.
            probe.settimeout(0)
            try:
                probe.connect(os.fspath(path))
            except ConnectionRefusedError:
                path.unlink()
            except BlockingIOError:
                pass


def close_unread_connections(listener: socket.socket) -> None:
    """Have the kernel close connections whose clients do not read, or have vanished.

    The event loop has no timeout for writing. Unix sockets lead to a proxy, which has its own.
    """
    if sys.platform == "linux" and listener.family is not socket.AF_UNIX:
        # Accepted connections inherit the option. Its unit is a millisecond.
        milliseconds = 1_000 * UNREAD_TIMEOUT_SECONDS
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)


def address_of(listener: socket.socket) -> str:
    """Return the URL of a listening socket, or `unix:` and the path of a Unix socket."""
    if listener.family is socket.AF_UNIX:
        path = os.fsdecode(listener.getsockname())
        # The name of an abstract socket begins with a NUL character.
        return f"unix:{path.replace(chr(0), '@')}"
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
