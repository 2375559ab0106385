"""An HTTP proxy that opens tunnels, all to one port of this machine."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

_CHUNK_BYTES = 65_536


@dataclass(slots=True)
class ConnectProxy:
    """A proxy. It opens a tunnel if its answer is a 200, and ends the connection otherwise."""

    port: int
    answer: bytes
    url: str = ""
    heads: list[str] = field(default_factory=list)
    """The requests for tunnels that it received."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
            writer.write(self.answer)
            if self.answer.startswith(b"HTTP/1.1 200 "):
                upstream = await asyncio.open_connection("127.0.0.1", self.port)
                await asyncio.gather(_copy(reader, upstream[1]), _copy(upstream[0], writer))
        finally:
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while chunk := await reader.read(_CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def connect_proxy(
    port: int, answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n"
) -> AsyncIterator[ConnectProxy]:
    """Run a proxy on a free port, whose tunnels end at another port."""
    proxy = ConnectProxy(port, answer)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        with suppress(ConnectionError, asyncio.CancelledError):
            await proxy.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        for task in tasks.copy():
            task.cancel()
        await asyncio.gather(*tasks.copy(), return_exceptions=True)
