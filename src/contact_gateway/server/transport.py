"""A transport that joins the writes of one event loop step into a single write."""

import asyncio
from typing import Final


class CoalescingTransport(asyncio.Transport):
    """Buffers writes until the current step of the event loop ends.

    uvicorn writes the head and the body of a response separately: two system calls and two packets.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport: Final = transport
        self._loop: Final = asyncio.get_running_loop()
        self._buffer: Final[list[bytes | bytearray | memoryview]] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Buffer data for the end of this event loop step."""
        if not self._buffer:
            self._loop.call_soon(self._flush)
        self._buffer.append(data)

    def _flush(self) -> None:
        data = b"".join(self._buffer)
        self._buffer.clear()
        # asyncio warns of writes to a connection that the client has closed.
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Flush the buffer, then close the connection."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Discard the buffer and close the connection immediately."""
        self._buffer.clear()
        self._transport.abort()

    def is_closing(self) -> bool:
        """Return whether the connection is closing or closed."""
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Return information about the connection, such as its addresses."""
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """Stop reading from the connection."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Resume reading from the connection."""
        self._transport.resume_reading()
