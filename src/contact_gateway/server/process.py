"""The server process: announce the address, serve, shut down cleanly."""

import gc
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

import uvicorn
from starlette.applications import Starlette

from contact_gateway.server import systemd
from contact_gateway.server.protocol import HttpProtocol
from contact_gateway.server.stopping import (
    CLOSING_SECONDS,
    StoppableServer,
    Timeouts,
    WorkerServer,
)
from contact_gateway.server.supervisor import Callbacks, Supervisor

# Python's default of 700 is reached every few requests, and hardly any object is in a cycle.
_ALLOCATIONS_BETWEEN_COLLECTIONS: Final = 50_000


class Listeners(NamedTuple):
    """The listening sockets of a server.

    Attributes:
        public: for callers.
        admin: for the operator's requests, if they have a port of their own.
    """

    public: Sequence[socket.socket]
    admin: socket.socket | None = None

    def close(self) -> None:
        """Close the sockets in this process."""
        for listener in self.public:
            listener.close()
        if self.admin is not None:
            self.admin.close()


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

    def started() -> None:
        announce()
        systemd.notify(systemd.State.READY)

    stopping = partial(systemd.notify, systemd.State.STOPPING)
    server = StoppableServer(_config(app, timeouts), timeouts, started, listeners.admin, stopping)
    tune_garbage_collector()
    try:
        server.run(sockets=[*listeners.public])
    except SystemExit:
        return False
    return server.started


def serve_with_workers(  # noqa: PLR0913 - the arguments of `serve`, and two for the workers
    create_app: Callable[[], Starlette],
    listeners: Listeners,
    announce: Callable[[], None],
    timeouts: Timeouts,
    *,
    workers: int,
    ended: Callable[[int], None],
) -> bool:
    """Serve in several processes until SIGTERM, SIGHUP or Ctrl-C.

    Args:
        create_app: called in each worker. It is pickled, so it must be a module's function.
        listeners: the listening sockets, shared by all workers.
        announce: called when all workers accept requests.
        timeouts: of connections and of the stop.
        workers: the number of processes.
        ended: called with the id of each worker that has ended.

    Returns:
        Whether all workers started.
    """

    def started() -> None:
        announce()
        systemd.notify(systemd.State.READY)

    def stopping() -> None:
        systemd.notify(systemd.State.STOPPING)
        # Left open here, the listeners would accept connections that no worker serves.
        listeners.close()

    work = partial(_work, create_app, listeners, timeouts)
    callbacks = Callbacks(started, stopping, ended)
    stop_seconds = timeouts.shutdown + CLOSING_SECONDS
    return Supervisor(work, workers, callbacks, stop_seconds).run()


def _work(
    create_app: Callable[[], Starlette],
    listeners: Listeners,
    timeouts: Timeouts,
    announce: Callable[[], None],
) -> None:
    config = _config(create_app, timeouts)
    server = WorkerServer(config, timeouts, announce, listeners.admin)
    server.run(sockets=[*listeners.public])


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
