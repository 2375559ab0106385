"""The server's connections: answers leave in one piece, a stop breaks off none that began.

uvicorn also reads what is no body without a bound of size or time, takes what comes after a body
for headers, answers what is no request before the requests in front of it, and leaves out the body
of a request that offers to speak another protocol. All that is set right here.
"""

import asyncio
from array import array
from typing import Final, TypeAlias, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from contact_gateway.faces.json_body import BODY_IS_BUFFERED

FIRST_REQUEST_WITHIN_SECONDS: Final = 2.0
"""How long a server that stops waits for the first request of a connection that it has taken."""

HEAD_WITHIN_SECONDS: Final = 30.0
"""How long a head may take to arrive: one without an end would hold its connection for ever."""

REST_WITHIN_SECONDS: Final = 30.0
"""How long the rest of a body may take that nobody waits for, since the request is answered."""

MAX_HEAD_BYTES: Final = 64 * 1024
"""A head that has not ended by then is refused: one without an end would take all memory. So is
what stands beside a body: the sizes of its chunks, and what they call trailers."""

# A chunk of one byte has five bytes beside it, or some more where its size begins with zeros.
_BYTES_BESIDE_A_BYTE: Final = 8
_Buffer: TypeAlias = "bytes | bytearray | memoryview[int] | array[int]"
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol, on a connection that writes together and reads within bounds."""

    _bytes_beside: int | None = None
    """How much has arrived since the piece that a request began in, without what bodies may bring;
    None where no request is on its way."""

    _is_in_head: bool = False
    """Whether what arrives is a head; what a body ends with is called a header too."""

    _deadline: asyncio.TimerHandle | None = None
    """Runs while a head is waited for, or the rest of a body that nobody waits for."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve a connection."""
        super().connection_made(CoalescingTransport(cast(asyncio.Transport, transport)))
        self.parser = _Parser(self, self)
        self._close_in(HEAD_WITHIN_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """End with the connection."""
        self._stop_waiting()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio's own may return one
        """Take note that no more will come; who waits for an answer gets it."""
        if not self._is_answering():
            return False
        self.cycle.keep_alive = False
        return True

    @property
    def _last(self) -> RequestResponseCycle | None:
        """The last request that has a head: unlike uvicorn's attribute, it tells of none too."""
        return self.cycle

    def _is_answering(self) -> bool:
        """Tell whether the last request has come whole and is not answered yet."""
        last = self._last
        return last is not None and not last.response_complete and not last.more_body

    def _is_behind_its_answer(self) -> bool:
        """Tell whether what arrives is the rest of a request that is answered already."""
        last = self._last
        return (
            self._bytes_beside is not None
            and not self._is_in_head
            and last is not None
            and last.response_complete
        )

    def _close_in(self, seconds: float) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(seconds, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def shutdown(self) -> None:
        """Close the connection once what was asked on it is answered.

        On a new one, which uvicorn would close, the first request may be on its way.
        """
        if self._last is None:
            self.loop.call_later(FIRST_REQUEST_WITHIN_SECONDS, super().shutdown)
        else:
            super().shutdown()

    def data_received(self, data: bytes) -> None:
        """Take some bytes of a request."""
        if self._bytes_beside is not None:
            self._bytes_beside += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._bytes_beside is None:
            self._await_next()
        elif self._bytes_beside > MAX_HEAD_BYTES:
            what = "head" if self._is_in_head else "framing"
            self.send_400_response(f"The {what} of the request is too large.")
        elif self._is_in_head and self._deadline is None:
            self._close_in(HEAD_WITHIN_SECONDS)

    def _await_next(self) -> None:
        """Wait for the next request no longer than before what came, which was none."""
        last = self._last
        if self.timeout_keep_alive_task is None and last is not None and last.response_complete:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request, after the answers to those in front of it.

        These come in their order (RFC 9112, section 9.3.2), so a connection with any is just closed
        after them: a creation is not to be taken for refused.
        """
        if self._is_answering():
            self.cycle.keep_alive = False
            self.flow.pause_reading()
        elif self._is_behind_its_answer():
            self.transport.close()
        else:
            super().send_400_response(msg)

    def on_message_begin(self) -> None:
        """Begin to count."""
        super().on_message_begin()
        self._bytes_beside, self._is_in_head = 0, True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, but none from behind a body (RFC 9110, section 6.5.1)."""
        if self._is_in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Wait no longer: who reads the body does, within a bound of their own."""
        if self.expect_100_continue and self.parser.get_http_version() == "1.0":
            self.expect_100_continue = False
        super().on_headers_complete()
        self._bytes_beside, self._is_in_head = 0, False
        self._stop_waiting()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body, which has a bound of its own."""
        if self._bytes_beside is not None:
            beside = self._bytes_beside - (1 + _BYTES_BESIDE_A_BYTE) * len(body)
            self._bytes_beside = max(0, beside)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Tell the application, which has not begun where all came in one piece."""
        if self.parser.should_upgrade():
            # The parser has left out the body, which is still to come.
            return
        self._bytes_beside = None
        self._stop_waiting()
        self.scope["extensions"] = {BODY_IS_BUFFERED: {}}
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the rest of the request, if there is any, but not for ever."""
        super().on_response_complete()
        if self._is_behind_its_answer():
            self._close_in(REST_WITHIN_SECONDS)

    def read_on(self) -> "_Parser":
        """Return the parser of the body of a request that offers to speak another protocol.

        A server may leave such an offer alone (RFC 9110, section 7.8): curl and Java make it with
        any request. The parser of its head takes all that follows for the other protocol; this one
        knows of the head no more than how the body is framed.
        """
        self.parser = _Parser(_BehindHead(self), self)
        framing = (
            name + b": " + value + b"\r\n" for name, value in self.headers if name in _FRAMING
        )
        self.parser.feed_data(b"POST / HTTP/1.1\r\n" + b"".join(framing) + b"\r\n")
        return self.parser


class _Parser(httptools.HttpRequestParser):
    """httptools' parser of requests, which reads on where they offer another protocol."""

    def __init__(self, told: object, protocol: HttpProtocol) -> None:
        super().__init__(told)
        # uvicorn's own leniency: a request may follow one that was to be the last.
        self.set_dangerous_leniencies(lenient_data_after_close=True)
        self._protocol: Final = protocol

    def feed_data(self, data: _Buffer) -> None:
        """Parse some bytes."""
        try:
            super().feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._read_on(memoryview(data)[offer.args[0] :])

    def _read_on(self, rest: "memoryview[int]") -> None:
        parser = self._protocol.read_on()
        while True:
            try:
                httptools.HttpRequestParser.feed_data(parser, rest)
            except httptools.HttpParserUpgrade as offer:
                rest = rest[offer.args[0] :]
                parser = self._protocol.read_on()
            else:
                return


class _BehindHead:
    """What a parser tells of a connection from behind a head that was told already."""

    def __init__(self, protocol: HttpProtocol) -> None:
        self._protocol: Final = protocol
        self._is_told = True
        self.on_body: Final = protocol.on_body
        self.on_message_complete: Final = protocol.on_message_complete

    def on_message_begin(self) -> None:
        """Begin the next request."""
        if not self._is_told:
            self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Take the target of the next request."""
        if not self._is_told:
            self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header of the next request."""
        if not self._is_told:
            self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        """End a head."""
        if not self._is_told:
            self._protocol.on_headers_complete()
        self._is_told = False


class CoalescingTransport(asyncio.Transport):
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
