"""The client: timeouts, retries, and bounds on connections and answers."""

import asyncio
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import trustme

from contact_gateway.access.principals import Credential
from contact_gateway.contacts.source import SourceUnavailable
from contact_gateway.upstream.calls import (
    MAX_RESPONSE_BYTES,
    Call,
    Delivery,
    UpstreamUnavailable,
    retry_after_seconds,
)
from contact_gateway.upstream.circuit import FAILURE_THRESHOLD
from contact_gateway.upstream.client import RecordStatus, StartSpan, UpstreamClient
from support.clock import ManualClock
from support.upstream import (
    End,
    RecordedUpstream,
    Recording,
    Request,
    recorded,
    recorded_upstream,
)

pytestmark = pytest.mark.anyio

READ = Call("GET", "contacts/1", Credential.of("key"))
CREATE = Call("POST", "contacts", Credential.of("key"), body={"contact": {}})
FINE = recorded(200, "{}")
TIMEOUT_SECONDS = 60.0


@asynccontextmanager
async def client_of(
    url: str, *, max_connections: int = 10, start_span: StartSpan | None = None
) -> AsyncIterator[UpstreamClient]:
    async with UpstreamClient(
        url, timeout_seconds=TIMEOUT_SECONDS, max_connections=max_connections, start_span=start_span
    ) as client:
        yield client


def _in_turn(*recordings: Recording) -> Callable[[Request], Recording]:
    """Answer with each recording in turn, and then always with the last one."""
    left = list(recordings)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


@asynccontextmanager
async def client_before(
    *recordings: Recording, max_connections: int = 10
) -> AsyncIterator[tuple[UpstreamClient, RecordedUpstream]]:
    async with (
        recorded_upstream(_in_turn(*recordings)) as upstream,
        client_of(upstream.url, max_connections=max_connections) as client,
    ):
        yield client, upstream


@pytest.fixture
def noon(monkeypatch: pytest.MonkeyPatch) -> datetime:
    """Stop the system clock at noon."""
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
    monkeypatch.setattr(time, "time", noon.timestamp)
    return noon


@pytest.fixture
def closed_port() -> Iterator[socket.socket]:
    """Return a socket that is bound and refuses connections."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound


def _url(bound: socket.socket) -> str:
    return f"http://127.0.0.1:{bound.getsockname()[1]}"


@pytest.mark.parametrize(
    "passing",
    [
        pytest.param(recorded(502), id="bad gateway"),
        pytest.param(recorded(503), id="unavailable"),
        pytest.param(recorded(504), id="gateway timeout"),
        pytest.param(Recording(b"", End.CLOSE), id="end"),
        pytest.param(Recording(b"", End.RESET), id="reset"),
        pytest.param(Recording(recorded(200, "{}").raw[:-1], End.CLOSE), id="end in mid-body"),
    ],
)
async def test_a_read_is_retried_where_upstream_is_down(passing: Recording) -> None:
    async with client_before(passing, FINE) as (client, upstream):
        response = await client.send(READ)

    assert response.status == 200
    assert len(upstream.requests) >= 2


async def test_a_read_is_tried_at_most_three_times() -> None:
    async with client_before(recorded(502)) as (client, upstream):
        with pytest.raises(UpstreamUnavailable):
            await client.send(READ)

    assert len(upstream.requests) == 3


@pytest.mark.parametrize("status", [200, 400, 401, 404, 429, 500])
async def test_an_answered_read_is_not_retried(status: int) -> None:
    async with client_before(recorded(status)) as (client, upstream):
        assert (await client.send(READ)).status == status

    assert len(upstream.requests) == 1


async def test_a_retry_after_header_prevents_an_immediate_retry() -> None:
    async with client_before(recorded(503, headers={"Retry-After": "9"})) as (client, upstream):
        with pytest.raises(UpstreamUnavailable) as raised:
            await client.send(READ)

    assert raised.value.retry_after_seconds == 9
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("lost", "delivery"),
    [
        pytest.param(recorded(502), Delivery.UNKNOWN, id="bad gateway"),
        pytest.param(recorded(503), Delivery.UNKNOWN, id="unavailable"),
        pytest.param(recorded(503, '{"error": {}}'), Delivery.REFUSED, id="HiEnergy's own 503"),
        pytest.param(recorded(504), Delivery.UNKNOWN, id="gateway timeout"),
        pytest.param(Recording(b"", End.CLOSE), Delivery.UNKNOWN, id="end"),
        pytest.param(Recording(b"", End.RESET), Delivery.UNKNOWN, id="reset"),
        pytest.param(
            Recording(recorded(201).raw[:20], End.CLOSE), Delivery.UNKNOWN, id="end in mid-head"
        ),
    ],
)
async def test_a_creation_that_may_have_arrived_is_not_retried(
    lost: Recording, delivery: Delivery
) -> None:
    async with client_before(lost, FINE) as (client, upstream):
        with pytest.raises(UpstreamUnavailable) as raised:
            await client.send(CREATE)

    assert raised.value.delivery is delivery
    assert len(upstream.requests) == 1


CUT = recorded(201, '{"data": {}}').raw[:-1]


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(Recording(CUT, End.CLOSE), id="cut"),
        pytest.param(Recording(CUT, End.RESET), id="reset"),
        pytest.param(
            Recording(
                b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n{", End.CLOSE
            ),
            id="cut in mid-chunk",
        ),
        pytest.param(
            Recording(
                b"HTTP/1.1 201 Created\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}"
            ),
            id="not compressed",
        ),
        pytest.param(recorded(201, b'"' + b"x" * MAX_RESPONSE_BYTES + b'"'), id="too large"),
        pytest.param(recorded(201, "<h1>Created</h1>"), id="not JSON"),
        pytest.param(recorded(201), id="empty"),
    ],
)
async def test_a_creation_whose_answer_has_a_broken_body_has_its_status(broken: Recording) -> None:
    async with client_before(broken, FINE) as (client, upstream):
        response = await client.send(CREATE)

    assert (response.status, response.body) == (201, None)
    assert len(upstream.requests) == 1


async def test_a_creation_whose_answer_does_not_end_has_its_status(
    stopped_clock: ManualClock,
) -> None:
    async with client_before(Recording(CUT, End.STALL)) as (client, upstream):
        sent = asyncio.create_task(client.send(CREATE))
        await upstream.is_stalled.wait()
        await stopped_clock.advance_until_done(sent)

    assert (await sent).status == 201


@pytest.mark.parametrize("call", [READ, CREATE], ids=lambda call: call.method)
async def test_a_call_ends_at_its_timeout(call: Call, stopped_clock: ManualClock) -> None:
    async with client_before(Recording(b"", End.STALL)) as (client, upstream):
        sent = asyncio.create_task(client.send(call))
        await upstream.is_stalled.wait()
        await stopped_clock.advance(TIMEOUT_SECONDS)
        with pytest.raises(UpstreamUnavailable) as raised:
            await sent

    assert raised.value.delivery is Delivery.UNKNOWN


async def test_a_call_after_the_stop_is_never_sent() -> None:
    async with client_before(recorded(200, "{}")) as (client, upstream):
        await client.send(READ)
    with pytest.raises(UpstreamUnavailable) as raised:
        await client.send(READ)

    assert (raised.value.delivery, raised.value.is_transient) == (Delivery.NEVER_SENT, False)
    assert len(upstream.calls()) == 1


async def test_a_call_ends_at_its_own_timeout(stopped_clock: ManualClock) -> None:
    call = CREATE._replace(timeout_seconds=2 * TIMEOUT_SECONDS)
    async with client_before(Recording(b"", End.STALL)) as (client, upstream):
        sent = asyncio.create_task(client.send(call))
        await upstream.is_stalled.wait()
        await stopped_clock.advance(1.5 * TIMEOUT_SECONDS)
        assert not sent.done()
        await stopped_clock.advance(TIMEOUT_SECONDS)
        with pytest.raises(UpstreamUnavailable):
            await sent


async def test_retries_of_a_creation_end_at_its_timeout(
    closed_port: socket.socket, stopped_clock: ManualClock
) -> None:
    """Each attempt takes 40 s, so a third one would begin after the timeout of 60 s."""
    attempts = 0

    @contextmanager
    def slow_attempt(_method: str, _headers: dict[str, str]) -> Iterator[RecordStatus]:
        nonlocal attempts
        attempts += 1
        try:
            yield lambda _status: None
        finally:
            stopped_clock.seconds += 40

    async with client_of(_url(closed_port), start_span=slow_attempt) as client:
        creation = asyncio.create_task(client.send(CREATE))
        await stopped_clock.advance_until_done(creation)
        with pytest.raises(UpstreamUnavailable) as raised:
            await creation

    assert attempts == 2
    assert raised.value.delivery is Delivery.NEVER_SENT


async def test_a_creation_without_a_connection_was_never_sent(closed_port: socket.socket) -> None:
    async with client_of(_url(closed_port)) as client:
        with pytest.raises(UpstreamUnavailable) as raised:
            await client.send(CREATE)

    assert raised.value.delivery is Delivery.NEVER_SENT
    assert "Connect" in raised.value.reason


async def test_a_creation_without_a_connection_is_retried(closed_port: socket.socket) -> None:
    """The port refuses the first connection and accepts the second one."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(recorded(201, "{}").raw)
        await writer.drain()
        writer.close()

    refused = asyncio.Event()

    @contextmanager
    def open_port_after_call(_method: str, _headers: dict[str, str]) -> Iterator[RecordStatus]:
        try:
            yield lambda _status: None
        finally:
            closed_port.listen()
            refused.set()

    async with client_of(_url(closed_port), start_span=open_port_after_call) as client:
        creation = asyncio.create_task(client.send(CREATE))
        await refused.wait()
        server = await asyncio.start_server(serve, sock=closed_port)
        answer = await creation
        server.close()

    assert answer.status == 201
    assert len(requests) == 1


async def test_a_creation_without_a_tls_handshake_was_never_sent(
    stopped_clock: ManualClock,
) -> None:
    async with recorded_upstream(lambda _: FINE) as upstream:
        url = upstream.url.replace("http://", "https://")
        async with client_of(url) as client:
            creation = asyncio.create_task(client.send(CREATE))
            await upstream.is_connected.wait()
            await stopped_clock.advance_until_done(creation)
            with pytest.raises(UpstreamUnavailable) as raised:
                await creation

    assert raised.value.delivery is Delivery.NEVER_SENT
    assert upstream.requests == []


async def test_a_certificate_of_an_unknown_authority_is_not_trusted() -> None:
    certificate = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(certificate)
    async with recorded_upstream(lambda _: FINE, certificate=certificate) as upstream:
        with pytest.raises(UpstreamUnavailable) as raised:
            async with client_of(upstream.url) as client:
                await client.send(CREATE)

    assert raised.value.delivery is Delivery.NEVER_SENT
    assert "certificate verify failed" in raised.value.reason
    assert upstream.requests == []


async def test_connections_are_bounded_and_reused() -> None:
    async with client_before(FINE, max_connections=3) as (client, upstream):
        await asyncio.gather(*(client.send(READ) for _ in range(30)))

        assert upstream.most_connections == 3
        assert len(upstream.requests) == 30


STALE = recorded(201, '{"data": {"id": "1"}}').raw


@pytest.mark.parametrize("is_read", [True, False], ids=["read", "unread"])
@pytest.mark.parametrize(
    "unsolicited",
    [
        pytest.param(STALE, id="response"),
        pytest.param(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n", id="endless"),
        pytest.param(None, id="end"),
    ],
)
async def test_a_call_is_not_sent_over_a_connection_that_is_not_idle(
    unsolicited: bytes | None, closed_port: socket.socket, *, is_read: bool
) -> None:
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(FINE.raw)
        writer.close()

    server = await asyncio.start_server(serve, sock=closed_port)
    async with client_of(_url(closed_port)) as client:
        await client.send(READ)
        if unsolicited is None:
            writers[0].get_extra_info("socket").shutdown(socket.SHUT_WR)
        else:
            writers[0].write(unsolicited)
        for _ in range(10 if is_read else 0):
            await asyncio.sleep(0)
        response = await client.send(CREATE)
        server.close()

    assert (response.status, response.body) == (200, {})
    assert len(writers) == 2


async def test_a_creation_that_waits_too_long_for_a_connection_was_never_sent(
    stopped_clock: ManualClock,
) -> None:
    async with client_before(FINE, max_connections=1) as (client, upstream):
        upstream.gate.clear()
        first = asyncio.create_task(client.send(CREATE))
        await upstream.is_crowded.wait()
        second = asyncio.create_task(client.send(CREATE))
        # The second waits for the pool, for less than the timeout of the first.
        await stopped_clock.advance_until_done(second)
        with pytest.raises(UpstreamUnavailable) as raised:
            await second
        upstream.gate.set()
        await first

    assert raised.value.delivery is Delivery.NEVER_SENT
    assert len(upstream.requests) == 1


async def test_calls_beyond_the_queue_are_refused() -> None:
    async with client_before(FINE, max_connections=1) as (client, upstream):
        upstream.gate.clear()
        waiting = [asyncio.create_task(client.send(CREATE)) for _ in range(20)]
        await asyncio.sleep(0)
        with pytest.raises(SourceUnavailable, match="too many"):
            await client.send(CREATE)
        upstream.gate.set()
        await asyncio.gather(*waiting)


async def test_the_client_closes_its_connections() -> None:
    async with recorded_upstream(lambda _: FINE) as upstream:
        async with client_of(upstream.url) as client:
            await client.send(READ)
            assert upstream.connections == 1
        await upstream.is_left.wait()


async def test_a_cookie_of_one_caller_is_not_sent_for_another() -> None:
    cookie = recorded(200, "{}", headers={"Set-Cookie": "session=of-the-first; Path=/"})
    async with client_before(cookie) as (client, upstream):
        await client.send(READ)
        await client.send(READ)

    assert all("cookie" not in request.headers for request in upstream.requests)


@pytest.mark.usefixtures("stopped_clock")
async def test_an_open_circuit_refuses_calls_without_sending_them() -> None:
    async with client_before(Recording(b"", End.CLOSE)) as (client, upstream):
        for _ in range(FAILURE_THRESHOLD):
            with pytest.raises(UpstreamUnavailable):
                await client.send(CREATE)
        sent = len(upstream.requests)
        for call in (CREATE, READ):
            with pytest.raises(UpstreamUnavailable, match="down") as raised:
                await client.send(call)
            assert raised.value.delivery is Delivery.NEVER_SENT
            assert raised.value.retry_after_seconds >= 1

    assert len(upstream.requests) == sent


@pytest.mark.usefixtures("stopped_clock")
async def test_an_open_circuit_does_not_affect_readiness() -> None:
    dead = Recording(b"", End.CLOSE)
    async with client_before(*[dead] * FAILURE_THRESHOLD, FINE) as (client, _):
        for _ in range(FAILURE_THRESHOLD):
            with pytest.raises(UpstreamUnavailable):
                await client.send(CREATE)

        with pytest.raises(UpstreamUnavailable, match="down"):
            await client.send(CREATE)
        assert await client.is_reachable() is True


async def test_any_call_that_cannot_connect_counts_for_the_circuit(
    closed_port: socket.socket,
) -> None:
    reasons = set()
    async with client_of(_url(closed_port)) as client:
        for _ in range(FAILURE_THRESHOLD * 2):
            with pytest.raises(UpstreamUnavailable) as raised:
                await client.send(READ._replace(is_passed_through=True))
            reasons.add(raised.value.reason)

    failure = "no connection to upstream: Connection refused"
    assert reasons == {failure, f"upstream is down, and the circuit is open: {failure}"}


async def test_a_read_that_is_passed_through_waits_for_a_connection_within_its_timeout(
    stopped_clock: ManualClock,
) -> None:
    read = READ._replace(is_passed_through=True)
    async with client_before(FINE, max_connections=1) as (client, upstream):
        upstream.gate.clear()
        first, second = (asyncio.create_task(client.send(read)) for _ in range(2))
        await upstream.is_crowded.wait()
        await stopped_clock.advance_until_done(second)
        with pytest.raises(UpstreamUnavailable, match="too many reads"):
            await second
        with pytest.raises(UpstreamUnavailable):
            await first
        upstream.gate.set()

    assert len(upstream.requests) == 1


@pytest.mark.usefixtures("stopped_clock")
async def test_readiness_probes_within_a_second_share_one_call() -> None:
    async with client_before(FINE) as (client, upstream):
        together = await asyncio.gather(*(client.is_reachable() for _ in range(20)))
        after = await client.is_reachable()

    assert {*together, after} == {True}
    assert len(upstream.requests) == 1


async def test_readiness_is_probed_again_after_a_second(stopped_clock: ManualClock) -> None:
    async with client_before(recorded(503), FINE) as (client, _):
        before = await client.is_reachable()
        await stopped_clock.advance(1)
        after = await client.is_reachable()

    assert (before, after) == (False, True)


async def test_a_hanging_readiness_probe_ends_before_a_call_would(
    stopped_clock: ManualClock,
) -> None:
    async with client_before(Recording(b"", End.STALL)) as (client, upstream):
        probe = asyncio.create_task(client.is_reachable())
        await upstream.is_stalled.wait()
        await stopped_clock.advance(TIMEOUT_SECONDS / 10)
        assert await probe is False


async def test_an_answer_that_is_too_large_has_no_body_and_does_not_open_the_circuit() -> None:
    huge = recorded(200, b'"' + b"x" * MAX_RESPONSE_BYTES + b'"')
    async with client_before(huge) as (client, upstream):
        bodies = [(await client.send(READ)).body for _ in range(FAILURE_THRESHOLD + 1)]

    assert bodies == [None] * len(bodies)
    assert len(upstream.requests) == len(bodies)


@pytest.mark.parametrize("call", [READ, CREATE], ids=lambda call: call.method)
async def test_a_header_may_be_as_large_as_those_of_web_pages(call: Call) -> None:
    """Such as a content security policy with many hashes."""
    large = recorded(201, "{}", headers={"Content-Security-Policy": "x" * 60_000})
    async with client_before(large) as (client, _):
        assert (await client.send(call)).body == {}


@pytest.mark.parametrize("status", [200, 422])
async def test_the_values_of_a_large_refusal_are_not_read(status: int) -> None:
    sizes = [64 * 1024, 64 * 1024 + 1]
    bodies = []
    for size in sizes:
        text = b'"' + b"x" * (size - 2) + b'"'
        async with client_before(recorded(status, text)) as (client, _):
            bodies.append((await client.send(READ)).body)

    assert bodies[0] == "x" * (sizes[0] - 2)
    assert (bodies[1] is None) == (status == 422)


@pytest.mark.parametrize("seconds", [0, 3600, -3600])
async def test_the_clock_of_upstream_is_read_from_its_answers(seconds: int, noon: datetime) -> None:
    date = format_datetime(noon + timedelta(seconds=seconds), usegmt=True)
    async with client_before(recorded(200, "{}", headers={"Date": date})) as (client, _):
        assert client.clock_ahead() is None
        await client.send(READ)
        ahead = client.clock_ahead()

    assert ahead == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Date": "noon"},
        {"Date": ""},
        {"Date": "9" * 30},
        {"Date": "Fri, 31 Dec 9999 23:59:59 GMT"},
        {"Date": "Sat, 31 Jan 2026 12:00:00 GMT", "Age": "60"},
    ],
)
async def test_answers_without_a_date_have_no_clock(headers: dict[str, str]) -> None:
    async with client_before(recorded(200, "{}", headers=headers)) as (client, _):
        await client.send(READ)
        assert client.clock_ahead() is None


@pytest.mark.usefixtures("stopped_clock")
@pytest.mark.parametrize(
    ("status", "is_reachable"),
    [
        (200, True),
        (401, True),
        (404, True),
        (500, False),
        (503, False),
    ],
)
async def test_upstream_is_reachable_without_a_server_error(
    status: int, *, is_reachable: bool
) -> None:
    async with client_before(recorded(status)) as (client, upstream):
        assert await client.is_reachable() is is_reachable

    assert upstream.calls() == ["GET /api/v1/schema"]


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{",
    ],
    ids=["long", "chunked"],
)
async def test_readiness_does_not_wait_for_a_body(head: bytes) -> None:
    async with client_before(Recording(head, End.STALL), FINE) as (client, upstream):
        assert await client.is_reachable() is True
        assert (await client.send(READ)).status == 200

    assert upstream.calls() == ["GET /api/v1/schema", "GET /api/v1/contacts/1"]


async def test_query_values_are_encoded() -> None:
    query = {"q": "a b&c=ü%/?#", "email": "a+b@example.com"}
    async with client_before(FINE) as (client, upstream):
        await client.send(Call("GET", "contacts", query=query))

    assert upstream.calls() == [
        "GET /api/v1/contacts?q=a+b%26c%3D%C3%BC%25/?%23&email=a%2Bb@example.com"
    ]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        (" 17 ", 17),
        ("16.2", 17),
        ("9" * 400, 86_400),
        ("1e3", None),
        ("-1", None),
        ("", None),
        ("soon", None),
    ],
)
def test_retry_after_in_seconds(text: str, seconds: int | None) -> None:
    assert retry_after_seconds({"Retry-After": text}) == seconds


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set the local time zone to one that is not UTC."""
    with monkeypatch.context() as changed:
        changed.setenv("TZ", "XXX+5")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    "date",
    [
        "Sat, 31 Jan 2026 14:00:00 GMT",
        "Saturday, 31-Jan-26 14:00:00 GMT",
        "Sat Jan 31 14:00:00 2026",
        "Sat, 31 Jan 2026 14:00:00 -0000",
    ],
)
def test_retry_after_is_read_as_a_date(date: str, noon: datetime) -> None:
    ahead = format_datetime(noon + timedelta(hours=1), usegmt=True)

    assert retry_after_seconds({"Retry-After": date}) == 7200
    assert retry_after_seconds({"Retry-After": date, "Date": ahead}) == 3600
    assert retry_after_seconds({"Retry-After": date, "Date": "noon"}) == 7200


async def test_json_is_read_whatever_its_content_type() -> None:
    async with client_before(recorded(200, '{"a": 1}', media_type="text/plain")) as (client, _):
        response = await client.send(READ)

    assert json.dumps(response.body) == '{"a": 1}'
