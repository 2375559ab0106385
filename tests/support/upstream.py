"""Upstream APIs for a gateway: one that answers with recorded bytes, and another gateway."""

import asyncio
import socket
import sqlite3
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from http import HTTPStatus
from pathlib import Path
from typing import Final

from support.clock import WATCHDOG_SECONDS
from support.gateway import Gateway, Store, empty_store, filled_store, running_gateway
from support.process import gateway_process

KEY: Final = "hienergy-key"
_KEYS: Final = dict.fromkeys(
    ("admin", "other_admin", "third_admin", "member", "expired", "revoked", "unknown"), KEY
)


class End(Enum):
    """What happens to the connection after a response."""

    KEEP_ALIVE = auto()
    CLOSE = auto()
    RESET = auto()
    STALL = auto()
    """Nothing, and the connection stays open."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A response as bytes, and what happens to the connection after it."""

    raw: bytes
    end: End = End.KEEP_ALIVE


def recorded(
    status: int,
    body: bytes | str = b"",
    *,
    media_type: str | None = "application/json",
    headers: Mapping[str, str] | None = None,
) -> Recording:
    """Return a well-formed response."""
    content = body.encode() if isinstance(body, str) else body
    fields = {"Content-Type": media_type} if media_type and content else {}
    fields |= dict(headers or {}) | {"Content-Length": str(len(content))}
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return Recording(f"{head}\r\n".encode() + content)


@dataclass(frozen=True, slots=True)
class Request:
    """A received request."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


Answering = Callable[[Request], Recording]


@dataclass(slots=True)
class RecordedUpstream:
    """An upstream API that counts its connections and requests."""

    url: str
    answer: Answering
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    most_connections: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """A test clears it to hold responses back."""
    crowd: int = 1
    is_crowded: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when `crowd` requests are in flight."""
    is_stalled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a response has ended with `End.STALL`."""
    is_connected: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a client has connected."""
    is_left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the last connection has ended."""

    def calls(self) -> list[str]:
        """Return the method and target of each request."""
        return [f"{request.method} {request.target}" for request in self.requests]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        self.most_connections = max(self.most_connections, self.connections)
        self.is_connected.set()
        try:
            while (request := await _request(reader)) is not None:
                self.requests.append(request)
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
                if self.in_flight >= self.crowd:
                    self.is_crowded.set()
                try:
                    await self.gate.wait()
                    recording = self.answer(request)
                    writer.write(recording.raw)
                    await writer.drain()
                finally:
                    self.in_flight -= 1
                if not await self._continues(recording, writer):
                    break
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self.connections -= 1
            if not self.connections:
                self.is_left.set()

    async def _continues(self, recording: Recording, writer: asyncio.StreamWriter) -> bool:
        match recording.end:
            case End.KEEP_ALIVE:
                return True
            case End.CLOSE:
                return False
            case End.RESET:
                # Closing with no time to linger sends a reset.
                connection = writer.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
                return False
            case End.STALL:
                self.is_stalled.set()
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
    """Run a recorded upstream API on a free port, over TLS if there is a certificate."""
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


def gateway_in_front_of(
    url: str, folder: Path, **settings: object
) -> AbstractAsyncContextManager[Gateway]:
    """Run a gateway in front of an upstream API, with its ledger in a folder."""
    return running_gateway(folder, empty_store(folder, _KEYS), upstream_url=url, **settings)


@asynccontextmanager
async def gateway_and_upstream(
    answer: Answering, folder: Path, **settings: object
) -> AsyncIterator[tuple[Gateway, RecordedUpstream]]:
    """Run a recorded upstream API, and a gateway in front of it with its ledger in a folder."""
    async with (
        recorded_upstream(answer) as upstream,
        gateway_in_front_of(upstream.url, folder, **settings) as gateway,
    ):
        yield gateway, upstream


@dataclass(frozen=True, slots=True)
class UpstreamGateway:
    """A gateway process whose REST face is an upstream API."""

    url: str
    store: Store

    @property
    def keys(self) -> Mapping[str, str]:
        return self.store.keys

    def delete_contacts(self) -> None:
        with closing(self._connect()) as connection, connection:
            connection.execute("DELETE FROM idempotency_records")
            connection.execute("DELETE FROM contacts")

    def contacts(self) -> int:
        """Count the stored contacts."""
        with closing(self._connect()) as connection:
            count: int = connection.execute("SELECT count(*) FROM contacts").fetchone()[0]
            return count

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.store.file, timeout=WATCHDOG_SECONDS)


@contextmanager
def upstream_gateway(folder: Path, **environment: str) -> Iterator[UpstreamGateway]:
    """Run a gateway process on a filled store in a folder, as an upstream API."""
    store = filled_store(folder)
    # All requests come from the address of the gateway in front.
    settings = {"CONTACT_GATEWAY_KEY_GUESSES_PER_MINUTE": "0", **environment}
    with gateway_process(folder, store=store, environment=settings) as process:
        yield UpstreamGateway(f"{process.address}/api/v1", store)
