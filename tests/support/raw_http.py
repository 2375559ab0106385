"""HTTP/1.1 as bytes on a socket, for requests that no client library sends."""

import re
import socket
from contextlib import suppress
from urllib.parse import urlsplit

from support.process import GatewayProcess

HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n"
LAST_HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"


def connect(process: GatewayProcess) -> socket.socket:
    """Open a connection to a gateway."""
    address = urlsplit(process.address)
    assert address.hostname is not None
    assert address.port is not None
    return socket.create_connection((address.hostname, address.port), timeout=60)


def receive_all(connection: socket.socket) -> bytes:
    """Return all bytes until the server closes the connection, or resets it."""
    received = bytearray()
    with suppress(ConnectionError):
        while piece := connection.recv(65536):
            received += piece
    return bytes(received)


def exchange(process: GatewayProcess, *pieces: bytes) -> bytes:
    """Send bytes piece by piece, and return the responses until the connection ends."""
    with connect(process) as connection:
        for piece in pieces:
            # After a refusal, the rest meets a closed connection.
            with suppress(ConnectionError):
                connection.sendall(piece)
        return receive_all(connection)


def statuses(responses: bytes) -> list[bytes]:
    """Return the status code of each response."""
    return re.findall(rb"HTTP/1.1 (\d+)", responses)
