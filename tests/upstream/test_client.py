"""The client for upstream: timeouts, limits, retries, and the circuit breaker."""

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
from contact_gateway.upstream.circuit import FAILURE_THRESHOLD
from contact_gateway.upstream.client import (
    MAX_RESPONSE_BYTES,
    Call,
    Delivery,
    UpstreamClient,
    UpstreamUnavailable,
    retry_after_seconds,
)
from support.recorded_upstream import (
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
    """Respond with each recording in turn, then repeat the last."""
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
def closed_port() -> str:
    """Return the URL of a closed port on this machine."""
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
async def test_a_read_is_retried_after_a_transient_failure(passing: Recording) -> None:
    async with client_before(passing, FINE) as (client, upstream):
        response = await client.send(READ)

    assert response.status == 200
    assert len(upstream.requests) >= 2


async def test_a_read_is_attempted_at_most_three_times() -> None:
    async with client_before(recorded(502)) as (client, upstream):
        with pytest.raises(UpstreamUnavailable):
            await client.send(READ)

    assert len(upstream.requests) == 3


@pytest.mark.parametrize("status", [200, 400, 401, 404, 429, 500])
async def test_a_response_of_upstream_itself_is_not_retried(status: int) -> None:
    async with client_before(recorded(status)) as (client, upstream):
        assert (await client.send(READ)).status == status

    assert len(upstream.requests) == 1


async def test_a_read_with_a_retry_after_is_not_retried() -> None:
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
        pytest.param(recorded(504), Delivery.UNKNOWN, id="gateway timeout"),
        pytest.param(Recording(b"", End.CLOSE), Delivery.UNKNOWN, id="end"),
        pytest.param(Recording(b"", End.RESET), Delivery.UNKNOWN, id="reset"),
        pytest.param(
            Recording(recorded(201, "{}").raw[:-1], End.CLOSE),
            Delivery.FINISHED,
            id="end in mid-body",
        ),
        pytest.param(
            Recording(recorded(201, "{}").raw[:-1], End.RESET),
            Delivery.FINISHED,
            id="reset in mid-body",
        ),
    ],
)
async def test_a_creation_that_may_have_arrived_is_sent_once(
    lost: Recording, delivery: Delivery
) -> None:
    async with client_before(lost, FINE) as (client, upstream):
        with pytest.raises(UpstreamUnavailable) as raised:
            await client.send(CREATE)

    assert raised.value.delivery is delivery
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("call", [READ, CREATE], ids=lambda call: call.method)
async def test_a_call_times_out(call: Call) -> None:
    async with client_before(Recording(b"", End.STALL), timeout_seconds=0.3) as (client, _):
        started = time.monotonic()
        with pytest.raises(UpstreamUnavailable) as raised:
            await client.send(call)

    assert raised.value.delivery is Delivery.UNKNOWN
    assert time.monotonic() - started < 2


async def test_a_creation_without_a_connection_was_never_sent(closed_port: str) -> None:
    async with client_of(closed_port) as client:
        with pytest.raises(UpstreamUnavailable) as raised:
            await client.send(CREATE)

    assert raised.value.delivery is Delivery.NEVER_SENT
    assert "Connect" in raised.value.reason


async def test_a_creation_is_retried_if_no_connection_was_made(closed_port: str) -> None:
    """The first attempt meets a closed port, the second a server."""
    port = int(closed_port.rpartition(":")[2])
    received: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(recorded(201, "{}").raw)
        await writer.drain()
        writer.close()

    async with client_of(closed_port) as client:
        creating = asyncio.create_task(client.send(CREATE))
        await asyncio.sleep(0)
        server = await asyncio.start_server(serve, "127.0.0.1", port)
        response = await creating
        server.close()

    assert response.status == 201
    assert len(received) == 1


async def test_after_a_failed_tls_handshake_a_creation_was_never_sent() -> None:
    async with recorded_upstream(lambda _: FINE) as upstream:
        url = upstream.url.replace("http://", "https://")
        with pytest.raises(UpstreamUnavailable) as raised:
            async with client_of(url, timeout_seconds=0.5) as client:
                await client.send(CREATE)

    assert raised.value.delivery is Delivery.NEVER_SENT
    assert upstream.requests == []


async def test_an_untrusted_certificate_is_rejected() -> None:
    certificate = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(certificate)
    async with recorded_upstream(lambda _: FINE, certificate=certificate) as upstream:
        with pytest.raises(UpstreamUnavailable) as raised:
            async with client_of(upstream.url) as client:
                await client.send(CREATE)

    assert raised.value.delivery is Delivery.NEVER_SENT
    assert "Certificate" in raised.value.reason
    assert upstream.requests == []


async def test_connections_are_limited_and_reused() -> None:
    async with client_before(FINE, max_connections=3) as (client, upstream):
        await asyncio.gather(*(client.send(READ) for _ in range(30)))

        assert upstream.most_connections == 3
        assert len(upstream.requests) == 30


async def test_a_call_that_times_out_in_the_pool_was_never_sent() -> None:
    async with client_before(FINE, timeout_seconds=1.0, max_connections=1) as (client, upstream):
        upstream.gate.clear()
        first = asyncio.create_task(client.send(CREATE))
        await upstream.is_crowded.wait()
        with pytest.raises(UpstreamUnavailable) as raised:
            await client.send(CREATE)
        upstream.gate.set()
        await first

    assert raised.value.delivery is Delivery.NEVER_SENT
    assert len(upstream.requests) == 1


async def test_too_many_calls_in_flight_are_refused_at_once() -> None:
    async with client_before(FINE, max_connections=1) as (client, upstream):
        upstream.gate.clear()
        waiting = [asyncio.create_task(client.send(CREATE)) for _ in range(20)]
        await asyncio.sleep(0)
        with pytest.raises(SourceUnavailable, match="too many"):
            await client.send(CREATE)
        upstream.gate.set()
        await asyncio.gather(*waiting)


async def test_all_connections_are_closed_at_the_end() -> None:
    async with recorded_upstream(lambda _: FINE) as upstream:
        async with client_of(upstream.url) as client:
            await client.send(READ)
            assert upstream.connections == 1
        await upstream.is_left.wait()


async def test_cookies_of_upstream_are_not_sent_back() -> None:
    cookie = recorded(200, "{}", headers={"Set-Cookie": "session=of-the-first; Path=/"})
    async with client_before(cookie) as (client, upstream):
        await client.send(READ)
        await client.send(READ)

    assert all("cookie" not in request.headers for request in upstream.requests)


async def test_an_open_circuit_refuses_calls_at_once() -> None:
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


async def test_a_probe_is_sent_even_if_the_circuit_is_open() -> None:
    dead = Recording(b"", End.CLOSE)
    async with client_before(*[dead] * FAILURE_THRESHOLD, FINE) as (client, _):
        for _ in range(FAILURE_THRESHOLD):
            with pytest.raises(UpstreamUnavailable):
                await client.send(CREATE)

        with pytest.raises(UpstreamUnavailable, match="down"):
            await client.send(CREATE)
        assert await client.is_reachable() is True


async def test_concurrent_probes_share_one_call() -> None:
    async with client_before(FINE) as (client, upstream):
        together = await asyncio.gather(*(client.is_reachable() for _ in range(20)))
        after = await client.is_reachable()

    assert {*together, after} == {True}
    assert len(upstream.requests) == 1


async def test_a_cached_probe_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contact_gateway.upstream.client._PROBE_TTL_SECONDS", 0.0)
    async with client_before(recorded(503), FINE) as (client, _):
        assert [await client.is_reachable(), await client.is_reachable()] == [False, True]


async def test_a_probe_times_out_before_a_call_would(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("contact_gateway.upstream.client._PROBE_TIMEOUT_SECONDS", 0.2)
    async with client_before(Recording(b"", End.STALL), timeout_seconds=60) as (client, _):
        async with asyncio.timeout(10):
            assert await client.is_reachable() is False


async def test_a_body_over_the_limit_is_dropped_and_not_a_failure() -> None:
    huge = recorded(200, b'"' + b"x" * MAX_RESPONSE_BYTES + b'"')
    async with client_before(huge) as (client, upstream):
        bodies = [(await client.send(READ)).body for _ in range(FAILURE_THRESHOLD + 1)]

    assert bodies == [None] * len(bodies)
    assert len(upstream.requests) == len(bodies)


@pytest.mark.parametrize("seconds", [0, 3600, -3600])
async def test_upstreams_clock_is_read_from_the_date_header(seconds: int) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)
    async with client_before(recorded(200, "{}", headers={"Date": date})) as (client, _):
        assert client.clock_ahead() is None
        await client.send(READ)
        ahead = client.clock_ahead()

    assert ahead is not None
    assert timedelta(seconds=-5) < ahead - timedelta(seconds=seconds) <= timedelta(0)


@pytest.mark.parametrize("headers", [{}, {"Date": "noon"}, {"Date": ""}, {"Date": "9" * 30}])
async def test_upstreams_clock_is_unknown_without_a_valid_date(headers: dict[str, str]) -> None:
    async with client_before(recorded(200, "{}", headers=headers)) as (client, _):
        await client.send(READ)
        assert client.clock_ahead() is None


@pytest.mark.parametrize(
    ("status", "is_reachable"), [(200, True), (401, True), (404, True), (500, False), (503, False)]
)
async def test_upstream_is_reachable_without_a_server_error(
    status: int, *, is_reachable: bool
) -> None:
    async with client_before(recorded(status)) as (client, upstream):
        assert await client.is_reachable() is is_reachable

    assert upstream.asked() == ["GET /api/v1/schema"]


async def test_query_parameters_are_encoded() -> None:
    query = {"q": "a b&c=ü%/?#", "email": "a+b@example.com"}
    async with client_before(FINE) as (client, upstream):
        await client.send(Call("GET", "contacts", query=query))

    assert upstream.asked() == [
        "GET /api/v1/contacts?q=a+b%26c%3D%C3%BC%25/?%23&email=a%2Bb@example.com"
    ]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), (" 17 ", 17), ("1e3", None), ("-1", None), ("", None), ("soon", None)],
)
def test_retry_after_in_seconds(text: str, seconds: int | None) -> None:
    assert retry_after_seconds({"Retry-After": text}) == seconds


def test_retry_after_as_a_date() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(hours=2), usegmt=True)
    seconds = retry_after_seconds({"Retry-After": later})

    assert seconds is not None
    assert 7190 <= seconds <= 7200


async def test_json_is_parsed_whatever_its_content_type() -> None:
    async with client_before(recorded(200, '{"a": 1}', media_type="text/plain")) as (client, _):
        response = await client.send(READ)

    assert json.dumps(response.body) == '{"a": 1}'
