"""The server process: it takes the address, says where it is, and stops cleanly."""

import gc
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

import uvicorn
from starlette.applications import Starlette
from uvicorn.supervisors import Multiprocess

from contact_gateway.server.connections import HttpProtocol

# uvicorn replaces a worker that misses a health check, also while it still imports: on a busy machine
# its default of 5 s replaced workers for ever, and none served.
_WORKER_RESPONDS_WITHIN_SECONDS: Final = 60
# Longer than a body may take to arrive, so what was accepted can be finished.
_STOPS_WITHIN_SECONDS: Final = 40
# Python's 700 is reached by every few requests, of whose objects hardly any are in a cycle.
_ALLOCATIONS_BETWEEN_COLLECTIONS: Final = 50_000
_FACTORY: Final = "contact_gateway.app:app_from_environment"


class AddressError(OSError):
    """The host and port cannot be listened on."""


def listen(host: str, port: int) -> socket.socket:
    """Take the address; port 0 takes a free one.

    Raises:
        AddressError: it cannot be had.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no such port"
        raise AddressError(f"cannot listen on {host}:{port}: {reason}") from None
    listener.set_inheritable(True)
    return listener


def address_of(listener: socket.socket) -> str:
    """Return the URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(app: Starlette, listener: socket.socket, started: Callable[[], None]) -> bool:
    """Serve in this process until SIGTERM or Ctrl-C, finishing what is under way.

    Returns:
        Whether the server started at all.
    """
    server = _Announced(_config(app), started)
    tune_garbage_collector()
    with _signals_end_here():
        server.run(sockets=[listener])
    return server.started


def serve_with_workers(listener: socket.socket, workers: int, started: Callable[[], None]) -> None:
    """Serve in several processes, each with the settings of the environment."""
    started()
    _Workers(_config(_FACTORY, workers=workers), sockets=[listener]).run()


def tune_garbage_collector() -> None:
    """Take what there is before the first request out of the garbage collector's sight.

    Modules, the schema and the like stay as long as the process; to go through them again and
    again would stall requests for a tenth of a second each time. What requests leave behind is
    gone through less often, in a millisecond or two.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS_BETWEEN_COLLECTIONS, *gc.get_threshold()[1:])


def _config(app: Starlette | str, workers: int = 1) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=HttpProtocol,
        factory=isinstance(app, str),
        workers=workers,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        ws="none",
        timeout_graceful_shutdown=_STOPS_WITHIN_SECONDS,
        timeout_worker_healthcheck=_WORKER_RESPONDS_WITHIN_SECONDS,
    )


class _Workers(Multiprocess):
    def terminate_all(self) -> None:
        # Whom only this process would let in, nobody would answer.
        for listener in self.sockets:
            listener.close()
        super().terminate_all()


class _Announced(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce: Final = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._announce()


@contextmanager
def _signals_end_here() -> Iterator[None]:
    """Take the signals that uvicorn raises once more after its clean stop."""
    before = {number: signal.signal(number, _taken) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _taken(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the server has stopped because of it already."""
