"""A proxy in front of PostgreSQL that records what its clients send."""

import socket
import socketserver
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedIOBase
from threading import Lock, Thread
from typing import Final, NamedTuple, cast
from urllib.parse import urlencode

import psycopg
from psycopg.conninfo import conninfo_to_dict

_SSL_REQUEST: Final = 80877103
_GSS_ENCRYPTION_REQUEST: Final = 80877104
_CHUNK: Final = 65536


class Recording:
    """What clients sent, each text once, in the order of its first occurrence."""

    def __init__(self, url: str) -> None:
        self.url: Final = url
        """The URL of the proxy."""
        self._lock: Final = Lock()
        self._statements: Final[dict[str, None]] = {}
        self._startup_parameters: Final[set[str]] = set()
        self._prepared_names: Final[set[str]] = set()

    @property
    def statements(self) -> tuple[str, ...]:
        with self._lock:
            return tuple(self._statements)

    @property
    def startup_parameters(self) -> frozenset[str]:
        """The names of the parameters that clients sent with their first message."""
        with self._lock:
            return frozenset(self._startup_parameters)

    @property
    def prepared_names(self) -> frozenset[str]:
        """The names of statements that clients prepared: such statements outlive a transaction."""
        with self._lock:
            return frozenset(self._prepared_names)

    def add(self, message: "_Message") -> None:
        """Record a message of a client."""
        with self._lock:
            match message.kind:
                case b"":
                    names_and_values = message.payload[4:].rstrip(b"\0").split(b"\0")
                    self._startup_parameters.update(name.decode() for name in names_and_values[::2])
                case b"Q":
                    self._statements.setdefault(message.payload.rstrip(b"\0").decode())
                case b"P":
                    name, text, _ = message.payload.split(b"\0", 2)
                    self._statements.setdefault(text.decode())
                    if name:
                        self._prepared_names.add(name.decode())
                case _:
                    pass


class _Message(NamedTuple):
    """A message of a client. The first one, with its parameters, has no kind."""

    kind: bytes
    payload: bytes
    raw: bytes


@contextmanager
def recorded_sql(url: str) -> Iterator[Recording]:
    """Run a proxy in front of a server, and record what passes through it."""
    options = conninfo_to_dict(url)
    with psycopg.connect(url) as probe:
        host, port = probe.info.host, probe.info.port
    with _Proxy(host, port) as proxy:
        own = {**options, "host": "127.0.0.1", "port": proxy.server_address[1]}
        proxy.recording = Recording(f"postgresql:///?{urlencode(own)}")
        thread = Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield proxy.recording
        finally:
            proxy.shutdown()
            thread.join()


class _Proxy(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    recording: Recording

    def __init__(self, host: str, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self._host: Final = host
        self._port: Final = port

    def connect(self) -> socket.socket:
        """Connect to the server."""
        if not self._host.startswith("/"):
            return socket.create_connection((self._host, self._port))
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(f"{self._host}/.s.PGSQL.{self._port}")
        return connection


class _Session(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        """Forward the messages of one client until it ends the connection."""
        proxy = cast("_Proxy", self.server)
        with proxy.connect() as server:
            answers = Thread(target=_copy, args=(server, self.connection))
            answers.start()
            with suppress(ConnectionError):
                for message in _messages(self.rfile):
                    proxy.recording.add(message)
                    server.sendall(message.raw)
            with suppress(OSError):
                server.shutdown(socket.SHUT_WR)
            answers.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(_CHUNK):
            target.sendall(chunk)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


def _messages(stream: BufferedIOBase) -> Iterator[_Message]:
    is_started = False
    while (message := _message(stream, has_kind=is_started)) is not None:
        code = int.from_bytes(message.payload[:4])
        if is_started or code not in {_SSL_REQUEST, _GSS_ENCRYPTION_REQUEST}:
            yield message
            is_started = True
        else:
            # The server refuses: it is reached without encryption.
            yield message._replace(kind=b"encryption")


def _message(stream: BufferedIOBase, *, has_kind: bool) -> _Message | None:
    kind = stream.read(1) if has_kind else b""
    size = stream.read(4)
    if len(size) < 4:
        return None
    payload = stream.read(int.from_bytes(size) - 4)
    return _Message(kind, payload, kind + size + payload)
