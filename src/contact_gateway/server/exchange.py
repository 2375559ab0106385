"""One request and its response, as an ASGI application receives and sends them.

Source: https://asgi.readthedocs.io/en/latest/specs/www.html.
"""

import asyncio
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Scope

from contact_gateway.faces.http import WITHOUT_BODY
from contact_gateway.faces.request_context import RawHeaders

if TYPE_CHECKING:
    from contact_gateway.server.protocol import HttpProtocol

_STATUSES: Final = {status.value: status.phrase for status in HTTPStatus}
_STATUS_LINES: Final = {
    status: f"HTTP/1.1 {status} {_STATUSES.get(status, '')}".encode() for status in range(100, 600)
}

# As numbers, which bytes find sooner.
_CR, _LF, _NUL = b"\r\n\0"

_CLOSE: Final = (b"connection", b"close")

_FAULT: Final = PlainTextResponse("Internal Server Error", 500)

_log = logging.getLogger(__name__)


def response_head(status: int, headers: RawHeaders) -> bytes:
    """Return the head of a response.

    Raises:
        ValueError: a header would end the head, or add another.
    """
    lines = [_STATUS_LINES[status], *map(b": ".join, headers), b"", b""]
    text = b"".join(lines)
    if _CR in text or _LF in text or _NUL in text:
        raise ValueError("a header of the response contains a control character")
    return b"\r\n".join(lines)


class Exchange:
    """A request and its response.

    Attributes:
        scope: the ASGI scope of the request.
        keep_alive: whether the connection stays open after the response.
        is_received: whether the request has arrived completely.
        is_answered: whether the response was sent completely.
    """

    def __init__(
        self, connection: "HttpProtocol", scope: Scope, *, keep_alive: bool, expects_continue: bool
    ) -> None:
        self.scope: Final = scope
        self.keep_alive = keep_alive
        self.is_received = False
        self.is_answered = False
        self._connection: Final = connection
        self._expects_continue = expects_continue
        self._is_disconnected = False
        self._has_changed = False
        """Whether there is something that the application has yet to receive."""
        self._changed: asyncio.Event | None = None
        """Set once there is, for an application that waits. Most do not have to."""
        self._body = bytearray()
        self._head: bytes | None = None
        """Of the response: not yet written, or empty once it is."""
        self._unsent: int | None = None
        """Of the declared length of the response's body."""

    async def run(self, app: ASGIApp) -> None:
        """Have the application respond."""
        try:
            await app(self.scope, self._receive, self._send)
        except Exception:  # noqa: BLE001 - it is logged
            _log.exception("Exception in ASGI application")
        else:
            if self.is_answered or self._is_disconnected:
                return
            _log.error("ASGI application returned without a complete response")
        if self._head is None:
            self.keep_alive = False
            await _FAULT(self.scope, self._receive, self._send)
        else:
            self._connection.transport.close()

    @property
    def is_started(self) -> bool:
        """Whether a part of the response was sent."""
        return self._head == b""

    def add_to_body(self, part: bytes) -> int:
        """Add a part of the body; return how many bytes the application has yet to receive."""
        if self.is_answered:
            return 0
        self._body += part
        self._report_change()
        return len(self._body)

    def end_body(self) -> None:
        """Mark the request as received."""
        self.is_received = True
        self._report_change()

    def disconnect(self) -> None:
        """Report to the application that the client has gone."""
        self._is_disconnected = not self.is_answered
        self._report_change()

    def _report_change(self) -> None:
        self._has_changed = True
        if self._changed is not None:
            self._changed.set()

    async def _receive(self) -> Message:
        if not self._is_disconnected and not self.is_answered:
            if self._expects_continue:
                self._connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                self._expects_continue = False
            if not self._has_changed:
                self._changed = self._changed or asyncio.Event()
                await self._changed.wait()
            self._has_changed, self._changed = False, None
        if self._is_disconnected or self.is_answered:
            return {"type": "http.disconnect"}
        message = {
            "type": "http.request",
            "body": bytes(self._body),
            "more_body": not self.is_received,
        }
        self._body.clear()
        self._connection.resume_reading()
        return message

    async def _send(self, message: Message) -> None:
        connection = self._connection
        # Most times it is set, and waiting would take a coroutine for each message.
        if not connection.is_writable.is_set():
            await connection.is_writable.wait()
        if self.is_answered or self._is_disconnected or connection.transport.is_closing():
            self.disconnect()
            return
        if message["type"] == "http.response.start":
            self._expects_continue = False
            self._start(message["status"], message.get("headers", ()))
            return
        body = b"" if self.scope["method"] == "HEAD" else message.get("body", b"")
        if self._unsent is not None:
            self._unsent -= len(body)
        # In one write, so in one packet.
        connection.transport.write((self._head or b"") + body)
        self._head = b""
        if not message.get("more_body", False):
            self._end()

    def _start(self, status: int, given: RawHeaders) -> None:
        if self.scope["method"] != "HEAD" and status not in WITHOUT_BODY:
            length = next((value for name, value in given if name == b"content-length"), None)
            if length is None:
                # The end of the connection ends the body (RFC 9112, section 6.3).
                self.keep_alive = False
            else:
                self._unsent = int(length)
        headers = [*self._connection.server_state.default_headers, *given]
        if _CLOSE in given:
            self.keep_alive = False
        elif not self.keep_alive:
            headers.append(_CLOSE)
        self._head = response_head(status, headers)

    def _end(self) -> None:
        if self._unsent:
            raise ValueError("the body of the response is not as long as its Content-Length")
        self.is_answered = True
        self._report_change()
        self._connection.answered()
