"""uvicorn's HTTP protocol with limits on size and time, and a shutdown that drops no request.

uvicorn on its own

- waits for ever for a request head, and for the rest of a body after its response;
- reads heads, chunk sizes and trailers of any length;
- treats trailers as headers;
- refuses a malformed request before it answers the pipelined requests ahead of it;
- drops the body of a request that offers an upgrade;
- at shutdown, closes new connections whose first request may be in flight.
"""

import asyncio
import socket
from typing import Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from contact_gateway.access.client_address import UNIX
from contact_gateway.faces.json_body import BODY_IS_BUFFERED
from contact_gateway.server.framing import RequestParser
from contact_gateway.server.transport import CoalescingTransport

IS_STOPPING: Final = "contact_gateway.is_stopping"
"""The key in the ASGI `state` of requests that arrive after the signal to stop."""

HEAD_TIMEOUT_SECONDS: Final = 30.0
"""A connection is closed if a request head takes longer to arrive."""

DRAIN_TIMEOUT_SECONDS: Final = 30.0
"""A connection is closed if a body takes longer to arrive after its response was sent."""

FIRST_REQUEST_TIMEOUT_SECONDS: Final = 2.0
"""At shutdown, a connection without a request is closed after this time."""

MAX_HEAD_BYTES: Final = 64 * 1024
"""Limit of a request head, and also of the framing of a body: its chunk sizes and trailers."""

# A chunk with one byte has five bytes of framing, or a few more if its size has leading zeros.
_MAX_FRAMING_PER_BODY_BYTE: Final = 8

# uvicorn's None is also the peer of a TCP connection that was reset, which no setting trusts.
_UNIX_PEER: Final = (UNIX, 0)


class HttpProtocol(HttpToolsProtocol):
    """One connection of a client."""

    _overhead: int | None = None
    """Bytes received after the chunk in which the current head or body began, without the body and
    its normal framing. None between requests."""

    _in_head = False
    """Whether a request head is being received. The parser reports trailers as headers, too."""

    _timeout: asyncio.TimerHandle | None = None
    """Closes the connection. Set while it waits for a head, or drains a body."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start serving a connection."""
        super().connection_made(CoalescingTransport(cast(asyncio.Transport, transport)))
        connection: socket.socket | None = transport.get_extra_info("socket")
        if connection is not None and connection.family == socket.AF_UNIX:
            self.client = _UNIX_PEER
        self.parser = RequestParser(self)
        self._close_after(HEAD_TIMEOUT_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Release the connection's resources."""
        self._cancel_timeout()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio allows a bool
        """Close the connection, but after the response that is in flight."""
        if not self._is_responding():
            return False
        self.cycle.keep_alive = False
        return True

    @property
    def _last_cycle(self) -> RequestResponseCycle | None:
        """The cycle of the last request with a complete head. uvicorn's type omits the None."""
        return self.cycle

    def _is_responding(self) -> bool:
        """Return whether the last request was received completely and its response was not sent."""
        cycle = self._last_cycle
        return cycle is not None and not cycle.response_complete and not cycle.more_body

    def _is_draining(self) -> bool:
        """Return whether the rest of a body is being received after its response was sent."""
        cycle = self._last_cycle
        return (
            self._overhead is not None
            and not self._in_head
            and cycle is not None
            and cycle.response_complete
        )

    def _close_after(self, seconds: float) -> None:
        self._cancel_timeout()
        self._timeout = self.loop.call_later(seconds, self.transport.close)

    def _cancel_timeout(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None

    def shutdown(self) -> None:
        """Close the connection after the responses in flight.

        uvicorn would close a new connection at once, though its first request may be in flight, and
        a connection on which the head of its next request is arriving.
        """
        if self._last_cycle is None or self._in_head:
            self.loop.call_later(FIRST_REQUEST_TIMEOUT_SECONDS, super().shutdown)
        else:
            super().shutdown()

    def data_received(self, data: bytes) -> None:
        """Parse data and enforce the limits."""
        if self._overhead is not None:
            self._overhead += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._overhead is None:
            self._restart_keep_alive()
        elif self._overhead > MAX_HEAD_BYTES:
            part = "head" if self._in_head else "framing"
            self.send_400_response(f"The {part} of the request is too large.")
        elif self._in_head and self._timeout is None:
            self._close_after(HEAD_TIMEOUT_SECONDS)

    def _restart_keep_alive(self) -> None:
        """Restart the keep-alive timeout: uvicorn cancels it even if data starts no request."""
        cycle = self._last_cycle
        if self.timeout_keep_alive_task is None and cycle is not None and cycle.response_complete:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def send_400_response(self, msg: str) -> None:
        """Refuse a malformed request, unless an earlier response would be sent after the refusal.

        Responses have the order of their requests (RFC 9112, section 9.3.2): a client would take
        the refusal for the response to its creation. Then the connection is only closed.
        """
        if self._is_responding():
            self.cycle.keep_alive = False
            self.flow.pause_reading()
        elif self._is_draining():
            self.transport.close()
        else:
            super().send_400_response(msg)

    def on_message_begin(self) -> None:
        """Start a request."""
        super().on_message_begin()
        self._overhead, self._in_head = 0, True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header. Trailers are ignored (RFC 9110, section 6.5.1)."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the application. Reading the body has its own timeout."""
        # RFC 9110, section 10.1.1: ignore the expectation of an HTTP/1.0 client.
        if self.expect_100_continue and self.parser.get_http_version() == "1.0":
            self.expect_100_continue = False
        super().on_headers_complete()
        if IS_STOPPING in self.scope["state"]:
            # So that the client sends its next request to another process.
            self.cycle.keep_alive = False
        self._overhead, self._in_head = 0, False
        self._cancel_timeout()

    def on_body(self, body: bytes) -> None:
        """Add a part of the body. Its size has its own limit."""
        if self._overhead is not None:
            expected = (1 + _MAX_FRAMING_PER_BODY_BYTE) * len(body)
            self._overhead = max(0, self._overhead - expected)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request, and mark it if its body arrived before the application started."""
        if self.parser.should_upgrade():
            # The body is yet to come: see RequestParser.
            return
        self._overhead = None
        self._cancel_timeout()
        self.scope["extensions"] = {BODY_IS_BUFFERED: {}}
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request, or drain the rest of this one's body."""
        super().on_response_complete()
        if self._is_draining():
            self._close_after(DRAIN_TIMEOUT_SECONDS)
