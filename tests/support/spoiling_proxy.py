"""A proxy between two gateways that holds, cuts and spoils what passes, on command."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from urllib.parse import urlsplit

_WITHIN_SECONDS = 30
_READ_AT_ONCE = 65_536


class Spoiling(Enum):
    """What becomes of an exchange that passes."""

    NOTHING = auto()
    HOLD_REQUEST = auto()
    """The request does not arrive until it is released."""

    HOLD_ANSWER = auto()
    """The request arrives; the answer does not, until it is released."""

    CUT_BEFORE_ANSWER = auto()
    """The request arrives; then the connection is closed instead of an answer."""

    CUT_IN_ANSWER = auto()
    """The request arrives; the answer breaks off in its body."""

    GARBLE_ANSWER = auto()
    """The request arrives; the answer's body is no JSON any more."""


@dataclass(slots=True)
class _Gate:
    """Something that is held until the test lets it go, and known to be held."""

    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    passed: threading.Event = field(default_factory=threading.Event)
    is_dropped: bool = False


class SpoilingProxy:
    """Stands before a server at `upstream`; requests are seen by method and path."""

    def __init__(self, upstream: str) -> None:
        target = urlsplit(upstream)
        self._target = (target.hostname, target.port)
        self._base_path = target.path
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._gate = _Gate()
        self._spoiling = Spoiling.NOTHING
        self._only = ""
        # The event loop alone would let go of one whose client is gone while its upstream answers.
        self._connections: set[asyncio.Task[None]] = set()
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}{self._base_path}"

    def spoil(self, spoiling: Spoiling, only: str = "POST") -> None:
        """Spoil the exchanges that begin from now on, of one method."""
        self._gate = _Gate()
        self._spoiling, self._only = spoiling, only

    def wait_until_held(self) -> None:
        """Wait until something is held, or spoilt."""
        assert self._gate.reached.wait(_WITHIN_SECONDS)

    def wait_until_passed(self) -> None:
        """Wait until an answer that was held has been handed on."""
        assert self._gate.passed.wait(_WITHIN_SECONDS)

    def release(self) -> None:
        """Let go what is held, and spoil no more."""
        self._spoiling = Spoiling.NOTHING
        self._gate.released.set()

    def drop(self) -> None:
        """Throw away what is held, and spoil no more."""
        self._gate.is_dropped = True
        self.release()

    def creations(self) -> int:
        """Count the creations that were sent."""
        return sum(request.startswith("POST ") for request in self.requests)

    @contextmanager
    def running(self) -> Iterator["SpoilingProxy"]:
        thread = threading.Thread(target=self._loop.run_forever)
        thread.start()
        try:
            start = asyncio.start_server(self._serve, "127.0.0.1", 0)
            self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result()
            yield self
        finally:
            self._gate.released.set()
            asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        # A connection that was accepted at the last moment begins its task only now.
        await asyncio.sleep(0)
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection: an exchange at a time, as HTTP/1.1 without pipelining has it."""
        connection = asyncio.current_task()
        assert connection is not None
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            upstream_reader, upstream_writer = await asyncio.open_connection(*self._target)
            try:
                while request := await _message(reader):
                    answer = await self._exchange(request, upstream_reader, upstream_writer)
                    if answer is None:
                        break
                    writer.write(answer)
                    await writer.drain()
                    self._gate.passed.set()
                    if self._cut(request):
                        break
            finally:
                upstream_writer.close()
        writer.close()

    def _cut(self, request: bytes) -> bool:
        return self._spoils(request) and self._spoiling is Spoiling.CUT_IN_ANSWER

    def _spoils(self, request: bytes) -> bool:
        return request.startswith(self._only.encode())

    async def _exchange(
        self, request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes | None:
        self.requests.append(b" ".join(request.split(b" ", 2)[:2]).decode())
        gate = self._gate
        spoiling = self._spoiling if self._spoils(request) else Spoiling.NOTHING
        if spoiling is Spoiling.HOLD_REQUEST:
            await self._held(gate)
            if gate.is_dropped:
                return None
        writer.write(request)
        await writer.drain()
        answer = await _message(reader)
        match spoiling:
            case Spoiling.HOLD_ANSWER:
                await self._held(gate)
            case Spoiling.CUT_BEFORE_ANSWER:
                gate.reached.set()
                return None
            case Spoiling.CUT_IN_ANSWER:
                gate.reached.set()
                return answer[:-10]
            case Spoiling.GARBLE_ANSWER:
                gate.reached.set()
                return answer.replace(b"{", b"<")
            case _:
                pass
        return answer

    async def _held(self, gate: _Gate) -> None:
        gate.reached.set()
        await self._loop.run_in_executor(None, gate.released.wait, _WITHIN_SECONDS)


async def _message(reader: asyncio.StreamReader) -> bytes:
    """Read one HTTP message that has a `Content-Length`, or no body; empty at the end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
    return head + await reader.readexactly(int(fields.get(b"content-length", b"0")))
