"""The server's connections: an answer leaves in one piece, and a connection ends in its order."""

import asyncio
import re
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from tenacity import TryAgain, retry, retry_if_not_exception_type, stop_after_delay

from contact_gateway.server import connections
from contact_gateway.server.connections import MAX_HEAD_BYTES, CoalescingTransport
from support.process import GatewayProcess, gateway_process

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


def _asked(process: GatewayProcess, *pieces: bytes) -> bytes:
    """Send some bytes, piece by piece, and return what is answered until the connection ends."""
    answers = bytearray()
    with _connected(process) as connection:
        for piece in pieces:
            with suppress(ConnectionError):
                connection.sendall(piece)
        with suppress(ConnectionError):
            while received := connection.recv(65536):
                answers += received
    return bytes(answers)


def _statuses(answers: bytes) -> list[bytes]:
    return re.findall(rb"HTTP/1.1 (\d+)", answers)


class TestARequestThatOffersAnotherProtocol:
    """What curl and Java send by default is answered as if it did not offer anything."""

    HEAD = (
        b"POST /graphql HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    )
    BODY = b'{"query": "{ __typename }"}'
    BY_LENGTH = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
    IN_CHUNKS = (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    )

    @pytest.mark.parametrize("request_", [BY_LENGTH, IN_CHUNKS], ids=["by length", "in chunks"])
    @pytest.mark.parametrize("cut", [None, -1, -20, -40], ids=str)
    def test_has_its_body_read(
        self, process: GatewayProcess, request_: bytes, cut: int | None
    ) -> None:
        pieces = (request_,) if cut is None else (request_[:cut], request_[cut:])
        answers = _asked(process, *pieces[:-1], pieces[-1] + request_ + LAST_HEALTHZ)

        assert _statuses(answers) == [b"200", b"200", b"200"]
        assert answers.count(b'{"data":{"__typename":"Query"}}') == 2

    def test_has_no_body_that_is_another_request(self, process: GatewayProcess) -> None:
        head = self.HEAD.replace(
            b"Upgrade: h2c", b"Upgrade: h2c\r\nContent-Length: %d" % len(HEALTHZ)
        )

        assert _statuses(_asked(process, head + b"\r\n", HEALTHZ, LAST_HEALTHZ)) == [b"400", b"200"]

    def test_may_come_many_times_in_one_piece(self, process: GatewayProcess) -> None:
        many = 1_500
        healthz = HEALTHZ[:-2] + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"

        answers = _asked(process, healthz * many + LAST_HEALTHZ)

        assert _statuses(answers) == [b"200"] * (many + 1)


class TestWhatStandsBesideABody:
    """The sizes of chunks, and what comes behind the last one."""

    HEAD = (
        b"POST %b HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    )

    def test_is_no_header(self, process: GatewayProcess) -> None:
        behind = b"X-Api-Key: anything\r\nX-Request-Id: from-behind\r\n\r\n"
        answers = _asked(process, self.HEAD % b"/api/v1/contacts" + behind, LAST_HEALTHZ)

        assert _statuses(answers) == [b"401", b"200"]
        assert b"An API key is required" in answers
        assert b"from-behind" not in answers

    @pytest.mark.parametrize("path", [b"/graphql", b"/api/v1/contacts"], ids=["read", "not read"])
    @pytest.mark.parametrize("endless", [b"x" * 1_000, b"x\r\na: "], ids=["one", "many"])
    def test_has_an_end(self, process: GatewayProcess, path: bytes, endless: bytes) -> None:
        many = 8 * MAX_HEAD_BYTES // len(endless)
        answers = _asked(process, self.HEAD % path, b"a: ", endless * many)

        # The body of the one is waited for, that of the other is not.
        assert _statuses(answers) == ([b"400"] if path == b"/graphql" else [b"401"])

    def test_is_more_than_the_body_where_that_comes_a_byte_at_a_time(
        self, process: GatewayProcess
    ) -> None:
        body = b'{"query": "{ __typename }", "extensions": {"x": "%b"}}' % (b"x" * 20_000)
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
        head, _ = (self.HEAD % b"/graphql").split(b"2\r\n", 1)

        answers = _asked(process, head, chunks, b"0\r\n\r\n" + LAST_HEALTHZ)

        assert _statuses(answers) == [b"200", b"200"]


def test_white_space_around_a_header_is_no_part_of_it(process: GatewayProcess) -> None:
    answers = _asked(process, LAST_HEALTHZ[:-2] + b"X-Request-Id: \t mine \t \r\n\r\n")

    assert b"x-request-id: mine\r\n" in answers


@pytest.mark.parametrize(
    ("version", "hosts", "status"),
    [
        (b"1.1", 0, b"400"),
        (b"1.1", 1, b"200"),
        (b"1.1", 2, b"400"),
        (b"1.0", 0, b"200"),
        (b"1.0", 2, b"400"),
    ],
)
def test_a_request_names_one_host(
    process: GatewayProcess, version: bytes, hosts: int, status: bytes
) -> None:
    head = b"GET /healthz HTTP/%b\r\nConnection: close\r\n%b\r\n"

    assert _statuses(_asked(process, head % (version, b"Host: here\r\n" * hosts))) == [status]


@pytest.mark.parametrize("path", [b"/healthz", b"/graphql", b"/api/v1/contacts/1"])
def test_a_path_that_ends_in_a_line_break_is_another(process: GatewayProcess, path: bytes) -> None:
    answers = _asked(process, LAST_HEALTHZ.replace(b"/healthz", path + b"%0A"))

    assert _statuses(answers) == [b"404"]


def test_a_client_of_http_1_0_is_not_told_to_continue(process: GatewayProcess) -> None:
    body = TestARequestThatOffersAnotherProtocol.BODY
    head = (
        b"POST /graphql HTTP/1.0\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )

    assert _statuses(_asked(process, head, body)) == [b"200"]


@asynccontextmanager
async def _served(app: ASGIApp) -> AsyncIterator[int]:
    """Serve an application in this process, and give the port."""
    config = uvicorn.Config(
        app,
        http=connections.HttpProtocol,
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_keep_alive=1,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        yield listener.getsockname()[1]
        server.should_exit = True
        await serving


@pytest.mark.anyio
class TestAnAnswer:
    """What becomes of an answer, and what its end means for the connection."""

    @pytest.fixture
    def release(self) -> asyncio.Event:
        """Return what the application waits for."""
        return asyncio.Event()

    @pytest.fixture
    async def port(self, release: asyncio.Event) -> AsyncIterator[int]:
        """Serve an application that answers when it is told to, and reads no body."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await release.wait()
            await PlainTextResponse("fine")(scope, receive, send)

        async with _served(app) as port:
            yield port

    async def test_comes_before_the_refusal_of_what_follows_its_request(
        self, port: int, release: asyncio.Event
    ) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEALTHZ + b"no request\r\n\r\n")
        asyncio.get_running_loop().call_later(0.05, release.set)
        async with asyncio.timeout(10):
            answers = await reader.read()
        writer.close()

        assert answers.startswith(b"HTTP/1.1 200 OK")
        assert answers.endswith(b"fine")

    async def test_is_given_to_who_will_send_no_more(
        self, port: int, release: asyncio.Event
    ) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEALTHZ)
        writer.write_eof()
        asyncio.get_running_loop().call_later(0.05, release.set)
        async with asyncio.timeout(10):
            answers = await reader.read()
        writer.close()

        assert answers.endswith(b"fine")

    @pytest.mark.parametrize(
        "rest",
        [
            pytest.param(b"{}", id="the rest of its request comes"),
            pytest.param(b"{}\r\n", id="a line break comes, too"),
            pytest.param(b"{", id="some of the rest comes"),
        ],
    )
    async def test_is_followed_by_the_end_of_a_connection_without_further_requests(
        self,
        port: int,
        release: asyncio.Event,
        rest: bytes,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(connections, "REST_WITHIN_SECONDS", 0.1)
        release.set()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 2\r\n\r\n")
        async with asyncio.timeout(10):
            await reader.readuntil(b"fine")
            writer.write(rest)
            assert await reader.read() == b""
        writer.close()


@pytest.mark.anyio
class TestAHead:
    """How long a head may take to arrive."""

    @pytest.fixture
    async def port(self, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
        """Serve in this process, and be impatient."""
        monkeypatch.setattr(connections, "HEAD_WITHIN_SECONDS", 0.1)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await PlainTextResponse("fine")(scope, receive, send)

        async with _served(app) as port:
            yield port

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
        connection = CoalescingTransport(wire)
        connection.write(b"head ")
        connection.write(b"body")
        assert wire.happened == []
        await asyncio.sleep(0)
        connection.write(b"more")
        await asyncio.sleep(0)

        assert wire.happened == [b"head body", b"more"]

    async def test_closes_after_what_was_written(self) -> None:
        wire = _Wire()
        connection = CoalescingTransport(wire)
        connection.write(b"last")
        connection.close()
        await asyncio.sleep(0)

        assert wire.happened == [b"last", "close"]

    async def test_writes_nothing_once_it_is_aborted(self) -> None:
        wire = _Wire()
        connection = CoalescingTransport(wire)
        connection.write(b"last")
        connection.abort()
        await asyncio.sleep(0)

        assert wire.happened == ["abort"]

    async def test_writes_nothing_to_who_has_gone(self) -> None:
        wire = _Wire()
        connection = CoalescingTransport(wire)
        connection.write(b"last")
        wire.is_gone = True
        await asyncio.sleep(0)

        assert wire.happened == []
