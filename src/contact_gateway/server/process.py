"""The server process: listen, announce the address, serve, shut down cleanly."""

import gc
import socket
from collections.abc import Callable
from functools import partial
from ipaddress import IPv6Address
from typing import Final, NamedTuple

import uvicorn
from starlette.applications import Starlette

from contact_gateway.server.admin_port import AdminPort
from contact_gateway.server.protocol import HttpProtocol
from contact_gateway.server.stopping import (
    CLOSING_SECONDS,
    StoppableServer,
    Timeouts,
    WorkerServer,
)
from contact_gateway.server.supervisor import Supervisor

# Python's default of 700 is reached every few requests, and hardly any object is in a cycle.
_ALLOCATIONS_BETWEEN_COLLECTIONS: Final = 50_000


class Listeners(NamedTuple):
    """The listening sockets of a server, from `listen`.

    Attributes:
        public: for callers.
        admin: for the operator's requests, if they have a port of their own.
    """

    public: socket.socket
    admin: socket.socket | None = None

    def admin_port(self) -> AdminPort | None:
        """Return the admin port, if there is one."""
        return None if self.admin is None else AdminPort(self.admin)

    def close(self) -> None:
        """Close the sockets in this process."""
        self.public.close()
        if self.admin is not None:
            self.admin.close()


class AddressError(OSError):
    """The server cannot listen on this host and port."""


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 selects a free port, `::` listens on IPv4 too.

    Raises:
        AddressError: the address is in use, invalid or not of this machine.
    """
    host = host.removeprefix("[").removesuffix("]")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server(
            (host, port),
            family=family,
            backlog=2048,
            dualstack_ipv6=_is_unspecified(host) and socket.has_dualstack_ipv6(),
        )
    except UnicodeError:
        raise AddressError(f"cannot listen on {host}:{port}: not a host name") from None
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no such port"
        raise AddressError(f"cannot listen on {host}:{port}: {reason}") from None
    listener.set_inheritable(True)
    return listener


def _is_unspecified(host: str) -> bool:
    try:
        return IPv6Address(host).is_unspecified
    except ValueError:
        return False


def address_of(listener: socket.socket) -> str:
    """Return the URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(
    app: Starlette, listeners: Listeners, announce: Callable[[], None], timeouts: Timeouts
) -> bool:
    """Serve in this process until SIGTERM, SIGHUP or Ctrl-C; complete the requests in flight.

    Args:
        app: the application.
        listeners: the listening sockets.
        announce: called when the server accepts requests.
        timeouts: of connections and of the stop.

    Returns:
        Whether the server started.
    """
    server = StoppableServer(_config(app, timeouts), timeouts, announce, listeners.admin_port())
    tune_garbage_collector()
    try:
        server.run(sockets=[listeners.public])
    except SystemExit:
        return False
    return server.started


def serve_with_workers(
    create_app: Callable[[], Starlette],
    listeners: Listeners,
    workers: int,
    timeouts: Timeouts,
    ended: Callable[[int], None],
) -> bool:
    """Serve in several processes until SIGTERM, SIGHUP or Ctrl-C.

    Args:
        create_app: called in each worker. It is pickled, so it must be a module's function.
        listeners: the listening sockets, shared by all workers.
        workers: the number of processes.
        timeouts: of connections and of the stop.
        ended: called with the id of each worker that has ended.

    Returns:
        Whether all workers started.
    """
    work = partial(_work, create_app, listeners, timeouts)
    stop_seconds = timeouts.shutdown + CLOSING_SECONDS
    # Left open here, the listeners would accept connections that no worker serves.
    return Supervisor(work, workers, listeners.close, ended, stop_seconds).run()


def _work(
    create_app: Callable[[], Starlette],
    listeners: Listeners,
    timeouts: Timeouts,
    announce: Callable[[], None],
) -> None:
    config = _config(create_app, timeouts)
    server = WorkerServer(config, timeouts, announce, listeners.admin_port())
    server.run(sockets=[listeners.public])


def tune_garbage_collector() -> None:
    """Exclude all objects so far from garbage collection, and collect less often.

    Modules and the schema live as long as the process. Scanning them would stall requests for 0.1 s
    each time; scanning only the objects of requests takes 1 or 2 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS_BETWEEN_COLLECTIONS, *gc.get_threshold()[1:])


def _config(app: Starlette | Callable[[], Starlette], timeouts: Timeouts) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=HttpProtocol,
        factory=not isinstance(app, Starlette),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        ws="none",
        timeout_keep_alive=timeouts.keep_alive,
    )
