"""The client: bounds on time, connections and answers; what is tried again, and what is not."""

import asyncio
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import trustme

from contact_gateway.access.principals import Credential
from contact_gateway.contacts.source import SourceUnavailable
from contact_gateway.upstream.circuit import FAILURES_THAT_OPEN
from contact_gateway.upstream.client import (
    MAX_ANSWER_BYTES,
    Call,
    Delivery,
    UpstreamClient,
    UpstreamUnavailable,
    retry_after_seconds,
)
from support.upstream import (
    End,
    RecordedUpstream,
    Recording,
    Request,
    recorded,
    recorded_upstream,
)

pytestmark = pytest.mark.anyio

READ = Call("GET", "contacts/1", Credential("key"))
CREATE = Call("POST", "contacts", Credential("key"), body={"contact": {}})
FINE = recorded(200, "{}")


@asynccontextmanager
async def client_of(
    url: str, *, timeout_seconds: float = 5.0, max_connections: int = 10
) -> AsyncIterator[UpstreamClient]:
    async with UpstreamClient(
        url, timeout_seconds=timeout_seconds, max_connections=max_connections
    ) as client:
        yield client


def _in_turn(*recordings: Recording) -> Callable[[Request], Recording]:
    """Answer with one after the other, and with the last from then on."""
    left = list(recordings)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


@asynccontextmanager
async def client_before(
    *recordings: Recording, timeout_seconds: float = 5.0, max_connections: int = 10
) -> AsyncIterator[tuple[UpstreamClient, RecordedUpstream]]:
    async with (
        recorded_upstream(_in_turn(*recordings)) as upstream,
        client_of(
            upstream.url, timeout_seconds=timeout_seconds, max_connections=max_connections
        ) as client,
    ):
        yield client, upstream


@pytest.fixture
def nobody() -> str:
    """Return an address on this machine at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


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
async def test_a_read_is_tried_again_where_upstream_was_not_reached(passing: Recording) -> None:
    async with client_before(passing, FINE) as (client, upstream):
        answer = await client.read(READ)

    assert answer.status == 200
    assert len(upstream.requests) >= 2


async def test_a_read_is_tried_three_times_at_most() -> None:
    async with client_before(recorded(502)) as (client, upstream):
        with pytest.raises(UpstreamUnavailable):
            await client.read(READ)

    assert len(upstream.requests) == 3


@pytest.mark.parametrize("status", [200, 400, 401, 404, 429, 500])
async def test_an_answer_is_an_answer_and_not_tried_again(status: int) -> None:
    async with client_before(recorded(status)) as (client, upstream):
        assert (await client.read(READ)).status == status

    assert len(upstream.requests) == 1


async def test_an_upstream_that_says_when_to_come_back_is_not_asked_before() -> None:
    async with client_before(recorded(503, headers={"Retry-After": "9"})) as (client, upstream):
        with pytest.raises(UpstreamUnavailable) as raised:
            await client.read(READ)

    assert raised.value.retry_after_seconds == 9
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("lost", "delivery"),
    [
        pytest.param(recorded(502), Delivery.UNKNOWN, id="bad gateway"),
        pytest.param(recorded(503), Delivery.UNKNOWN, id="unavailable"),
        pytest.param(recorded(504), Delivery.UNKNOWN, id="gateway timeout"),
        pytest.param(Recording(b"", End.CLOSE), Delivery.UNKNOWN, id="end"),
        pytest.param(Recording(b"", End.RESET), Delivery.UNKNOWN, id="reset"),
        pytest.param(
            Recording(recorded(201, "{}").raw[:-1], End.CLOSE), Delivery.OVER, id="end in mid-body"
        ),
        pytest.param(
            Recording(recorded(201, "{}").raw[:-1], End.RESET),
            Delivery.OVER,
            id="reset in mid-body",
        ),
    ],
)
async def test_a_creation_that_may_have_arrived_is_sent_once(
    lost: Recording, delivery: Delivery
) -> None:
    async with client_before(lost, FINE) as (client, upstream):
        with pytest.raises(UpstreamUnavailable) as raised:
            await client.create(CREATE)

    assert raised.value.delivery is delivery
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("call", [READ, CREATE], ids=lambda call: call.method)
async def test_a_slow_upstream_is_given_up_in_time(call: Call) -> None:
    async with client_before(Recording(b"", End.STALL), timeout_seconds=0.3) as (client, _):
        started = time.monotonic()
        with pytest.raises(UpstreamUnavailable) as raised:
            await (client.read(call) if call is READ else client.create(call))

    assert raised.value.delivery is Delivery.UNKNOWN
    assert time.monotonic() - started < 2


async def test_a_creation_is_tried_again_where_no_connection_was_made(nobody: str) -> None:
    async with client_of(nobody) as client:
        with pytest.raises(UpstreamUnavailable) as raised:
            await client.create(CREATE)

    assert raised.value.delivery is Delivery.NEVER_SENT
    assert "Connect" in raised.value.reason


async def test_a_creation_gets_through_once_there_is_somebody(nobody: str) -> None:
    """Nobody listens at first; the second try comes to a server."""
    port = int(nobody.rpartition(":")[2])
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(recorded(201, "{}").raw)
        await writer.drain()
        writer.close()

    async with client_of(nobody) as client:
        creating = asyncio.create_task(client.create(CREATE))
        await asyncio.sleep(0)
        server = await asyncio.start_server(serve, "127.0.0.1", port)
        answer = await creating
        server.close()

    assert answer.status == 201
    assert len(asked) == 1


async def test_tls_that_is_not_spoken_is_a_connection_that_was_never_made() -> None:
    async with recorded_upstream(lambda _: FINE) as upstream:
        url = upstream.url.replace("http://", "https://")
        with pytest.raises(UpstreamUnavailable) as raised:
            async with client_of(url, timeout_seconds=0.5) as client:
                await client.create(CREATE)

    assert raised.value.delivery is Delivery.NEVER_SENT
    assert upstream.requests == []


async def test_a_certificate_that_nobody_vouches_for_is_not_trusted() -> None:
    certificate = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(certificate)
    async with recorded_upstream(lambda _: FINE, certificate=certificate) as upstream:
        with pytest.raises(UpstreamUnavailable) as raised:
            async with client_of(upstream.url) as client:
                await client.create(CREATE)

    assert raised.value.delivery is Delivery.NEVER_SENT
    assert "Certificate" in raised.value.reason
    assert upstream.requests == []


async def test_connections_are_bounded_and_used_again() -> None:
    async with client_before(FINE, max_connections=3) as (client, upstream):
        await asyncio.gather(*(client.read(READ) for _ in range(30)))

        assert upstream.most_connections == 3
        assert len(upstream.requests) == 30


async def test_what_waits_for_a_connection_too_long_was_never_sent() -> None:
    async with client_before(FINE, timeout_seconds=1.0, max_connections=1) as (client, upstream):
        upstream.gate.clear()
        first = asyncio.create_task(client.create(CREATE))
        await upstream.is_crowded.wait()
        with pytest.raises(UpstreamUnavailable) as raised:
            await client.create(CREATE)
        upstream.gate.set()
        await first

    assert raised.value.delivery is Delivery.NEVER_SENT
    assert len(upstream.requests) == 1


async def test_too_many_that_wait_are_refused_at_once() -> None:
    async with client_before(FINE, max_connections=1) as (client, upstream):
        upstream.gate.clear()
        waiting = [asyncio.create_task(client.create(CREATE)) for _ in range(20)]
        await asyncio.sleep(0)
        with pytest.raises(SourceUnavailable, match="too many"):
            await client.create(CREATE)
        upstream.gate.set()
        await asyncio.gather(*waiting)


async def test_all_connections_are_closed_at_the_end() -> None:
    async with recorded_upstream(lambda _: FINE) as upstream:
        async with client_of(upstream.url) as client:
            await client.read(READ)
            assert upstream.connections == 1
        await upstream.is_left.wait()


async def test_what_upstream_sets_for_one_caller_does_not_travel_with_another() -> None:
    cookie = recorded(200, "{}", headers={"Set-Cookie": "session=of-the-first; Path=/"})
    async with client_before(cookie) as (client, upstream):
        await client.read(READ)
        await client.read(READ)

    assert all("cookie" not in request.headers for request in upstream.requests)


async def test_while_upstream_is_down_nobody_waits_for_it() -> None:
    async with client_before(Recording(b"", End.CLOSE)) as (client, upstream):
        for _ in range(FAILURES_THAT_OPEN):
            with pytest.raises(UpstreamUnavailable):
                await client.create(CREATE)
        asked = len(upstream.requests)
        for call in (client.create(CREATE), client.read(READ)):
            with pytest.raises(UpstreamUnavailable, match="down") as raised:
                await call
            assert raised.value.delivery is Delivery.NEVER_SENT
            assert raised.value.retry_after_seconds >= 1

    assert len(upstream.requests) == asked


async def test_readiness_is_asked_whatever_the_circuit_says() -> None:
    dead = Recording(b"", End.CLOSE)
    async with client_before(*[dead] * FAILURES_THAT_OPEN, FINE) as (client, _):
        for _ in range(FAILURES_THAT_OPEN):
            with pytest.raises(UpstreamUnavailable):
                await client.create(CREATE)

        with pytest.raises(UpstreamUnavailable, match="down"):
            await client.create(CREATE)
        assert await client.is_reached() is True


async def test_all_who_ask_for_readiness_within_a_second_share_one_call() -> None:
    async with client_before(FINE) as (client, upstream):
        together = await asyncio.gather(*(client.is_reached() for _ in range(20)))
        after = await client.is_reached()

    assert {*together, after} == {True}
    assert len(upstream.requests) == 1


async def test_readiness_is_asked_again_after_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contact_gateway.upstream.client._PROBED_EVERY", 0.0)
    async with client_before(recorded(503), FINE) as (client, _):
        assert [await client.is_reached(), await client.is_reached()] == [False, True]


async def test_a_readiness_that_hangs_is_given_up_before_a_call_would_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("contact_gateway.upstream.client._LONGEST_PROBE_SECONDS", 0.2)
    async with client_before(Recording(b"", End.STALL), timeout_seconds=60) as (client, _):
        async with asyncio.timeout(10):
            assert await client.is_reached() is False


async def test_an_answer_too_large_is_no_body_and_says_nothing_against_upstream() -> None:
    huge = recorded(200, b'"' + b"x" * MAX_ANSWER_BYTES + b'"')
    async with client_before(huge) as (client, upstream):
        bodies = [(await client.read(READ)).body for _ in range(FAILURES_THAT_OPEN + 1)]

    assert bodies == [None] * len(bodies)
    assert len(upstream.requests) == len(bodies)


@pytest.mark.parametrize("seconds", [0, 3600, -3600])
async def test_upstreams_clock_is_read_from_its_answers(seconds: int) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)
    async with client_before(recorded(200, "{}", headers={"Date": date})) as (client, _):
        assert client.clock_ahead() is None
        await client.read(READ)
        ahead = client.clock_ahead()

    assert ahead is not None
    assert timedelta(seconds=-5) < ahead - timedelta(seconds=seconds) <= timedelta(0)


@pytest.mark.parametrize("headers", [{}, {"Date": "noon"}, {"Date": ""}, {"Date": "9" * 30}])
async def test_an_upstream_that_tells_no_time_has_no_clock(headers: dict[str, str]) -> None:
    async with client_before(recorded(200, "{}", headers=headers)) as (client, _):
        await client.read(READ)
        assert client.clock_ahead() is None


@pytest.mark.parametrize(
    ("status", "is_reached"), [(200, True), (401, True), (404, True), (500, False), (503, False)]
)
async def test_upstream_is_reached_where_it_answers_without_a_fault(
    status: int, *, is_reached: bool
) -> None:
    async with client_before(recorded(status)) as (client, upstream):
        assert await client.is_reached() is is_reached

    assert upstream.asked() == ["GET /api/v1/schema"]


async def test_texts_of_a_query_are_encoded() -> None:
    query = {"q": "a b&c=ü%/?#", "email": "a+b@example.com"}
    async with client_before(FINE) as (client, upstream):
        await client.read(Call("GET", "contacts", query=query))

    assert upstream.asked() == [
        "GET /api/v1/contacts?q=a+b%26c%3D%C3%BC%25/?%23&email=a%2Bb@example.com"
    ]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), (" 17 ", 17), ("1e3", None), ("-1", None), ("", None), ("soon", None)],
)
def test_retry_after_is_read_in_seconds(text: str, seconds: int | None) -> None:
    assert retry_after_seconds({"Retry-After": text}) == seconds


def test_retry_after_is_read_as_a_date() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(hours=2), usegmt=True)
    seconds = retry_after_seconds({"Retry-After": later})

    assert seconds is not None
    assert 7190 <= seconds <= 7200


async def test_a_json_answer_is_read_whatever_its_declared_type() -> None:
    async with client_before(recorded(200, '{"a": 1}', media_type="text/plain")) as (client, _):
        answer = await client.read(READ)

    assert json.dumps(answer.body) == '{"a": 1}'
