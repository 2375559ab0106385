"""The server's connections: answers leave in one piece, a stop breaks off none that began.

uvicorn also reads a request's head without a bound of size or time; both are set here.
"""

import asyncio
from typing import Final, cast

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from contact_gateway.faces.bodies import BODY_HAS_ARRIVED

FIRST_REQUEST_WITHIN_SECONDS: Final = 2.0
"""How long a server that stops waits for the first request of a connection that it has taken."""

HEAD_WITHIN_SECONDS: Final = 30.0
"""How long a head may take to arrive: one without an end would hold its connection for ever."""

MAX_HEAD_BYTES: Final = 64 * 1024
"""A head that has not ended by then is refused: one without an end would take all memory."""


class HttpProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]  # chosen as it runs
    """uvicorn's protocol, on a connection that writes together and takes heads within bounds."""

    _head_bytes: int | None = None
    """How much has arrived since the piece that a head began in; None where none is under way."""

    _head_timer: asyncio.TimerHandle | None = None
    """Runs while a head is waited for, or has arrived in part."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve a connection."""
        super().connection_made(WrittenTogether(cast(asyncio.Transport, transport)))
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """End with the connection."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_WITHIN_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def shutdown(self) -> None:
        """Close the connection once what was asked on it is answered.

        On a new one, which uvicorn would close, the first request may be on its way.
        """
        if self.cycle is None:
            self.loop.call_later(FIRST_REQUEST_WITHIN_SECONDS, super().shutdown)
        else:
            super().shutdown()

    def data_received(self, data: bytes) -> None:
        """Take some bytes of a request."""
        if self._head_bytes is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes is None or self.transport.is_closing():
            return
        if self._head_bytes > MAX_HEAD_BYTES:
            self.send_400_response("The head of the request is too large.")
        elif self._head_timer is None:
            self._await_head()

    def on_message_begin(self) -> None:
        """Begin to count."""
        super().on_message_begin()
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """Count no more: a body has a bound of its own."""
        super().on_headers_complete()
        self._head_bytes = None
        self._stop_waiting()

    def on_message_complete(self) -> None:
        """Tell the application, which has not begun where all came in one piece."""
        self.scope[BODY_HAS_ARRIVED] = True
        super().on_message_complete()


class WrittenTogether(asyncio.Transport):
    """A connection on which all that is written in one step of the event loop is one write.

    uvicorn writes an answer's head and its body apart, each a system call and a packet.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport: Final = transport
        self._loop: Final = asyncio.get_running_loop()
        self._waiting: Final[list[bytes | bytearray | memoryview]] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write some bytes once this step of the event loop is over."""
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)

    def _flush(self) -> None:
        data = b"".join(self._waiting)
        self._waiting.clear()
        # One whose other end has gone takes no more.
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Close the connection after what was written."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self._waiting.clear()
        self._transport.abort()

    def is_closing(self) -> bool:
        """Tell whether the connection is closing, or closed."""
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Return what the transport knows of itself, as its addresses."""
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """Take no more from the other end."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take more from the other end again."""
        self._transport.resume_reading()
