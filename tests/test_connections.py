"""The server's connections: an answer leaves in one piece, and a connection ends in its order."""

import asyncio
import re
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from tenacity import TryAgain, retry, retry_if_not_exception_type, stop_after_delay

from contact_gateway import connections
from contact_gateway.connections import MAX_HEAD_BYTES, WrittenTogether
from gateway_process import GatewayProcess, gateway_process

HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n"
LAST_HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"


class _Wire(asyncio.Transport):
    """A transport that notes what happens on it."""

    def __init__(self) -> None:
        super().__init__()
        self.happened: list[object] = []
        self.is_gone = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.happened.append(bytes(data))

    def close(self) -> None:
        self.happened.append("close")

    def abort(self) -> None:
        self.happened.append("abort")

    def is_closing(self) -> bool:
        return self.is_gone


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with gateway_process(tmp_path_factory.mktemp("connections")) as process:
        yield process


def _connected(process: GatewayProcess) -> socket.socket:
    address = urlsplit(process.address)
    assert address.hostname is not None
    assert address.port is not None
    return socket.create_connection((address.hostname, address.port), timeout=20)


def test_an_answer_arrives_in_one_piece(process: GatewayProcess) -> None:
    with _connected(process) as connection:
        for _ in range(20):
            connection.sendall(HEALTHZ)
            answer = connection.recv(65536)

            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert answer.endswith(b'\r\n\r\n{"status":"ok"}')


def test_answers_to_requests_sent_together_come_in_their_order(process: GatewayProcess) -> None:
    paths = [b"/healthz", b"/nowhere", b"/healthz"]
    with _connected(process) as connection:
        request = b"GET %s HTTP/1.1\r\nHost: here\r\n%s\r\n"
        last = len(paths) - 1
        connection.sendall(
            b"".join(
                request % (path, b"Connection: close\r\n" if number == last else b"")
                for number, path in enumerate(paths)
            )
        )
        answers = b"".join(iter(lambda: connection.recv(65536), b""))

    statuses = [part[1:4] for part in answers.split(b"HTTP/1.1")[1:]]
    assert statuses == [b"200", b"404", b"200"]


def test_a_request_that_is_none_is_refused_and_the_connection_closed(
    process: GatewayProcess,
) -> None:
    with _connected(process) as connection:
        connection.sendall(b"\x16\x03\x01 no HTTP\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))

    assert answer.startswith(b"HTTP/1.1 400 ")


def test_a_request_on_its_way_is_answered_though_the_server_is_told_to_stop(
    tmp_path: Path,
) -> None:
    with gateway_process(tmp_path) as process:
        with _connected(process) as connection, _connected(process) as another:
            _answer_to_healthz(another)
            process.send(signal.SIGTERM)
            _wait_until_closed(process)
            answer = _answer_to_healthz(connection)

            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert process.exit_status() == 0


def _answer_to_healthz(connection: socket.socket) -> bytes:
    connection.sendall(HEALTHZ)
    return connection.recv(65536)


@retry(retry=retry_if_not_exception_type(ConnectionRefusedError), stop=stop_after_delay(20))
def _connect_once_more(process: GatewayProcess) -> None:
    _connected(process).close()
    raise TryAgain


def _wait_until_closed(process: GatewayProcess) -> None:
    with pytest.raises(ConnectionRefusedError):
        _connect_once_more(process)


def test_many_requests_sent_together_are_no_long_head(process: GatewayProcess) -> None:
    many = 4 * MAX_HEAD_BYTES // len(HEALTHZ)
    answers = bytearray()
    with _connected(process) as connection:
        sender = Thread(target=connection.sendall, args=(HEALTHZ * many + LAST_HEALTHZ,))
        sender.start()
        while received := connection.recv(65536):
            answers += received
        sender.join()

    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"200"] * (many + 1)


def test_a_long_head_is_read(process: GatewayProcess) -> None:
    with _connected(process) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: here\r\nConnection: close\r\n")
        connection.sendall(b"X-Padding: " + b"x" * (MAX_HEAD_BYTES - 1_000) + b"\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))

    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("many", [b"x", b"x\r\nX-Padding: "], ids=["one header", "many headers"])
def test_a_head_without_an_end_is_refused_and_the_connection_closed(
    process: GatewayProcess, many: bytes
) -> None:
    answer = bytearray()
    with _connected(process) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: here\r\nX-Padding: ")
        # What is sent after the refusal meets a connection that is closed.
        with suppress(ConnectionError):
            connection.sendall(many * (4 * MAX_HEAD_BYTES // len(many)))
        with suppress(ConnectionError):
            while received := connection.recv(65536):
                answer += received

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.endswith(b"The head of the request is too large.")


@pytest.mark.anyio
class TestAHead:
    """How long a head may take to arrive."""

    @pytest.fixture
    async def port(self, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
        """Serve in this process, and be impatient."""
        monkeypatch.setattr(connections, "HEAD_WITHIN_SECONDS", 0.1)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await PlainTextResponse("fine")(scope, receive, send)

        config = uvicorn.Config(
            app, http=connections.HttpProtocol, lifespan="off", log_config=None, access_log=False
        )
        server = uvicorn.Server(config)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            yield listener.getsockname()[1]
            server.should_exit = True
            await serving

    @pytest.mark.parametrize(
        "sent",
        [
            pytest.param(b"", id="nothing"),
            pytest.param(HEALTHZ[:-2], id="all but its end"),
            pytest.param(HEALTHZ + HEALTHZ[:-2], id="all but the end of a second one"),
        ],
    )
    async def test_that_does_not_come_is_not_waited_for(self, port: int, sent: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        async with asyncio.timeout(10):
            answers = await reader.read()
        writer.close()
        await writer.wait_closed()

        assert answers.count(b"HTTP/1.1 200 OK") == sent.count(HEALTHZ)

    async def test_that_has_come_is_no_reason_to_close(self, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(3):
            writer.write(HEALTHZ)
            assert (await reader.readuntil(b"fine")).startswith(b"HTTP/1.1 200 OK")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.15):
                    await reader.read()
        writer.close()
        await writer.wait_closed()


@pytest.mark.anyio
class TestAConnection:
    """What a connection makes of what is written to it."""

    async def test_writes_together_what_one_step_wrote(self) -> None:
        wire = _Wire()
        connection = WrittenTogether(wire)
        connection.write(b"head ")
        connection.write(b"body")
        assert wire.happened == []
        await asyncio.sleep(0)
        connection.write(b"more")
        await asyncio.sleep(0)

        assert wire.happened == [b"head body", b"more"]

    async def test_closes_after_what_was_written(self) -> None:
        wire = _Wire()
        connection = WrittenTogether(wire)
        connection.write(b"last")
        connection.close()
        await asyncio.sleep(0)

        assert wire.happened == [b"last", "close"]

    async def test_writes_nothing_once_it_is_aborted(self) -> None:
        wire = _Wire()
        connection = WrittenTogether(wire)
        connection.write(b"last")
        connection.abort()
        await asyncio.sleep(0)

        assert wire.happened == ["abort"]

    async def test_writes_nothing_to_who_has_gone(self) -> None:
        wire = _Wire()
        connection = WrittenTogether(wire)
        connection.write(b"last")
        wire.is_gone = True
        await asyncio.sleep(0)

        assert wire.happened == []
