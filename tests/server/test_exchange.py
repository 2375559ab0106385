"""One request and its response, for applications that a test writes."""

import asyncio
import gc
import logging
import weakref
from contextvars import ContextVar

import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.server import ServerState

from contact_gateway.server.protocol import HttpProtocol
from support.raw_http import HEALTHZ, statuses
from support.recorded_transport import RecordedTransport

pytestmark = pytest.mark.anyio

HEAD = HEALTHZ.replace(b"GET", b"HEAD")
IN_CHUNKS = b"POST / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n"


class Transport(RecordedTransport):
    """Also records when it reads."""

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")


async def _connected(
    app: ASGIApp, *received: bytes, protocol_class: type[HttpProtocol] = HttpProtocol
) -> tuple[HttpProtocol, Transport]:
    """Return a connection to an application that has received bytes."""
    config = uvicorn.Config(app, lifespan="off", log_config=None)
    protocol, transport = protocol_class(config, ServerState(), {}), Transport()
    protocol.connection_made(transport)
    for data in received:
        protocol.data_received(data)
        await _settle()
    return protocol, transport


async def _settle() -> None:
    # More event loop steps than a response takes. None of them waits for anything else.
    for _ in range(20):
        await asyncio.sleep(0)


def _sending(*messages: Message) -> ASGIApp:
    """Return an application that sends messages."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


def _start(*headers: tuple[bytes, bytes], status: int = 200) -> Message:
    return {"type": "http.response.start", "status": status, "headers": headers}


def _body(body: bytes, *, more_body: bool = False) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more_body}


async def test_a_closed_connection_needs_no_garbage_collector(
    request: pytest.FixtureRequest,
) -> None:
    request.addfinalizer(gc.enable)
    gc.disable()
    protocol, _ = await _connected(PlainTextResponse("fine"), HEALTHZ)
    closed = weakref.ref(protocol)

    protocol.connection_lost(None)
    del protocol

    assert closed() is None


@pytest.mark.parametrize(
    ("request_", "end"), [(HEALTHZ, b"Internal Server Error"), (HEAD, b"\r\n\r\n")], ids=str
)
async def test_a_fault_of_the_application_is_a_500(
    request_: bytes, end: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise LookupError

    _, transport = await _connected(app, request_)

    assert statuses(transport.written) == [b"500"]
    assert transport.written.endswith(end)
    assert transport.is_closing()
    assert caplog.messages == ["Exception in ASGI application"]


async def test_no_response_is_a_500(caplog: pytest.LogCaptureFixture) -> None:
    _, transport = await _connected(_sending(), HEALTHZ)

    assert statuses(transport.written) == [b"500"]
    assert transport.is_closing()
    assert caplog.messages == ["ASGI application returned without a complete response"]


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([_start((b"content-length", b"4"))], id="no body"),
        pytest.param(
            [_start((b"content-length", b"4")), _body(b"fi", more_body=True)], id="a part of it"
        ),
        pytest.param([_start((b"content-length", b"4")), _body(b"fi")], id="a short body"),
        pytest.param([_start((b"content-length", b"4")), _body(b"finest")], id="a long body"),
    ],
)
async def test_an_incomplete_response_ends_the_connection(messages: list[Message]) -> None:
    _, transport = await _connected(_sending(*messages), HEALTHZ)

    assert b"500" not in statuses(transport.written)
    assert transport.is_closing()


async def test_no_refusal_is_sent_within_a_response() -> None:
    may_end = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await _sending(_start(), _body(b"fi", more_body=True))(scope, receive, send)
        await may_end.wait()
        await send(_body(b"ne"))

    _, transport = await _connected(app, IN_CHUNKS, b"no chunk\r\n")
    may_end.set()
    await _settle()

    assert transport.written.endswith(b"\r\n\r\nfi")
    assert transport.calls[-1] == "eof"


@pytest.mark.parametrize("expect", [b"", b"Expect: 100-continue\r\n"])
async def test_a_malformed_body_is_received_as_a_disconnect(expect: bytes) -> None:
    received: list[str] = []

    async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
        received.append((await receive())["type"])

    head = IN_CHUNKS.replace(b"\r\n\r\n", b"\r\n" + expect + b"\r\n")
    _, transport = await _connected(app, head + b"no chunk\r\n")

    assert received == ["http.disconnect"]
    assert statuses(transport.written) == [b"400"]


async def test_a_fault_after_a_refusal_does_not_reset_the_connection() -> None:
    async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        raise LookupError

    _, transport = await _connected(app, IN_CHUNKS, b"no chunk\r\n")

    assert statuses(transport.written) == [b"400"]
    assert transport.calls[-1] == "eof"


async def test_a_fault_after_the_response_ends_the_connection() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("fine")(scope, receive, send)
        raise LookupError

    _, transport = await _connected(app, HEALTHZ)

    assert statuses(transport.written) == [b"200"]
    assert transport.is_closing()


@pytest.mark.parametrize("value", [b"a\r\nx-forged: b", b"a\nb", b"a\rb", b"a\0b"])
async def test_no_header_of_a_response_has_a_control_character(value: bytes) -> None:
    _, transport = await _connected(_sending(_start((b"location", value)), _body(b"")), HEALTHZ)

    assert statuses(transport.written) == [b"500"]
    assert b"location" not in transport.written


async def test_the_application_may_close_the_connection() -> None:
    app = _sending(_start((b"content-length", b"4"), (b"connection", b"close")), _body(b"fine"))
    _, transport = await _connected(app, HEALTHZ)

    assert transport.written.count(b"connection: close\r\n") == 1
    assert transport.is_closing()


async def test_a_body_of_unknown_length_ends_with_the_connection() -> None:
    app = _sending(_start(), _body(b"fi", more_body=True), _body(b"ne"))
    _, transport = await _connected(app, HEALTHZ)

    assert b"\r\nconnection: close\r\n" in transport.written
    assert transport.written.endswith(b"\r\n\r\nfine")
    assert transport.is_closing()


@pytest.mark.parametrize(
    ("request_", "status"), [(HEAD, 200), (HEALTHZ, 204), (HEALTHZ, 304)], ids=str
)
async def test_a_response_without_a_body_keeps_the_connection(request_: bytes, status: int) -> None:
    app = _sending(_start(status=status), _body(b"fine" if status == 200 else b""))
    _, transport = await _connected(app, request_, request_)

    assert statuses(transport.written) == [b"%d" % status] * 2
    assert transport.written.endswith(b"\r\n\r\n")
    assert b"connection:" not in transport.written
    assert not transport.is_closing()


async def test_an_unknown_status_has_no_phrase() -> None:
    app = _sending(_start((b"content-length", b"0"), status=520), _body(b""))
    _, transport = await _connected(app, HEALTHZ)

    assert transport.written.startswith(b"HTTP/1.1 520 \r\n")


async def test_the_application_waits_while_the_client_does_not_read() -> None:
    protocol, transport = await _connected(PlainTextResponse("fine"))
    protocol.pause_writing()
    protocol.data_received(HEALTHZ)
    await _settle()
    assert transport.written == b""

    protocol.resume_writing()
    await _settle()
    assert transport.written.endswith(b"fine")


async def _echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Receive a body, and send its length."""
    length, more_body = 0, True
    while more_body:
        message = await receive()
        assert message["type"] == "http.request"
        length, more_body = length + len(message["body"]), message["more_body"]
    await PlainTextResponse(str(length))(scope, receive, send)


async def test_a_client_that_expects_it_is_told_to_continue() -> None:
    head = POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-Continue\r\n\r\n") % 2
    protocol, transport = await _connected(_echo, head)
    assert transport.written == b"HTTP/1.1 100 Continue\r\n\r\n"

    for part in (b"{", b"}"):
        protocol.data_received(part)
        await _settle()
    assert statuses(transport.written) == [b"100", b"200"]


async def test_an_offer_to_upgrade_and_to_close_does_not_drop_the_body() -> None:
    offer = b"\r\nUpgrade: h2c\r\nConnection: upgrade, close\r\n\r\n"
    _, transport = await _connected(_echo, POST.replace(b"\r\n\r\n", offer) % 2 + b"{}")

    assert statuses(transport.written) == [b"200"]
    assert transport.written.endswith(b"\r\n\r\n2")


async def test_an_unknown_expectation_is_ignored() -> None:
    head = POST.replace(b"\r\n\r\n", b"\r\nExpect: a-miracle\r\n\r\n") % 2
    _, transport = await _connected(_echo, head)

    assert transport.written == b""


async def test_a_response_replaces_the_interim_one() -> None:
    head = POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n") % 2
    _, transport = await _connected(PlainTextResponse("no"), head)

    assert statuses(transport.written) == [b"200"]


async def test_no_interim_response_is_sent_within_a_response() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await _sending(_start(), _body(b"fi", more_body=True))(scope, receive, send)
        await receive()
        await send(_body(b"ne"))

    head = POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n") % 2
    _, transport = await _connected(app, head + b"{}")

    assert transport.written.endswith(b"\r\n\r\nfine")


async def test_reading_pauses_while_the_application_does_not_receive() -> None:
    may_receive = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await may_receive.wait()
        await _echo(scope, receive, send)

    size = 100_000
    _, transport = await _connected(app, POST % size + b"x" * (size - 1))
    assert transport.calls == ["pause"]

    may_receive.set()
    await _settle()
    assert transport.calls == ["pause", "resume"]


async def test_reading_pauses_while_pipelined_requests_wait() -> None:
    may_respond = asyncio.Semaphore(0)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await may_respond.acquire()
        await PlainTextResponse("fine")(scope, receive, send)

    _, transport = await _connected(app, HEALTHZ * 3)
    for responses, reading in enumerate(["pause", "pause", "resume", "resume"]):
        assert statuses(transport.written) == [b"200"] * responses
        assert [call for call in transport.calls if isinstance(call, str)][-1] == reading
        may_respond.release()
        await _settle()


async def test_few_pipelined_requests_are_parsed_ahead() -> None:
    may_respond, requests = asyncio.Event(), 10_000

    class Counting(HttpProtocol):
        parsed = 0

        def request_state(self) -> dict[str, object]:
            self.parsed += 1
            return super().request_state()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await may_respond.wait()
        await PlainTextResponse("fine")(scope, receive, send)

    protocol, transport = await _connected(app, HEALTHZ * requests, protocol_class=Counting)
    assert isinstance(protocol, Counting)
    assert protocol.parsed < requests / 10

    may_respond.set()
    while len(statuses(transport.written)) < requests:
        await _settle()
    assert protocol.parsed == requests


async def test_a_body_that_is_not_received_is_read_after_the_response() -> None:
    size, part = 300_000, b"x" * 100_000
    app = PlainTextResponse("fine")
    protocol, transport = await _connected(app, POST % size + part, part)
    assert transport.calls[0] == "pause"
    assert transport.calls[-1] == "resume"

    protocol.data_received(part + HEALTHZ)
    await _settle()
    assert statuses(transport.written) == [b"200"] * 2


async def test_nothing_is_sent_after_a_response() -> None:
    app = _sending(_start((b"content-length", b"4")), _body(b"fine"), _body(b"more"))
    _, transport = await _connected(app, HEALTHZ)

    assert transport.written.endswith(b"\r\n\r\nfine")
    assert not transport.is_closing()


@pytest.mark.parametrize("pipelined", [0, 1])
async def test_a_disconnect_is_received_and_nothing_is_sent_after_it(pipelined: int) -> None:
    received: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        received.extend([(await receive())["type"] for _ in range(2)])
        await PlainTextResponse("fine")(scope, receive, send)

    protocol, transport = await _connected(app, HEALTHZ * (1 + pipelined))
    protocol.connection_lost(None)
    await _settle()

    assert received == ["http.request", "http.disconnect"]
    assert transport.written == b""


async def test_a_pipelined_request_does_not_have_the_context_of_the_one_ahead() -> None:
    variable = ContextVar("variable", default="unset")
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(variable.get())
        variable.set("of the one ahead")
        await PlainTextResponse("fine")(scope, receive, send)

    await _connected(app, HEALTHZ * 2)

    assert seen == ["unset", "unset"]


async def test_the_log_of_a_pipelined_request_does_not_have_the_context_of_the_one_ahead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    variable = ContextVar("variable", default="unset")
    may_respond = asyncio.Event()
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        variable.set("of the one ahead")
        await may_respond.wait()
        await PlainTextResponse("fine")(scope, receive, send)

    log = logging.getLogger("contact_gateway.server.protocol")
    monkeypatch.setattr(log, "warning", lambda _message: seen.append(variable.get()))
    # Two requests pause reading, so the third is parsed after the first response.
    await _connected(app, HEALTHZ * 2, b"no request\r\n\r\n")
    may_respond.set()
    await _settle()

    assert seen == ["unset"]


async def test_the_end_of_a_body_is_received_once() -> None:
    may_receive = asyncio.Event()
    received: list[Message] = []

    async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
        received.append(await receive())
        await may_receive.wait()
        received.append(await receive())
        received.append(await receive())

    protocol, _ = await _connected(app, POST % 4, b"ab")
    protocol.data_received(b"cd")
    may_receive.set()
    await _settle()

    assert [message["body"] for message in received] == [b"ab", b"cd"]
    protocol.connection_lost(None)
    await _settle()
    assert received[-1]["type"] == "http.disconnect"


async def test_the_end_of_a_response_is_received_as_a_disconnect() -> None:
    received: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("fine")(scope, receive, send)
        received.extend([(await receive())["type"] for _ in range(2)])

    await _connected(app, HEALTHZ)

    assert received == ["http.disconnect"] * 2


async def test_the_end_of_a_response_is_received_by_a_concurrent_part() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        message, _ = await asyncio.gather(
            receive(), PlainTextResponse("fine")(scope, receive, send)
        )
        received.append(message["type"])

    received: list[str] = []
    await _connected(app, HEALTHZ)

    assert received == ["http.disconnect"]


async def test_a_broken_connection_starts_no_pipelined_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        started.append(scope)
        await PlainTextResponse("fine")(scope, receive, send)

    protocol, transport = await _connected(app)
    monkeypatch.setattr(transport, "write", lambda _: transport.close())
    protocol.data_received(HEALTHZ * 2)
    await _settle()

    assert len(started) == 1


async def test_nothing_is_written_to_a_closed_connection(caplog: pytest.LogCaptureFixture) -> None:
    protocol, transport = await _connected(PlainTextResponse("fine"))
    protocol.data_received(HEALTHZ)
    transport.is_closed = True
    await _settle()

    assert transport.calls == []
    assert caplog.messages == []
