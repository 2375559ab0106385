"""A proxy between two gateways that delays, cuts and corrupts exchanges on demand."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final
from urllib.parse import urlsplit

from support.clock import WATCHDOG_SECONDS

_GATEWAY_TIMEOUT: Final = (
    b"HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)


class Fault(Enum):
    """What happens to an exchange."""

    NONE = auto()
    HOLD_REQUEST = auto()
    """The request reaches upstream when it is released, and not at all when it is dropped."""

    TIME_OUT = auto()
    """The client gets a 504 at once; the request is held as with `HOLD_REQUEST`."""

    HOLD_RESPONSE = auto()
    """The request reaches upstream. The client gets the response when it is released, if it is."""

    DROP_RESPONSE = auto()
    """The request reaches upstream; then the connection ends without a response."""

    TRUNCATE_RESPONSE = auto()
    """The request reaches upstream; the response ends in the middle of its body."""

    CORRUPT_RESPONSE = auto()
    """The request reaches upstream; the response's body is not JSON."""


@dataclass(slots=True)
class _Gate:
    """Counts the exchanges that meet one fault, and holds them."""

    released: asyncio.Event = field(default_factory=asyncio.Event)
    is_dropped: bool = False
    held: int = 0
    forwarded: int = 0
    answered: int = 0


class FaultyProxy:
    """Forwards HTTP exchanges to a server at `upstream`, and injects faults."""

    def __init__(self, upstream: str) -> None:
        target = urlsplit(upstream)
        self._target = (target.hostname, target.port)
        self._base_path = target.path
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._changed = threading.Condition()
        self._gate = _Gate()
        self._fault = Fault.NONE
        self._method = ""
        # The event loop holds only weak references to tasks.
        self._tasks: set[asyncio.Task[None]] = set()
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}{self._base_path}"

    def inject(self, fault: Fault, method: str = "POST") -> None:
        """Inject a fault into all exchanges of a method that begin from now on."""
        self._gate = _Gate()
        self._fault, self._method = fault, method

    def wait_until_held(self, count: int = 1) -> None:
        """Wait until so many exchanges are held."""
        self._wait(lambda: self._gate.held >= count)

    def wait_until_forwarded(self) -> None:
        """Wait until upstream has answered a request that the client sees timed out."""
        self._wait(lambda: self._gate.forwarded > 0)

    def wait_until_answered(self, count: int = 1) -> None:
        """Wait until so many responses have been sent to clients."""
        self._wait(lambda: self._gate.answered >= count)

    def release(self) -> None:
        """Let held exchanges continue, and inject no more faults."""
        self._fault = Fault.NONE
        self._loop.call_soon_threadsafe(self._gate.released.set)

    def drop(self) -> None:
        """Discard held exchanges, and inject no more faults."""
        self._gate.is_dropped = True
        self.release()

    def creations(self) -> int:
        """Count the POST requests."""
        return sum(request.startswith("POST ") for request in self.requests)

    @contextmanager
    def running(self) -> Iterator["FaultyProxy"]:
        thread = threading.Thread(target=self._loop.run_forever)
        thread.start()
        try:
            start = asyncio.start_server(self._serve, "127.0.0.1", 0)
            self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result()
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        # The task of a connection that was accepted last begins in the next iteration.
        await asyncio.sleep(0)
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, without pipelining."""
        connection = asyncio.current_task()
        assert connection is not None
        self._tasks.add(connection)
        connection.add_done_callback(self._tasks.discard)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            upstream_reader, upstream_writer = await asyncio.open_connection(*self._target)
            try:
                while request := await _message(reader):
                    gate, fault = self._gate, self._fault_of(request)
                    response = await self._exchange(
                        request, fault, gate, writer, upstream_reader, upstream_writer
                    )
                    if response is None:
                        break
                    writer.write(response)
                    await writer.drain()
                    with self._change():
                        gate.answered += 1
                    if fault is Fault.TRUNCATE_RESPONSE:
                        break
            finally:
                upstream_writer.close()
        writer.close()

    def _fault_of(self, request: bytes) -> Fault:
        with self._change():
            self.requests.append(b" ".join(request.split(b" ", 2)[:2]).decode())
        return self._fault if request.startswith(self._method.encode()) else Fault.NONE

    async def _exchange(
        self,
        request: bytes,
        fault: Fault,
        gate: _Gate,
        client: asyncio.StreamWriter,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bytes | None:
        """Return the response for the client, or None to end the connection."""
        if fault is Fault.TIME_OUT:
            client.write(_GATEWAY_TIMEOUT)
        if fault in {Fault.HOLD_REQUEST, Fault.TIME_OUT}:
            await self._hold(gate)
            if gate.is_dropped:
                return None
        writer.write(request)
        response = await _message(reader)
        match fault:
            case Fault.TIME_OUT:
                with self._change():
                    gate.forwarded += 1
                return None
            case Fault.HOLD_RESPONSE:
                await self._hold(gate)
                if gate.is_dropped:
                    return None
            case Fault.DROP_RESPONSE:
                return None
            case Fault.TRUNCATE_RESPONSE:
                return response[:-10]
            case Fault.CORRUPT_RESPONSE:
                return response.replace(b"{", b"<")
            case _:
                pass
        return response

    async def _hold(self, gate: _Gate) -> None:
        with self._change():
            gate.held += 1
        await gate.released.wait()

    @contextmanager
    def _change(self) -> Iterator[None]:
        with self._changed:
            yield
            self._changed.notify_all()

    def _wait(self, is_true: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(is_true, WATCHDOG_SECONDS)


async def _message(reader: asyncio.StreamReader) -> bytes:
    """Read an HTTP message with a `Content-Length` or without a body; return b"" at the end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
    return head + await reader.readexactly(int(fields.get(b"content-length", b"0")))
