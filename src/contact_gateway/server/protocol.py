"""HTTP/1.1 on one connection: limits on size and time, and a shutdown that drops no request.

It stands in for uvicorn's own protocol, which

- waits for ever for a request head, and for the rest of a body after its response;
- reads heads, chunk sizes and trailers of any length, and any number of headers;
- treats trailers as headers;
- refuses a malformed request before it answers the pipelined requests ahead of it;
- parses any number of pipelined requests ahead;
- resets connections while the client sends a body, so that proxies lose the response;
- drops the body of a request that offers an upgrade;
- at shutdown, closes new connections whose first request may be in flight;
- takes half of the instructions of a cheap request: it checks each header of a response by two
  regular expressions, and writes the head and the body separately.
"""

import asyncio
import logging
import socket
from collections import deque
from contextvars import copy_context
from typing import Any, Final, NamedTuple, cast
from urllib.parse import unquote

import httptools
import uvicorn
from starlette.types import ASGIApp, Scope
from uvicorn.server import ServerState

from contact_gateway.access.client_address import UNIX
from contact_gateway.faces.json_body import BODY_IS_BUFFERED
from contact_gateway.faces.request_context import SAME_HEAD
from contact_gateway.server.exchange import Exchange, response_head

IS_STOPPING: Final = "contact_gateway.is_stopping"
"""The key in the ASGI `state` of requests that arrive after the signal to stop."""

HEAD_TIMEOUT_SECONDS: Final = 30.0
"""A connection is closed if a request head takes longer to arrive."""

DRAIN_TIMEOUT_SECONDS: Final = 30.0
"""A connection is closed if the client takes longer to send the rest of a body after its response,
or to close its side after the last response."""

STOP_TIMEOUT_SECONDS: Final = 2.0
"""While the server stops, a connection without a request in flight is closed after this time."""

MAX_HEAD_BYTES: Final = 64 * 1024
"""Limit of a request head, and also of the framing of a body: its chunk sizes and trailers."""

MAX_HEADERS: Final = 100
"""Limit of the header lines of a request, as in Envoy and hyper. A short line takes 20 times its
length in memory, which an idle connection keeps."""

_MAX_UNREAD_BYTES: Final = 64 * 1024
"""Reading pauses while the application has not received more of a body than this."""

# The parser cannot be paused. The requests of one part take 2 MB at most: 18 bytes become 2 KB.
_MAX_PARSED_AT_ONCE: Final = 16 * 1024

# A client sends few different heads: they differ in the length of the body.
_MAX_KNOWN_HEADS: Final = 4
_MAX_KNOWN_HEAD_BYTES: Final = 2048

# A chunk with one byte has five bytes of framing, or a few more if its size has leading zeros.
_MAX_FRAMING_PER_BODY_BYTE: Final = 8

_VERSIONS: Final = frozenset({"1.0", "1.1"})
_END_OF_HEAD: Final = b"\r\n\r\n"
_FRAMING_HEADERS: Final = frozenset({b"content-length", b"transfer-encoding"})
_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}
# A TCP connection that was reset has no peer, which no setting trusts.
_UNIX_PEER: Final = (UNIX, 0)

_log = logging.getLogger(__name__)


class _RefusedHeadError(Exception):
    """A head is well-formed, but not accepted. The parser raises its own error from it."""

    def __init__(self, message: bytes, status: int = 400) -> None:
        super().__init__(message)
        self.message: Final = message
        self.status: Final = status


class _Head(NamedTuple):
    """The head of a request.

    Attributes:
        scope: the ASGI scope of the request, without its state.
        keep_alive: whether the client lets the connection stay open after the response.
        expects_continue: whether the client waits for a response before it sends the body.
        body_length: the length of the body in bytes, where the head is known.
    """

    scope: Scope
    keep_alive: bool
    expects_continue: bool
    body_length: int = 0


class HttpProtocol(asyncio.Protocol):
    """One connection of a client.

    Its parameters are those with which uvicorn creates the class that its option `http` names.
    """

    transport: asyncio.Transport
    _parser: httptools.HttpRequestParser

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        # Any: uvicorn's type of the application's state.
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        self._app: Final[ASGIApp] = config.loaded_app
        self._keep_alive_seconds: Final = config.timeout_keep_alive
        self.server_state: Final = server_state
        self._app_state: Final = app_state
        self._loop: Final = _loop or asyncio.get_running_loop()
        self._context: Final = copy_context()
        self._peer: tuple[str, int] | None = None
        self.is_writable = asyncio.Event()
        self.is_writable.set()
        self._unparsed = b""
        self._is_receiving = True
        """Whether data is parsed. Else it is discarded."""
        self._is_paused = False
        """Whether no data is read or parsed, because a body or a pipelined request waits."""
        self._last: Exchange | None = None
        """The last request with a complete head."""
        self._queue: Final[deque[Exchange]] = deque()
        """The requests in flight, and pipelined ones that wait for their turn."""
        self._head: _Head | None = None
        """The last complete head."""
        self._known_heads: Final[dict[bytes, _Head | None]] = {}
        """Heads that were parsed before; None after the first time, since many heads come once.
        They contain the client's credential, so the connection does not share them with others, or
        leave them behind."""
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._overhead: int | None = None
        """Bytes parsed after the part of the data in which the current head or body began, without
        the body and its normal framing. None between requests."""
        self._in_head = False
        """Whether a request head is being received. The parser reports trailers as headers, too."""
        self._closes_at: float | None = None
        """When the connection is closed, by the event loop's clock. Set while it is idle, waits for
        a head, or drains a body."""
        self._timer: asyncio.TimerHandle | None = None
        """Goes off at that time or before it: a timer for each request would cost more than its
        parsing."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start serving a connection."""
        self.transport = cast(asyncio.Transport, transport)
        # uvicorn's type lists its own classes.
        self.server_state.connections.add(self)  # type: ignore[arg-type]
        connection: socket.socket | None = transport.get_extra_info("socket")
        peer = transport.get_extra_info("peername")
        if connection is not None and connection.family == socket.AF_UNIX:
            self._peer = _UNIX_PEER
        elif isinstance(peer, tuple):
            self._peer = peer[0], peer[1]
        self._parser = self._new_parser()
        self._close_after(HEAD_TIMEOUT_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Release the connection's resources."""
        del exc
        if self._timer is not None:
            self._timer.cancel()
        self.server_state.connections.discard(self)
        for exchange in self._queue:
            exchange.disconnect()
        self.is_writable.set()
        # They refer to this object, which would wait for the garbage collector.
        self._queue.clear()
        self._last = None
        self._is_receiving = False
        self._unparsed = b""
        del self._parser

    def eof_received(self) -> bool:
        """Close the connection, but after the responses in flight."""
        return self._stop_receiving()

    def pause_writing(self) -> None:
        """Have the application wait: the client does not read."""
        self.is_writable.clear()

    def resume_writing(self) -> None:
        """Let the application go on."""
        self.is_writable.set()

    def resume_reading(self) -> None:
        """Read from the connection, unless it is closing or a pipelined request waits."""
        if self._is_paused and len(self._queue) <= 1 and not self.transport.is_closing():
            self._is_paused = False
            # Called in the task of a request, whose id the log lines of later ones must not have.
            self._context.run(self.data_received, b"")
            if not self._is_paused:
                self.transport.resume_reading()

    def _pause_reading(self) -> None:
        self._is_paused = True
        self.transport.pause_reading()

    def _stop_receiving(self) -> bool:
        """Discard further data; return whether responses are in flight, which end the connection.

        An incomplete request gets no response.
        """
        self._is_receiving = False
        self._unparsed = b""
        if self._queue and not self._queue[-1].is_received:
            self._queue.pop().disconnect()
        if not self._queue:
            return False
        self._queue[-1].keep_alive = False
        return True

    def _linger(self) -> None:
        """Close the connection when the client has closed its side, or after a while.

        Data that arrives at a closed connection resets it, and the client or a proxy may then lose
        the response (RFC 9112, section 9.6).
        """
        self._stop_receiving()
        self.transport.write_eof()
        is_stopping = IS_STOPPING in self._app_state
        self._close_after(STOP_TIMEOUT_SECONDS if is_stopping else DRAIN_TIMEOUT_SECONDS)

    def _close_after(self, seconds: float) -> None:
        self._closes_at = closes_at = self._loop.time() + seconds
        if self._timer is None or self._timer.when() > closes_at:
            self._set_timer(closes_at)

    def _set_timer(self, moment: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(moment, self._check_time)

    def _check_time(self) -> None:
        self._timer = None
        if self._closes_at is None:
            return
        if self._closes_at > self._loop.time():
            self._set_timer(self._closes_at)
        elif not self._stop_receiving():
            self.transport.close()

    def shutdown(self) -> None:
        """Close the connection after the responses in flight.

        A first request may be in flight, or the head of the next one may be arriving.
        """
        if self._last is None or self._in_head:
            self._loop.call_later(STOP_TIMEOUT_SECONDS, self._shut_down)
        else:
            self._shut_down()

    def _shut_down(self) -> None:
        if self._queue:
            self._queue[-1].keep_alive = False
        else:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Parse data until reading pauses, and enforce the limits."""
        if not self._is_receiving:
            return
        self._unparsed += data
        while self._unparsed and not self._is_paused:
            part = self._unparsed[:_MAX_PARSED_AT_ONCE]
            self._unparsed = self._unparsed[_MAX_PARSED_AT_ONCE:]
            try:
                self._take(part)
            except httptools.HttpParserError as error:
                _log.warning("Invalid HTTP request received.")
                refused = error.__context__
                if isinstance(refused, _RefusedHeadError):
                    self._refuse(refused.message, refused.status)
                else:
                    self._refuse(b"Invalid HTTP request received.")
                return
            if self._overhead is not None and self._overhead > MAX_HEAD_BYTES:
                where = b"head" if self._in_head else b"framing"
                self._refuse(b"The %b of the request is too large." % where)
                return
        if self._in_head and self._closes_at is None and not self._is_paused:
            self._close_after(HEAD_TIMEOUT_SECONDS)

    def _take(self, data: bytes) -> None:
        """Parse data, unless it is a whole request with a known head."""
        if self._overhead is not None:
            self._overhead += len(data)
            self._parse(data)
            return
        end = data.find(_END_OF_HEAD) + len(_END_OF_HEAD)
        raw, length = data[:end], len(data) - end
        known = self._known_heads.get(raw)
        if known is not None and known.body_length == length:
            exchange = self._begin(known)
            exchange.add_to_body(data[end:])
            exchange.end_body()
            return
        self._head = None
        self._parse(data)
        self._remember(raw, length)

    def _remember(self, raw: bytes, length: int) -> None:
        """Remember a head at its second time, if all that came after it is its body."""
        head = self._head
        if head is None or self._overhead is not None or len(raw) > _MAX_KNOWN_HEAD_BYTES:
            return
        if raw not in self._known_heads:
            if len(self._known_heads) >= _MAX_KNOWN_HEADS:
                self._known_heads.clear()
            self._known_heads[raw] = None
            return
        # It is greater with several heads, or with a body in chunks.
        if length == int(dict(head.scope["headers"]).get(b"content-length", 0)):
            scope = {**head.scope, "extensions": {BODY_IS_BUFFERED: {}, SAME_HEAD: {}}}
            self._known_heads[raw] = head._replace(scope=scope, body_length=length)

    def _parse(self, data: bytes) -> None:
        """Parse data, and ignore offers to upgrade to another protocol (RFC 9110, section 7.8).

        curl and Java's HTTP client send one with every request. The parser stops at the end of its
        head, so a new one, primed with how the body is framed, parses what follows.
        """
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                # Its argument is the offset of the first byte that was not parsed.
                rest = data[offer.args[0] :]
                framing = (
                    b"%b: %b" % each for each in self._headers if each[0] in _FRAMING_HEADERS
                )
                data = b"\r\n".join((b"POST / HTTP/1.1", *framing, b"", rest))
                self._parser = self._new_parser()
            else:
                return

    def _new_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        # Parse what follows a request that says `Connection: close`. Trailers can say it, too.
        parser.set_dangerous_leniencies(lenient_keep_alive=True)
        return parser

    def _refuse(self, message: bytes, status: int = 400) -> None:
        """Refuse a malformed request, unless an earlier response would be sent after the refusal.

        Responses have the order of their requests (RFC 9112, section 9.3.2): a client would take
        the refusal for the response to its creation. Then the connection is only closed.
        """
        last = self._last
        is_answered = last is not None and not last.is_received and last.is_started
        if self._stop_receiving():
            return
        if not is_answered:
            headers = (
                *self.server_state.default_headers,
                (b"content-type", b"text/plain; charset=utf-8"),
                (b"content-length", b"%d" % len(message)),
                (b"connection", b"close"),
            )
            self.transport.write(response_head(status, headers) + message)
        self._linger()

    def on_message_begin(self) -> None:
        """Start a request, unless its head only primes a parser."""
        if self._last is not None and not self._last.is_received:
            return
        self._url, self._headers = b"", []
        self._overhead, self._in_head = 0, True
        self._closes_at = None

    def on_url(self, url: bytes) -> None:
        """Add a part of the request target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header. Trailers are ignored (RFC 9110, section 6.5.1)."""
        if self._in_head:
            if len(self._headers) >= MAX_HEADERS:
                raise _RefusedHeadError(b"The request has more than %d headers." % MAX_HEADERS)
            # White space after a value is not part of it (RFC 9112, section 5.1).
            self._headers.append((name.lower(), value.rstrip(b" \t")))

    def request_state(self) -> dict[str, Any]:
        """Return the ASGI `state` of a new request."""
        return self._app_state.copy()

    def on_headers_complete(self) -> None:
        """Begin the request."""
        if not self._in_head:
            return
        version = self._parser.get_http_version()
        if version not in _VERSIONS:
            # The parser also knows HTTP/2.0, and request lines without a version.
            raise httptools.HttpParserError(f"HTTP version {version}")
        headers = dict(self._headers)
        if b"transfer-encoding" in headers:
            self._require_chunked(version)
        url = httptools.parse_url(self._url)
        if url.host is not None:
            # RFC 9112, section 3.2.2: the host of a target replaces that of `Host`.
            host = self._url.split(b"/", 3)[2].partition(b"?")[0]
            self._headers = [
                (name, host if name == b"host" else value) for name, value in self._headers
            ]
        # RFC 9112, section 3.2.2: a target such as `http://host` has the path `/`.
        raw_path = url.path or b"/"
        scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "method": self._parser.get_method().decode("ascii"),
            "scheme": "http",
            "path": unquote(raw_path.decode("ascii")),
            "raw_path": raw_path,
            "query_string": url.query or b"",
            "root_path": "",
            "headers": tuple(self._headers),
            "client": self._peer,
            "server": None,
        }
        self._head = _Head(
            scope,
            keep_alive=version != "1.0" and self._parser.should_keep_alive(),
            # RFC 9110, section 10.1.1: ignore the expectation of an HTTP/1.0 client.
            expects_continue=(
                version != "1.0" and headers.get(b"expect", b"").lower() == b"100-continue"
            ),
        )
        self._overhead, self._in_head = 0, False
        self._begin(self._head)

    def _begin(self, head: _Head) -> Exchange:
        """Start the application, or queue the request. Reading the body has its own timeout."""
        state = self.request_state()
        self._last = exchange = Exchange(
            self,
            {**head.scope, "state": state},
            # While the server stops, the client should send its next request to another process.
            keep_alive=head.keep_alive and IS_STOPPING not in state,
            expects_continue=head.expects_continue,
        )
        self._closes_at = None
        self._queue.append(exchange)
        if len(self._queue) == 1:
            self._start(exchange)
        else:
            self._pause_reading()
        return exchange

    def _require_chunked(self, version: str) -> None:
        """Refuse a body in another coding than chunked (RFC 9112, section 6.1).

        The parser itself refuses it only if chunked is not the last one.
        """
        if version == "1.0":
            raise httptools.HttpParserError("a transfer coding in HTTP/1.0")
        lines = b",".join(value for name, value in self._headers if name == b"transfer-encoding")
        *others, last = (coding.strip() for coding in lines.lower().split(b","))
        if last == b"chunked" and {*others} - {b"", b"chunked"}:
            raise _RefusedHeadError(b"Use no transfer coding other than chunked.", status=501)

    def _start(self, exchange: Exchange) -> None:
        # A pipelined request starts in the task of the one ahead, whose trace it must not continue.
        context = self._context.copy()
        task = self._loop.create_task(exchange.run(self._app), context=context)
        self.server_state.tasks.add(task)
        task.add_done_callback(self.server_state.tasks.discard)

    def on_body(self, body: bytes) -> None:
        """Add a part of the body. Its size has its own limit."""
        if self._overhead is not None:
            expected = (1 + _MAX_FRAMING_PER_BODY_BYTE) * len(body)
            self._overhead = max(0, self._overhead - expected)
        if self._last is not None and self._last.add_to_body(body) > _MAX_UNREAD_BYTES:
            self._pause_reading()

    def on_message_complete(self) -> None:
        """End the request, and mark it if its body arrived before the application started."""
        if self._last is None or self._parser.should_upgrade():
            # The body is yet to come.
            return
        self._overhead = None
        self._last.scope["extensions"] = {BODY_IS_BUFFERED: {}}
        self._last.end_body()
        if self._last.is_answered:
            self._close_after(self._keep_alive_seconds)

    def answered(self) -> None:
        """Handle the next request, or wait for it, or drain the rest of this one's body."""
        exchange = self._queue.popleft()
        if self.transport.is_closing():
            return
        if not exchange.keep_alive and exchange.is_received:
            self.transport.close()
        elif not exchange.keep_alive:
            self._linger()
        elif self._queue:
            self._start(self._queue[0])
        elif not exchange.is_received:
            self._close_after(DRAIN_TIMEOUT_SECONDS)
        elif not self._in_head:
            self._close_after(self._keep_alive_seconds)
        self.resume_reading()
