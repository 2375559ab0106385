"""An upstream that answers with what was recorded, byte by byte, however wrong it is."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from http import HTTPStatus


class End(Enum):
    """What follows the bytes of an answer."""

    KEEP_ALIVE = auto()
    CLOSE = auto()
    RESET = auto()
    STALL = auto()
    """Nothing, and the connection stays open."""


@dataclass(frozen=True, slots=True)
class Recording:
    """An answer as bytes, and what follows it."""

    raw: bytes
    end: End = End.KEEP_ALIVE


def recorded(
    status: int,
    body: bytes | str = b"",
    *,
    media_type: str | None = "application/json",
    headers: Mapping[str, str] | None = None,
) -> Recording:
    """Return a well-formed answer."""
    content = body.encode() if isinstance(body, str) else body
    fields = {"Content-Type": media_type} if media_type and content else {}
    fields |= dict(headers or {}) | {"Content-Length": str(len(content))}
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return Recording(f"{head}\r\n".encode() + content)


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it arrived."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


Answering = Callable[[Request], Recording]


@dataclass(slots=True)
class RecordedUpstream:
    """What has been asked of it, and how many connections and requests there were at once."""

    url: str
    answer: Answering
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    most_connections: int = 0
    under_way: int = 0
    most_under_way: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """Cleared by a test that wants requests to wait; set at first."""
    crowd: int = 1
    is_crowded: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when so many requests as `crowd` are under way."""
    is_left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the last connection has ended."""

    def asked(self) -> list[str]:
        """Name the requests, by method and target."""
        return [f"{request.method} {request.target}" for request in self.requests]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        self.most_connections = max(self.most_connections, self.connections)
        try:
            while (request := await _request(reader)) is not None:
                self.requests.append(request)
                self.under_way += 1
                self.most_under_way = max(self.most_under_way, self.under_way)
                if self.under_way >= self.crowd:
                    self.is_crowded.set()
                try:
                    await self.gate.wait()
                    recording = self.answer(request)
                    writer.write(recording.raw)
                    await writer.drain()
                finally:
                    self.under_way -= 1
                if not await _goes_on(recording, writer):
                    break
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self.connections -= 1
            if not self.connections:
                self.is_left.set()


async def _goes_on(recording: Recording, writer: asyncio.StreamWriter) -> bool:
    match recording.end:
        case End.KEEP_ALIVE:
            return True
        case End.CLOSE:
            return False
        case End.RESET:
            # Closing at once, with nothing lingering, sends a reset instead of an end.
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return False
        case End.STALL:
            await asyncio.Event().wait()
            return False


async def _request(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.split("\r\n")
    method, target, _ = first.split(" ")
    headers = dict(line.split(": ", 1) for line in lines if line)
    lower = {name.lower(): value for name, value in headers.items()}
    body = await reader.readexactly(int(lower.get("content-length", "0")))
    return Request(method, target, lower, body)


@asynccontextmanager
async def recorded_upstream(
    answer: Answering, *, certificate: ssl.SSLContext | None = None
) -> AsyncIterator[RecordedUpstream]:
    """Run one on a free port; with a certificate it speaks TLS."""
    upstream = RecordedUpstream("", answer)
    upstream.gate.set()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await upstream.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=certificate)
    port = server.sockets[0].getsockname()[1]
    upstream.url = f"{'http' if certificate is None else 'https'}://127.0.0.1:{port}/api/v1"
    try:
        yield upstream
    finally:
        server.close()
        for task in tasks.copy():
            task.cancel()
        await asyncio.gather(*tasks.copy(), return_exceptions=True)
