"""A request parser that ignores offers to upgrade to another protocol.

curl and Java's HTTP client send such an offer with every request, and a server may ignore it
(RFC 9110, section 7.8). httptools stops parsing at the end of a head with an offer. The body and
all later requests are then parsed by a new parser, primed with how the body is framed.
"""

from array import array
from typing import Final, TypeAlias

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_Buffer: TypeAlias = "bytes | bytearray | memoryview[int] | array[int]"
_FRAMING_HEADERS: Final = frozenset({b"content-length", b"transfer-encoding"})


class RequestParser(httptools.HttpRequestParser):
    """Parses the requests of a connection.

    At an offered upgrade it replaces itself, as `protocol.parser`.
    """

    def __init__(self, protocol: HttpToolsProtocol, callbacks: object = None) -> None:
        super().__init__(callbacks or protocol)
        # As uvicorn does: accept data after a request that says `Connection: close`.
        self.set_dangerous_leniencies(lenient_data_after_close=True)
        self._protocol: Final = protocol

    def feed_data(self, data: _Buffer) -> None:
        """Parse data.

        Raises:
            httptools.HttpParserError: the data is not HTTP.
        """
        parser: httptools.HttpRequestParser = self
        while True:
            try:
                httptools.HttpRequestParser.feed_data(parser, data)
            except httptools.HttpParserUpgrade as offer:
                # Its argument is the offset of the first byte that was not parsed.
                data = memoryview(data)[offer.args[0] :]
                parser = _continue_after_head(self._protocol)
            else:
                return


def _continue_after_head(protocol: HttpToolsProtocol) -> RequestParser:
    """Give the protocol a parser that expects the body of its current request, and return it."""
    parser = protocol.parser = RequestParser(protocol, _CallbacksAfterHead(protocol))
    head = b"POST / HTTP/1.1\r\n" + b"".join(
        name + b": " + value + b"\r\n"
        for name, value in protocol.headers
        if name in _FRAMING_HEADERS
    )
    parser.feed_data(head + b"\r\n")
    return parser


class _CallbacksAfterHead:
    """Forwards a parser's callbacks, but not those of the first head: it primes the parser."""

    def __init__(self, protocol: HttpToolsProtocol) -> None:
        self._protocol: Final = protocol
        self._in_first_head = True
        self.on_body: Final = protocol.on_body
        self.on_message_complete: Final = protocol.on_message_complete

    def on_message_begin(self) -> None:
        """Forward the begin of a request."""
        if not self._in_first_head:
            self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Forward a request target, or a part of one."""
        if not self._in_first_head:
            self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Forward a header."""
        if not self._in_first_head:
            self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        """Forward the end of a head."""
        if not self._in_first_head:
            self._protocol.on_headers_complete()
        self._in_first_head = False
