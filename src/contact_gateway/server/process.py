"""The server process: listen, announce the address, serve, shut down cleanly."""

import gc
import signal
import socket
from collections.abc import Callable
from ipaddress import IPv6Address
from typing import Final

import uvicorn
from starlette.applications import Starlette
from uvicorn.supervisors import Multiprocess

from contact_gateway.server.protocol import HttpProtocol

# More than the default timeout of a request body, so that requests in flight complete.
_SHUTDOWN_TIMEOUT_SECONDS: Final = 40
# uvicorn replaces a worker that misses a health check, also during its start. Under load, its
# default of 5 s replaced workers for ever.
_HEALTH_CHECK_TIMEOUT_SECONDS: Final = 60
# Python's default of 700 is reached every few requests, and hardly any object is in a cycle.
_ALLOCATIONS_BETWEEN_COLLECTIONS: Final = 50_000


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


def serve(app: Starlette, listener: socket.socket, announce: Callable[[], None]) -> bool:
    """Serve in this process until SIGTERM or Ctrl-C; complete the requests in flight.

    Args:
        app: the application.
        listener: the socket from `listen`.
        announce: called when the server accepts requests.

    Returns:
        Whether the server started.
    """
    server = _AnnouncingServer(_config(app), announce)
    tune_garbage_collector()
    # uvicorn raises the signal again after its shutdown, to the handlers from before.
    handlers = {
        number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        server.run(sockets=[listener])
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return server.started


def serve_with_workers(
    create_app: Callable[[], Starlette],
    listener: socket.socket,
    workers: int,
    announce: Callable[[], None],
) -> None:
    """Serve in several processes until SIGTERM or Ctrl-C.

    Args:
        create_app: called in each worker. It is pickled, so it must be a module's function.
        listener: the socket from `listen`, shared by all workers.
        workers: the number of processes.
        announce: called before the workers start.
    """
    announce()
    _Supervisor(_config(create_app, workers=workers), sockets=[listener]).run()


def tune_garbage_collector() -> None:
    """Exclude all objects so far from garbage collection, and collect less often.

    Modules and the schema live as long as the process. Scanning them would stall requests for 0.1 s
    each time; scanning only the objects of requests takes 1 or 2 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS_BETWEEN_COLLECTIONS, *gc.get_threshold()[1:])


def _config(app: Starlette | Callable[[], Starlette], workers: int = 1) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=HttpProtocol,
        factory=not isinstance(app, Starlette),
        workers=workers,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        ws="none",
        timeout_graceful_shutdown=_SHUTDOWN_TIMEOUT_SECONDS,
        timeout_worker_healthcheck=_HEALTH_CHECK_TIMEOUT_SECONDS,
    )


class _Supervisor(Multiprocess):
    def terminate_all(self) -> None:
        # Left open, the listener would accept connections that no worker serves.
        for listener in self.sockets:
            listener.close()
        super().terminate_all()


class _AnnouncingServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce: Final = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._announce()
