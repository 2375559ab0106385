"""The HTTP protocol: its limits of size and time, the order of responses, the shutdown."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread

import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from contact_gateway.server.protocol import (
    _MAX_PARSED_AT_ONCE,
    DRAIN_TIMEOUT_SECONDS,
    HEAD_TIMEOUT_SECONDS,
    IS_STOPPING,
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    STOP_TIMEOUT_SECONDS,
    HttpProtocol,
)
from support.clock import ManualClock
from support.process import GatewayProcess
from support.raw_http import HEALTHZ, LAST_HEALTHZ, connect, exchange, receive_all, statuses
from support.recorded_transport import RecordedTransport

POST_HEAD = b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 2\r\n\r\n"
CHUNKED_HEAD = (
    b"POST %b HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
# Longer than the timeouts that must not fire while a connection is idle.
KEEP_ALIVE_SECONDS = 60


def test_pipelined_requests_are_answered_in_order(process: GatewayProcess) -> None:
    unknown = HEALTHZ.replace(b"/healthz", b"/nowhere")

    responses = exchange(process, HEALTHZ + unknown + LAST_HEALTHZ)

    assert statuses(responses) == [b"200", b"404", b"200"]


def test_a_response_is_one_write(process: GatewayProcess) -> None:
    with connect(process) as connection:
        for _ in range(20):
            connection.sendall(HEALTHZ)
            response = connection.recv(65536)

            assert response.startswith(b"HTTP/1.1 200 OK\r\n")
            assert response.endswith(b'\r\n\r\n{"status":"ok"}')


def test_bytes_that_are_not_http_are_refused(process: GatewayProcess) -> None:
    responses = exchange(process, b"\x16\x03\x01 no HTTP\r\n\r\n")

    assert responses.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("version", [b"", b" HTTP/0.9", b" HTTP/1.2", b" HTTP/2.0"])
def test_other_versions_of_http_are_refused(process: GatewayProcess, version: bytes) -> None:
    responses = exchange(process, HEALTHZ.replace(b" HTTP/1.1", version))

    assert statuses(responses) == [b"400"]


def test_the_size_limit_is_of_each_head_and_not_of_pipelined_requests_together(
    process: GatewayProcess,
) -> None:
    many = 4 * MAX_HEAD_BYTES // len(HEALTHZ)
    with connect(process) as connection:
        sender = Thread(target=connection.sendall, args=(HEALTHZ * many + LAST_HEALTHZ,))
        sender.start()
        responses = receive_all(connection)
        sender.join()

    assert statuses(responses) == [b"200"] * (many + 1)


def test_a_head_below_the_size_limit_is_read(process: GatewayProcess) -> None:
    padding = b"X-Padding: " + b"x" * (MAX_HEAD_BYTES - 1_000) + b"\r\n\r\n"

    assert statuses(exchange(process, LAST_HEALTHZ[:-2], padding)) == [b"200"]


def test_a_head_above_the_size_limit_is_refused(process: GatewayProcess) -> None:
    response = exchange(process, HEALTHZ[:-2] + b"X-Padding: ", b"x" * 4 * MAX_HEAD_BYTES)

    assert response.startswith(b"HTTP/1.1 400 ")
    assert response.endswith(b"The head of the request is too large.")


def test_as_many_headers_as_the_limit_are_read(process: GatewayProcess) -> None:
    # The two others are `Host` and `Connection`.
    headers = b"X-Padding:\r\n" * (MAX_HEADERS - 2)

    assert statuses(exchange(process, LAST_HEALTHZ[:-2] + headers + b"\r\n")) == [b"200"]


def test_more_headers_than_the_limit_are_refused(process: GatewayProcess) -> None:
    headers = b"X-Padding:\r\n" * MAX_HEADERS

    response = exchange(process, HEALTHZ[:-2] + headers + b"\r\n")

    assert response.startswith(b"HTTP/1.1 400 ")
    assert response.endswith(b"The request has more than 100 headers.")


def test_a_trailer_is_not_a_header(process: GatewayProcess) -> None:
    trailers = b"X-Api-Key: anything\r\nX-Request-Id: from-a-trailer\r\n\r\n"
    request = CHUNKED_HEAD % b"/api/v1/contacts" + b"2\r\n{}\r\n0\r\n" + trailers

    responses = exchange(process, request, LAST_HEALTHZ)

    assert statuses(responses) == [b"401", b"200"]
    assert b"An API key is required" in responses
    assert b"from-a-trailer" not in responses


def test_a_trailer_does_not_end_the_connection(process: GatewayProcess) -> None:
    request = CHUNKED_HEAD % b"/graphql" + b"2\r\n{}\r\n0\r\nConnection: close\r\n\r\n"

    assert statuses(exchange(process, request + LAST_HEALTHZ)) == [b"400", b"200"]


ENDLESS_TRAILERS = pytest.mark.parametrize(
    "endless", [b"x" * 1_000, b"x\r\na: "], ids=["one", "many"]
)


@ENDLESS_TRAILERS
def test_trailers_above_the_size_limit_are_refused(process: GatewayProcess, endless: bytes) -> None:
    trailers = b"a: " + endless * (8 * MAX_HEAD_BYTES // len(endless))

    responses = exchange(process, CHUNKED_HEAD % b"/graphql" + b"2\r\n{}\r\n0\r\n", trailers)

    assert statuses(responses) == [b"400"]
    assert responses.endswith(b"The framing of the request is too large.")


@ENDLESS_TRAILERS
def test_after_a_response_trailers_above_the_size_limit_end_the_connection(
    process: GatewayProcess, endless: bytes
) -> None:
    with connect(process) as connection:
        connection.sendall(CHUNKED_HEAD % b"/api/v1/contacts" + b"2\r\n{}\r\n0\r\n")
        response = connection.recv(65536)
        with suppress(ConnectionError):
            connection.sendall(b"a: " + endless * (8 * MAX_HEAD_BYTES // len(endless)))
        rest = receive_all(connection)

    assert statuses(response + rest) == [b"401"]


def test_a_body_in_chunks_of_one_byte_is_below_the_size_limit(process: GatewayProcess) -> None:
    body = b'{"query": "{ __typename }", "extensions": {"x": "%b"}}' % (b"x" * 20_000)
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)

    responses = exchange(process, CHUNKED_HEAD % b"/graphql", chunks, b"0\r\n\r\n" + LAST_HEALTHZ)

    assert statuses(responses) == [b"200", b"200"]


def test_whitespace_around_a_header_value_is_stripped(process: GatewayProcess) -> None:
    responses = exchange(process, LAST_HEALTHZ[:-2] + b"X-Request-Id: \t mine \t \r\n\r\n")

    assert b"x-request-id: mine\r\n" in responses


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

    assert statuses(exchange(process, head % (version, b"Host: here\r\n" * hosts))) == [status]


@pytest.mark.parametrize("path", [b"", b"/", b"?a=b", b"/?a=b"])
def test_a_target_may_name_the_host(process: GatewayProcess, path: bytes) -> None:
    responses = exchange(process, LAST_HEALTHZ.replace(b"/healthz", b"http://here" + path))

    assert statuses(responses) == [b"200"]


@pytest.mark.parametrize(
    ("authority", "hosts", "status"),
    [
        (b"there:81", [b"here"], b"200"),
        (b"[::1]:81", [b"here"], b"200"),
        (b"there", [b"not a host"], b"200"),
        (b"there", [], b"400"),
        (b"there", [b"here", b"here"], b"400"),
        (b"user@there", [b"here"], b"400"),
    ],
)
@pytest.mark.parametrize("path", [b"/api/v1/schema", b"/api/v1/schema?", b"/api/v1/schema?a=//b"])
def test_the_host_of_a_target_replaces_that_of_the_header(
    process: GatewayProcess, authority: bytes, hosts: list[bytes], status: bytes, path: bytes
) -> None:
    lines = b"".join(b"Host: %b\r\n" % host for host in hosts)
    head = b"GET http://%b%b HTTP/1.1\r\n%bConnection: close\r\n\r\n"

    responses = exchange(process, head % (authority, path, lines))

    assert statuses(responses) == [status]
    assert (b'"url":"http://%b/api/v1"' % authority in responses) == (status == b"200")


@pytest.mark.parametrize(
    ("version", "lines", "status"),
    [
        (b"1.1", [b"Transfer-Encoding: Chunked "], b"200"),
        (b"1.1", [b"Transfer-Encoding: , chunked"], b"200"),
        (b"1.1", [b"Transfer-Encoding: gzip, chunked"], b"501"),
        (b"1.1", [b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"], b"501"),
        (b"1.1", [b"Transfer-Encoding: identity;q=1 ,chunked"], b"501"),
        (b"1.1", [b"Transfer-Encoding: gzip"], b"400"),
        (b"1.1", [b"Transfer-Encoding: chunked, gzip"], b"400"),
        (b"1.1", [b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip"], b"400"),
        (b"1.1", [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"], b"400"),
        (b"1.1", [b"Transfer-Encoding: chunked", b"Content-Length: 30"], b"400"),
        (b"1.1", [b"Content-Length: 30", b"Transfer-Encoding: chunked"], b"400"),
        (b"1.0", [b"Transfer-Encoding: chunked"], b"400"),
        (b"1.0", [b"Transfer-Encoding: gzip, chunked"], b"400"),
    ],
)
@pytest.mark.parametrize("upgrade", [b"", b"Connection: upgrade\r\nUpgrade: h2c\r\n"])
def test_the_only_transfer_coding_is_chunked(
    process: GatewayProcess, version: bytes, lines: list[bytes], status: bytes, upgrade: bytes
) -> None:
    """Else a proxy may read another body than the gateway, and the rest of it is a request."""
    body = b'{"query": "{ __typename }"}'
    head = b"POST /graphql HTTP/%b\r\nHost: here\r\nContent-Type: application/json\r\n" % version
    head += upgrade + b"\r\n".join([*lines, b"", b""])

    responses = exchange(process, head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body), LAST_HEALTHZ)

    assert statuses(responses) == ([b"200", b"200"] if status == b"200" else [status])


@pytest.mark.parametrize("expectation", [b"100-continue \t", b"100-Continue"])
def test_a_client_may_wait_for_the_interim_response(
    process: GatewayProcess, expectation: bytes
) -> None:
    head = b"POST /graphql HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
    with connect(process) as connection:
        connection.sendall(head + b"Expect: %b\r\nContent-Length: 2\r\n\r\n" % expectation)

        assert connection.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_a_content_length_may_have_many_leading_zeros(process: GatewayProcess) -> None:
    body = b'{"query": "{ __typename }"}'
    head = (
        b"POST /graphql HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
        b"Content-Length: %05000d\r\n\r\n" % len(body)
    )

    assert statuses(exchange(process, head + body + LAST_HEALTHZ)) == [b"200", b"200"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"", b"200"),
        (b"gateway_1.internal:8000", b"200"),
        (b"here:", b"200"),
        (b"127.0.0.1:8000", b"200"),
        (b"[::1]:8000", b"200"),
        (b"[fe80::1%25eth0]", b"200"),
        (b"here there", b"400"),
        (b"here/path", b"400"),
        (b"user@here", b"400"),
        (b"<here>", b"400"),
        (b"here:http", b"400"),
        (b"::1", b"400"),
        (b"h\xffre", b"400"),
    ],
)
def test_a_host_is_valid(process: GatewayProcess, host: bytes, status: bytes) -> None:
    responses = exchange(process, LAST_HEALTHZ.replace(b"Host: here", b"Host: " + host))

    assert statuses(responses) == [status]


@pytest.mark.parametrize("path", [b"/healthz", b"/graphql", b"/api/v1/contacts/1"])
def test_a_path_with_a_trailing_line_break_is_unknown(process: GatewayProcess, path: bytes) -> None:
    responses = exchange(process, LAST_HEALTHZ.replace(b"/healthz", path + b"%0A"))

    assert statuses(responses) == [b"404"]


def test_an_http_1_0_client_gets_no_interim_response(process: GatewayProcess) -> None:
    body = b'{"query": "{ __typename }"}'
    head = (
        b"POST /graphql HTTP/1.0\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )

    assert statuses(exchange(process, head, body)) == [b"200"]


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection without a socket, to an application that responds once it is released."""

    clock: ManualClock
    may_respond: asyncio.Event
    state: dict[str, object]
    transport: RecordedTransport
    protocol: HttpProtocol

    async def receive(self, *pieces: bytes) -> None:
        """Pass bytes to the protocol piece by piece, and let it handle them."""
        for piece in pieces:
            self.protocol.data_received(piece)
            await self._settle()

    async def expect_end(self) -> None:
        """Expect that the server sends no more, and waits some time for the client to close."""
        assert self.transport.calls[-1] == "eof"
        await self.advance(DRAIN_TIMEOUT_SECONDS - 1)
        assert not self.transport.is_closing()
        await self.advance(1)
        assert self.transport.is_closing()

    async def respond(self) -> None:
        """Let the application respond to this request and all later ones."""
        self.may_respond.set()
        await self._settle()

    async def advance(self, seconds: float) -> None:
        """Move the event loop's clock, and let timers fire."""
        self.clock.seconds += seconds
        await self._settle()

    async def _settle(self) -> None:
        # More event loop steps than a response takes. None of them waits for anything else.
        for _ in range(20):
            await asyncio.sleep(0)


@pytest.mark.anyio
class TestConnection:
    @pytest.fixture
    async def connection(self, monkeypatch: pytest.MonkeyPatch) -> Connection:
        clock = ManualClock()
        monkeypatch.setattr(asyncio.get_running_loop(), "time", clock)
        may_respond = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await may_respond.wait()
            await PlainTextResponse("fine")(scope, receive, send)

        config = uvicorn.Config(
            app, lifespan="off", log_config=None, timeout_keep_alive=KEEP_ALIVE_SECONDS
        )
        state: dict[str, object] = {}
        protocol = HttpProtocol(config, ServerState(), state)
        transport = RecordedTransport()
        protocol.connection_made(transport)
        return Connection(clock, may_respond, state, transport, protocol)

    async def test_a_response_in_flight_replaces_the_refusal_of_later_bytes(
        self, connection: Connection
    ) -> None:
        await connection.receive(HEALTHZ + b"no request\r\n\r\n")
        await connection.respond()

        assert statuses(connection.transport.written) == [b"200"]
        assert connection.transport.written.endswith(b"fine")
        assert connection.transport.is_closing()

    async def test_a_response_in_flight_replaces_that_to_a_later_malformed_body(
        self, connection: Connection
    ) -> None:
        await connection.receive(HEALTHZ + CHUNKED_HEAD % b"/" + b"no chunk\r\n")
        assert connection.transport.written == b""
        await connection.respond()

        assert statuses(connection.transport.written) == [b"200"]
        assert connection.transport.is_closing()

    async def test_a_malformed_body_is_refused(self, connection: Connection) -> None:
        await connection.receive(CHUNKED_HEAD % b"/" + b"no chunk\r\n")
        await connection.respond()

        assert statuses(connection.transport.written) == [b"400"]
        await connection.expect_end()

    async def test_a_head_that_is_malformed_and_too_large_is_refused_once(
        self, connection: Connection
    ) -> None:
        head = HEALTHZ[:-2] + b"X-Padding: "
        padding = b"x" * (MAX_HEAD_BYTES + _MAX_PARSED_AT_ONCE - len(head))
        await connection.receive(head + padding + b"\0")

        assert statuses(connection.transport.written) == [b"400"]
        assert connection.transport.written.endswith(b"Invalid HTTP request received.")
        await connection.expect_end()

    async def test_a_malformed_request_is_refused_after_a_response(
        self, connection: Connection
    ) -> None:
        await connection.respond()
        await connection.receive(HEALTHZ, b"no request\r\n\r\n")

        assert statuses(connection.transport.written) == [b"200", b"400"]
        await connection.expect_end()

    async def test_nothing_is_read_while_pipelined_requests_wait(
        self, connection: Connection
    ) -> None:
        requests = 2 * _MAX_PARSED_AT_ONCE // len(HEALTHZ)
        await connection.receive(HEALTHZ * requests)
        connection.may_respond.set()

        while (responses := len(statuses(connection.transport.written))) < requests:
            assert connection.transport.is_paused or responses == requests - 1
            await connection.advance(0)
        assert not connection.transport.is_paused

    async def test_a_malformed_body_is_not_refused_after_its_response(
        self, connection: Connection
    ) -> None:
        await connection.respond()
        await connection.receive(CHUNKED_HEAD % b"/", b"no chunk\r\n")

        assert statuses(connection.transport.written) == [b"200"]
        await connection.expect_end()

    async def test_the_rest_of_a_body_does_not_reset_the_connection_after_the_last_response(
        self, connection: Connection
    ) -> None:
        await connection.respond()
        head = POST_HEAD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        await connection.receive(head, b"{}", HEALTHZ)

        assert statuses(connection.transport.written) == [b"200"]
        await connection.expect_end()

    async def test_a_client_that_has_its_last_response_closes_the_connection(
        self, connection: Connection
    ) -> None:
        await connection.receive(b"no request\r\n\r\n")

        assert not connection.protocol.eof_received()

    async def test_shutdown_does_not_wait_for_clients_to_close(
        self, connection: Connection
    ) -> None:
        await connection.receive(CHUNKED_HEAD % b"/" + b"no chunk\r\n")
        connection.protocol.shutdown()

        assert connection.transport.is_closing()

    async def test_a_response_during_the_shutdown_waits_a_short_time_for_clients_to_close(
        self, connection: Connection
    ) -> None:
        await connection.receive(POST_HEAD)
        connection.state[IS_STOPPING] = True
        connection.protocol.shutdown()
        await connection.respond()
        assert connection.transport.calls[-1] == "eof"

        await connection.advance(STOP_TIMEOUT_SECONDS)
        assert connection.transport.is_closing()

    async def test_a_request_during_the_shutdown_is_the_last(self, connection: Connection) -> None:
        await connection.respond()
        connection.state[IS_STOPPING] = True
        await connection.receive(HEALTHZ)

        assert b"\r\nconnection: close\r\n" in connection.transport.written
        assert connection.transport.is_closing()

    async def test_an_http_1_0_client_gets_one_response(self, connection: Connection) -> None:
        await connection.respond()
        await connection.receive(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")

        assert b"\r\nconnection: close\r\n" in connection.transport.written
        assert connection.transport.is_closing()

    async def test_a_response_that_nobody_reads_ends_with_the_connection(
        self, connection: Connection
    ) -> None:
        tasks = connection.protocol.server_state.tasks
        await connection.receive(HEALTHZ)
        connection.protocol.pause_writing()
        await connection.respond()
        assert len(tasks) == 1

        connection.protocol.connection_lost(None)
        await connection.advance(0)
        assert not tasks

    async def test_a_half_closed_connection_gets_its_response(self, connection: Connection) -> None:
        await connection.receive(HEALTHZ)
        assert connection.protocol.eof_received()
        await connection.respond()

        assert connection.transport.written.endswith(b"fine")
        assert connection.transport.is_closing()

    async def test_a_half_closed_connection_without_a_request_is_closed(
        self, connection: Connection
    ) -> None:
        assert not connection.protocol.eof_received()

    @pytest.mark.parametrize(
        ("rest", "seconds"),
        [
            pytest.param(b"{}", KEEP_ALIVE_SECONDS, id="the rest of the body"),
            pytest.param(b"{}\r\n", KEEP_ALIVE_SECONDS, id="also a line break"),
            pytest.param(b"{", DRAIN_TIMEOUT_SECONDS, id="a part of the body"),
        ],
    )
    async def test_after_a_response_the_rest_of_the_body_has_a_timeout(
        self, connection: Connection, rest: bytes, seconds: float
    ) -> None:
        await connection.respond()
        await connection.receive(POST_HEAD)
        assert connection.transport.written.endswith(b"fine")
        await connection.receive(rest)

        await connection.advance(seconds - 1)
        assert not connection.transport.is_closing()
        await connection.advance(1)
        assert connection.transport.is_closing()

    @pytest.mark.parametrize(
        "received",
        [
            pytest.param(b"", id="nothing"),
            pytest.param(HEALTHZ[:-2], id="all but the end"),
            pytest.param(HEALTHZ + HEALTHZ[:-2], id="all but the end of the second"),
        ],
    )
    async def test_a_head_has_a_timeout(self, connection: Connection, received: bytes) -> None:
        await connection.respond()
        await connection.receive(received)

        await connection.advance(HEAD_TIMEOUT_SECONDS - 1)
        assert not connection.transport.is_closing()
        await connection.advance(1)
        assert connection.transport.is_closing()
        assert len(statuses(connection.transport.written)) == received.count(HEALTHZ)

    async def test_the_timeout_of_a_head_does_not_begin_again_with_each_part_of_it(
        self, connection: Connection
    ) -> None:
        await connection.respond()
        await connection.receive(HEALTHZ, HEALTHZ[:5])
        await connection.advance(HEAD_TIMEOUT_SECONDS - 1)
        await connection.receive(HEALTHZ[5:10])

        await connection.advance(1)
        assert connection.transport.is_closing()

    async def test_the_timeout_of_a_head_spares_the_responses_in_flight(
        self, connection: Connection
    ) -> None:
        await connection.receive(HEALTHZ, HEALTHZ[:-2])
        await connection.advance(HEAD_TIMEOUT_SECONDS)
        await connection.receive(b"\r\n")
        await connection.respond()

        assert statuses(connection.transport.written) == [b"200"]
        assert connection.transport.is_closing()

    async def test_a_head_has_no_timeout_while_the_server_does_not_read(
        self, connection: Connection
    ) -> None:
        await connection.receive(HEALTHZ * 2 + HEALTHZ[:-2])
        await connection.advance(HEAD_TIMEOUT_SECONDS)
        await connection.respond()
        await connection.receive(b"\r\n")

        assert statuses(connection.transport.written) == [b"200"] * 3

    async def test_the_timeout_of_a_head_does_not_include_the_body(
        self, connection: Connection
    ) -> None:
        await connection.receive(POST_HEAD[:-2], POST_HEAD[-2:])
        await connection.advance(HEAD_TIMEOUT_SECONDS)
        await connection.receive(b"{}")
        await connection.respond()

        assert connection.transport.written.endswith(b"fine")

    async def test_the_timeout_of_a_head_ends_with_the_head(self, connection: Connection) -> None:
        await connection.respond()
        for responses in (1, 2, 3):
            await connection.receive(HEALTHZ)
            await connection.advance(HEAD_TIMEOUT_SECONDS)

            assert statuses(connection.transport.written) == [b"200"] * responses
            assert not connection.transport.is_closing()

    @pytest.mark.parametrize("request_", [HEALTHZ, POST_HEAD + b"{}"], ids=["GET", "POST"])
    async def test_a_connection_is_not_idle_while_a_response_is_in_flight(
        self, connection: Connection, request_: bytes
    ) -> None:
        await connection.receive(request_)
        await connection.advance(KEEP_ALIVE_SECONDS)
        await connection.respond()

        assert statuses(connection.transport.written) == [b"200"]
        assert not connection.transport.is_closing()

    async def test_an_idle_connection_is_closed(self, connection: Connection) -> None:
        await connection.respond()
        for _ in range(3):
            await connection.receive(HEALTHZ)
            await connection.advance(KEEP_ALIVE_SECONDS - 1)
            assert not connection.transport.is_closing()

        await connection.advance(1)
        assert connection.transport.is_closing()

    async def test_shutdown_waits_for_the_first_request(self, connection: Connection) -> None:
        await connection.respond()
        connection.protocol.shutdown()
        await connection.receive(HEALTHZ)

        assert connection.transport.written.endswith(b"fine")
        await connection.advance(STOP_TIMEOUT_SECONDS)
        assert connection.transport.is_closing()

    async def test_shutdown_waits_for_a_request_whose_head_is_arriving(
        self, connection: Connection
    ) -> None:
        await connection.respond()
        await connection.receive(HEALTHZ, HEALTHZ[:-2])
        connection.protocol.shutdown()
        await connection.receive(b"\r\n")

        assert statuses(connection.transport.written) == [b"200"] * 2
        await connection.advance(STOP_TIMEOUT_SECONDS)
        assert connection.transport.is_closing()

    async def test_shutdown_closes_an_idle_connection_at_once(self, connection: Connection) -> None:
        await connection.respond()
        await connection.receive(HEALTHZ)
        connection.protocol.shutdown()

        assert connection.transport.is_closing()

    async def test_shutdown_closes_a_connection_without_a_request_in_time(
        self, connection: Connection
    ) -> None:
        connection.protocol.shutdown()
        assert not connection.transport.is_closing()

        await connection.advance(STOP_TIMEOUT_SECONDS)
        assert connection.transport.is_closing()

    async def test_shutdown_waits_for_a_response_in_flight(self, connection: Connection) -> None:
        await connection.receive(HEALTHZ)
        connection.protocol.shutdown()
        await connection.advance(STOP_TIMEOUT_SECONDS)
        assert not connection.transport.is_closing()

        await connection.respond()
        assert connection.transport.written.endswith(b"fine")
        assert connection.transport.is_closing()
