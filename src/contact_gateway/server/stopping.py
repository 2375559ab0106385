"""A server that stops in three steps: it drains, closes its listeners, and ends its requests."""

import asyncio
import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Final, NamedTuple

import uvicorn
from uvicorn.server import ServerState

from contact_gateway.server.admin_port import AdminProtocol
from contact_gateway.server.listeners import close_unread_connections
from contact_gateway.server.protocol import IS_STOPPING, HttpProtocol

# Closing the database takes longer only if the disk hangs.
CLOSING_SECONDS: Final = 5.0
"""After the time for requests, time to close the application. Then the process ends anyway."""

_POLL_SECONDS: Final = 0.05

_log = logging.getLogger(__name__)


class Timeouts(NamedTuple):
    """Times of the server, in seconds.

    Attributes:
        keep_alive: after which an idle connection is closed.
        drain: after the signal to stop, in which requests are served as before.
        shutdown: after the signal to stop, in which all requests end. It includes the drain.
    """

    keep_alive: int = 75
    drain: float = 0
    shutdown: float = 40


@contextmanager
def stop_signals_handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle the signals that stop the server. SIGHUP is not one under `nohup`."""
    signals = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signals.append(signal.SIGHUP)
    earlier = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, before in earlier.items():
            signal.signal(number, before)


def end_at_once() -> None:
    """End the process with status 0 and without a clean stop, but write the last log lines."""
    with suppress(Exception):
        logging.shutdown()
    os._exit(0)


class StoppableServer(uvicorn.Server):
    """One process's server.

    `announce` is called when it accepts requests, `stopping` when it begins to stop.

    uvicorn on its own closes its listeners at once, waits for clients that do not read, logs the
    requests that it cuts off as errors, and raises the signal again when it has ended.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        timeouts: Timeouts,
        announce: Callable[[], None],
        admin_listener: socket.socket | None = None,
        stopping: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(config)
        self._timeouts: Final = timeouts
        self._announce: Final = announce
        self._admin_listener: Final = admin_listener
        self._admin_state: Final = ServerState()
        self._stopping: Final = stopping
        self._stopped_at: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application and accept requests."""
        for listener in filter(None, (*(sockets or ()), self._admin_listener)):
            close_unread_connections(listener)
        await super().startup(sockets)
        if self.started and self._admin_listener is not None:
            # The port is closed with the event loop, at the end of the process.
            await asyncio.get_running_loop().create_server(
                partial(AdminProtocol, self.config, self._admin_state, self.lifespan.state),
                sock=self._admin_listener,
            )
        if self.started and not self.should_exit:
            try:
                self._announce()
            except BaseException:
                await self.shutdown(sockets)
                raise

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle the signals that stop the server."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        with stop_signals_handled(self.handle_exit):
            yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; on a second signal, at once."""
        del sig, frame
        if self._stopped_at is not None:
            end_at_once()
        self.stop()

    def stop(self) -> None:
        """Stop, unless the server is stopping."""
        if self._stopped_at is not None:
            return
        self._stopped_at = time.monotonic()
        watchdog = threading.Timer(self._timeouts.shutdown + CLOSING_SECONDS, end_at_once)
        watchdog.daemon = True
        watchdog.start()
        self._stopping()
        if self.started:
            self.lifespan.state[IS_STOPPING] = True
        else:
            self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Return whether the drain has ended. The server calls this ten times a second."""
        if self._stopped_at is not None:
            drained_at = self._stopped_at + self._timeouts.drain
            self.should_exit = self.should_exit or time.monotonic() >= drained_at
        is_over = await super().on_tick(counter)
        self._admin_state.default_headers = self.server_state.default_headers
        return is_over

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the listeners, end the requests in flight, and close the application."""
        await self._close_listeners(sockets or [])
        for connection in list(self.server_state.connections):
            connection.shutdown()
        started_at = time.monotonic() if self._stopped_at is None else self._stopped_at
        remaining = started_at + self._timeouts.shutdown - time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, remaining)):
                # uvicorn has no event for the end of its connections.
                while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            connections = list(self.server_state.connections)
            _log.warning(
                "closed %d connections that were in use %g s after the signal to stop",
                len(connections),
                self._timeouts.shutdown,
            )
            for connection in connections:
                connection.transport.abort()
            # The transports report their end in the next step.
            await asyncio.sleep(_POLL_SECONDS)
        await self.lifespan.shutdown()
        if self.server_state.tasks or self._admin_state.tasks:
            # Cancelled requests would be logged as faults.
            end_at_once()

    async def _close_listeners(self, listeners: list[socket.socket]) -> None:
        """Close the listeners, but serve the connections in their backlogs.

        The kernel would reset them, and a client may have sent its request already.
        """
        accepted = []
        for listener in listeners:
            listener.settimeout(0)
            # It raises BlockingIOError without a connection in the backlog, and another error with
            # too many open files.
            with suppress(OSError):
                while True:
                    accepted.append(listener.accept()[0])
        for server in self.servers:
            server.close()
        for listener in listeners:
            listener.close()
        # asyncio's event loop makes the last connections that it has accepted in its next step.
        await asyncio.sleep(0)
        for connection in accepted:
            await asyncio.get_running_loop().connect_accepted_socket(
                partial(HttpProtocol, self.config, self.server_state, self.lifespan.state),
                connection,
            )


class WorkerServer(StoppableServer):
    """The server of one of several processes. It stops on SIGTERM, or when the supervisor ends."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application and accept requests."""
        supervisor = multiprocessing.parent_process()
        if supervisor is not None:
            # Without its supervisor, a worker would hold the address against the next start.
            sentinel = supervisor.sentinel
            asyncio.get_running_loop().add_reader(sentinel, self._on_supervisor_end, sentinel)
        await super().startup(sockets)

    def _on_supervisor_end(self, sentinel: int) -> None:
        asyncio.get_running_loop().remove_reader(sentinel)
        self.stop()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop. A second signal may come from a service manager that signals all processes."""
        del sig, frame
        self.stop()
