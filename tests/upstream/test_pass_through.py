"""Reads of HiEnergy's other operations, and their responses, are passed through unchanged."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from contact_gateway.upstream.calls import MAX_RESPONSE_BYTES
from contact_gateway.upstream.circuit import FAILURE_THRESHOLD
from support.faces import Json
from support.gateway import Gateway, credentials
from support.hienergy import jwt
from support.process import GatewayProcess, gateway_process
from support.raw_http import exchange
from support.upstream import (
    KEY,
    End,
    RecordedUpstream,
    Recording,
    Request,
    gateway_and_upstream,
    recorded,
    recorded_upstream,
)

pytestmark = pytest.mark.anyio

DEALS = '{"data": [{"id": 9007199254740993, "type": "deal"}],  "meta": {"x": null}}'


def _deals(_: Request) -> Recording:
    return recorded(200, DEALS)


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[tuple[Gateway, RecordedUpstream]]:
    """Return a gateway, and the upstream API behind it, which lists deals at every path."""
    async with gateway_and_upstream(_deals, tmp_path) as both:
        yield both


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Let the fixtures of the module share a loop."""
    return "asyncio"


@pytest.fixture(scope="module")
async def upstream() -> AsyncIterator[RecordedUpstream]:
    async with recorded_upstream(_deals) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def in_front(
    upstream: RecordedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    environment = {"CONTACT_GATEWAY_UPSTREAM_URL": upstream.url}
    with gateway_process(tmp_path_factory.mktemp("gateway"), environment=environment) as process:
        yield process


def _raw_get(process: GatewayProcess, path: str) -> bytes:
    head = f"GET /api/v1/{path} HTTP/1.1\r\nHost: here\r\nX-Api-Key: {KEY}\r\n"
    return exchange(process, f"{head}Connection: close\r\n\r\n".encode("latin-1"))


async def _get(gateway: Gateway, path: str, method: str = "GET", **headers: str) -> httpx.Response:
    """Send a path as it is: httpx would resolve its dot segments."""
    url = httpx.URL("http://gateway", raw_path=path.encode("latin-1"))
    return await gateway.client.request(method, url, headers=credentials(KEY) | headers)


@pytest.mark.parametrize(
    "target",
    [
        "deals",
        "deals/7",
        "deals?active=true&country=US",
        "advertisers/1001/similar_advertisers",
        "advertisers/northwind/related_advertisers?limit=5",
        "contacts/7/history",
        "search?q=a%20b+c%26d&types=advertisers,deals",
        "tags?filter[name]=a&filter[name]=b&empty=&bare",
        "transactions?dry_run=true",
        "reports/top_advertisers.csv?q=%C3%BC",
        "networks/caf%C3%A9~a.b_c-d,e;f=g:h@i!$&'()*+",
        "deals?next=../../admin//x",
        "deals?q=token_of_access_token",
    ],
)
async def test_path_and_query_arrive_unchanged(
    both: tuple[Gateway, RecordedUpstream], target: str
) -> None:
    gateway, upstream = both
    response = await _get(gateway, f"/api/v1/{target}")

    assert response.status_code == 200
    assert response.content == DEALS.encode()
    assert upstream.calls() == [f"GET /api/v1/{target}"]


async def test_head_is_a_get_whose_body_is_left_out(
    both: tuple[Gateway, RecordedUpstream],
) -> None:
    gateway, upstream = both
    response = await _get(gateway, "/api/v1/deals", method="HEAD")

    assert response.headers["Content-Length"] == str(len(DEALS))
    assert upstream.calls() == ["GET /api/v1/deals"]


async def test_the_path_arrives_without_the_prefix_of_a_proxy(tmp_path: Path) -> None:
    async with gateway_and_upstream(_deals, tmp_path, root_path="/api/v1/gw") as both:
        gateway, upstream = both
        await _get(gateway, "/api/v1/gw/api/v1/deals/7?a=b")
        await _get(gateway, "/api/v1/deals/8")

    assert upstream.calls() == ["GET /api/v1/deals/7?a=b", "GET /api/v1/deals/8"]


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        ({"X-Api-Key": KEY}, ("x-api-key", KEY)),
        ({"Authorization": f"Bearer {KEY}"}, ("x-api-key", KEY)),
        ({"Authorization": f"Bearer {jwt()}"}, ("authorization", f"Bearer {jwt()}")),
    ],
    ids=["key", "key as a bearer token", "JSON Web Token"],
)
async def test_the_credential_arrives_and_no_other_header(
    both: tuple[Gateway, RecordedUpstream], sent: dict[str, str], arrives: tuple[str, str]
) -> None:
    gateway, upstream = both
    others = {
        "Cookie": "session=1",
        "Connection": "X-Secret",
        "X-Secret": "1",
        "X-Forwarded-For": "192.0.2.1",
        "Accept": "text/csv",
        "Range": "bytes=0-1",
    }
    await gateway.client.get("/api/v1/deals", headers=sent | others)

    (request,) = upstream.requests
    name, value = arrives
    assert request.headers[name] == value
    assert request.headers["accept"] == "application/json"
    general = {"host", "accept", "accept-encoding", "user-agent"}
    assert request.headers.keys() == general | {name}


async def test_a_credential_is_needed(both: tuple[Gateway, RecordedUpstream]) -> None:
    gateway, upstream = both
    response = await gateway.client.get("/api/v1/deals?api_key=x")

    assert response.status_code == 401
    assert response.json()["error"]["code"] == "UNAUTHORIZED"
    assert upstream.calls() == []


@pytest.mark.parametrize(
    "query",
    [
        "api_key=x",
        "q=a&api_key=x",
        "q=a;api_key=x",
        "q=a&%20%61pi_key=x",
        "access_token=x",
        "api_key[]=x",
        "api_key",
        "[api_key]=x",
        "q=a&%5Bapi_key%5D=x",
        "]access_token=x",
        "q=a&+api_key=x",
    ],
)
async def test_a_credential_in_the_query_is_refused(
    both: tuple[Gateway, RecordedUpstream], query: str
) -> None:
    """HiEnergy may use it instead of the one in the header, the only one that is limited."""
    gateway, upstream = both
    response = await _get(gateway, f"/api/v1/deals?{query}")

    (problem,) = response.json()["error"]["details"]["problems"]
    assert problem["path"] in {"api_key", "access_token"}
    assert problem["code"] == "INVALID_ARGUMENTS"
    assert upstream.calls() == []


@pytest.mark.parametrize(
    "path",
    [
        "..",
        "../admin",
        "deals/../../../admin",
        "deals/..",
        "deals/.",
        "./deals",
        "deals//7",
        "/deals",
        "deals/",
        "/evil.example/x",
        "%2e%2e/admin",
        "deals/%2E%2e/x",
        "deals/.%2e",
        "deals%2F..%2F..%2Fadmin",
        "deals/a%2fb",
        "deals%5c..%5cadmin",
        "deals/..;/admin",
        "deals/..%3b/admin",
        "deals/%252e%252e/admin",
        "deals/a%00",
        "deals/a%0d%0aX-Evil:%201",
        "deals/a|b",
        "deals/a^b",
        "deals/a%zz",
        "d" * 2049,
        "",
    ],
)
async def test_a_path_that_could_leave_the_base_url_is_unknown(
    in_front: GatewayProcess, upstream: RecordedUpstream, path: str
) -> None:
    """Over a socket, since HTTP clients resolve such paths themselves."""
    upstream.requests.clear()
    response = await asyncio.to_thread(_raw_get, in_front, path)

    assert response.startswith(b"HTTP/1.1 404 ")
    assert b'"code":"NOT_FOUND"' in response
    assert upstream.calls() == []


async def test_a_path_over_a_socket_arrives_unchanged(
    in_front: GatewayProcess, upstream: RecordedUpstream
) -> None:
    target = 'a%C3%BCb/.c/d..e/%41?q=../x&=%zz[]{}|^`<>\\";'
    upstream.requests.clear()
    response = await asyncio.to_thread(_raw_get, in_front, target)

    assert response.startswith(b"HTTP/1.1 200 ")
    assert upstream.calls() == [f"GET /api/v1/{target}"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_writes_are_not_passed_through(
    both: tuple[Gateway, RecordedUpstream], method: str
) -> None:
    gateway, upstream = both
    response = await _get(gateway, "/api/v1/deeplinks/generate", method)

    assert response.status_code == 404
    assert "POST /api/v1/contacts" in response.json()["error"]["details"]["operations"]
    assert upstream.calls() == []


@pytest.mark.parametrize("status", [200, 202, 204, 400, 401, 403, 404, 409, 418, 422, 429, 500])
async def test_status_and_body_are_unchanged(tmp_path: Path, status: int) -> None:
    body = b"" if status == 204 else b"\xff<h1>not JSON</h1>"

    def answer(_: Request) -> Recording:
        return recorded(status, body, media_type="text/html; charset=x")

    async with gateway_and_upstream(answer, tmp_path) as (gateway, upstream):
        response = await _get(gateway, "/api/v1/deals")

    assert (response.status_code, response.content) == (status, body)
    assert response.headers.get("Content-Type") == ("text/html; charset=x" if body else None)
    # A browser must not run what HiEnergy returns as a page of this origin.
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert len(upstream.requests) == 1


async def test_only_headers_about_the_content_and_the_limits_come_back(tmp_path: Path) -> None:
    headers = {
        "X-RateLimit-Limit": "1000",
        "X-RateLimit-Remaining": "7",
        "X-RateLimit-Reset": "1795724614",
        "X-Request-Id": "hienergy-1",
        "Retry-After": "9",
        "WWW-Authenticate": 'Bearer realm="hienergy"',
        "Content-Disposition": 'attachment; filename="\u0142.csv"',
    }
    hidden = {
        "Set-Cookie": "session=1",
        "Keep-Alive": "timeout=9",
        "Server": "nginx",
        "Access-Control-Allow-Origin": "*",
        "Strict-Transport-Security": "max-age=1",
        "Location": "https://hienergy.example/",
        "X-Secret": "1",
    }

    def answer(_: Request) -> Recording:
        return recorded(429, "x", headers=headers | hidden)

    async with gateway_and_upstream(answer, tmp_path) as (gateway, _):
        response = await _get(gateway, "/api/v1/deals")

    shown = dict(response.headers)
    assert hidden.keys() & {name.title() for name in shown} == set()
    assert response.headers["X-Upstream-Request-Id"] == headers.pop("X-Request-Id")
    assert response.headers["X-Request-Id"] != "hienergy-1"
    for name, value in headers.items():
        assert response.headers[name] == value
    assert "RateLimit" in response.headers


async def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    def answer(_: Request) -> Recording:
        return recorded(302, headers={"Location": "/api/v1/other"})

    async with gateway_and_upstream(answer, tmp_path) as (gateway, upstream):
        response = await _get(gateway, "/api/v1/deals")

    assert response.status_code == 503
    assert response.json()["error"]["code"] == "SERVICE_UNAVAILABLE"
    assert "Location" not in response.headers
    assert upstream.calls() == ["GET /api/v1/deals"]


@pytest.mark.parametrize("status", ["000", "101", "999"])
async def test_a_status_that_is_not_of_a_final_response_is_an_outage(
    tmp_path: Path, status: str
) -> None:
    head = f"HTTP/1.1 {status} X\r\n\r\n".encode()
    async with gateway_and_upstream(lambda _: Recording(head, End.CLOSE), tmp_path) as (gateway, _):
        response = await _get(gateway, "/api/v1/deals")

    assert response.status_code == 503
    assert response.json()["error"]["code"] == "SERVICE_UNAVAILABLE"


async def test_a_response_that_is_too_large_is_refused(tmp_path: Path) -> None:
    sizes = [MAX_RESPONSE_BYTES, MAX_RESPONSE_BYTES + 1]

    def answer(_: Request) -> Recording:
        return recorded(200, b"x" * sizes.pop(0), media_type="text/csv")

    async with gateway_and_upstream(answer, tmp_path) as (gateway, _):
        largest = await _get(gateway, "/api/v1/deals")
        refused = await _get(gateway, "/api/v1/deals")

    assert len(largest.content) == MAX_RESPONSE_BYTES
    error: Json = refused.json()["error"]
    assert error["code"] == "INVALID_INPUT"
    assert error["message"] == "HiEnergy's answer is larger than 4 MiB. Ask for fewer records."


@pytest.mark.parametrize("end", [End.CLOSE, End.RESET, End.STALL])
async def test_a_response_that_breaks_off_or_takes_too_long_is_an_outage(
    tmp_path: Path, end: End
) -> None:
    def answer(_: Request) -> Recording:
        return Recording(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", end)

    async with gateway_and_upstream(answer, tmp_path, upstream_timeout_seconds=0.3) as both:
        response = await _get(both[0], "/api/v1/deals")

    assert response.status_code == 503
    assert response.headers["Retry-After"]


async def test_requests_beyond_the_connections_wait_or_are_refused(tmp_path: Path) -> None:
    async with gateway_and_upstream(_deals, tmp_path, upstream_max_connections=1) as both:
        gateway, upstream = both
        upstream.gate.clear()
        requests = [asyncio.create_task(_get(gateway, "/api/v1/deals")) for _ in range(30)]
        done, _ = await asyncio.wait(requests, return_when=asyncio.FIRST_COMPLETED)
        upstream.gate.set()
        responses = await asyncio.gather(*requests)

    assert {task.result().status_code for task in done} == {503}
    assert sorted(response.status_code for response in responses) == [200] * 20 + [503] * 10
    assert upstream.most_in_flight == 1


async def test_slow_operations_leave_half_of_the_connections_to_others(tmp_path: Path) -> None:
    has_begun = asyncio.Event()

    def answer(request: Request) -> Recording:
        if not request.target.endswith("/reports/slow"):
            return recorded(200, '{"data": []}')
        has_begun.set()
        return Recording(b"", End.STALL)

    async with gateway_and_upstream(answer, tmp_path, upstream_max_connections=2) as (gateway, _):
        slow = [asyncio.create_task(_get(gateway, "/api/v1/reports/slow")) for _ in range(4)]
        await has_begun.wait()
        contacts = await _get(gateway, "/api/v1/contacts")
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)

    assert contacts.status_code == 200


@pytest.mark.parametrize("end", [None, End.CLOSE, End.STALL], ids=["503", "closed", "timeout"])
async def test_one_broken_operation_does_not_stop_the_others(
    tmp_path: Path, end: End | None
) -> None:
    """Any caller may choose it, so it must not open the circuit for all callers."""

    def answer(request: Request) -> Recording:
        if not request.target.endswith("/reports/broken"):
            return _deals(request)
        return recorded(503) if end is None else Recording(b"", end)

    async with gateway_and_upstream(answer, tmp_path, upstream_timeout_seconds=0.3) as both:
        broken = {
            (await _get(both[0], "/api/v1/reports/broken")).status_code
            for _ in range(FAILURE_THRESHOLD + 1)
        }
        works = await _get(both[0], "/api/v1/deals")

    assert broken == {503}
    assert works.status_code == 200


async def test_wrong_keys_are_limited(tmp_path: Path) -> None:
    def answer(_: Request) -> Recording:
        return recorded(401, '{"error": "Invalid API key"}')

    limits = {"key_guesses_per_minute": 2}
    async with gateway_and_upstream(answer, tmp_path, **limits) as (gateway, upstream):
        statuses = [
            (await gateway.rest("/deals", f"guess-{number}")).status_code for number in range(4)
        ]

    assert statuses == [401, 401, 401, 429]
    assert len(upstream.requests) == 3


async def test_a_public_operation_does_not_prove_a_key_valid(tmp_path: Path) -> None:
    def answer(request: Request) -> Recording:
        return recorded(200 if request.target.endswith("/public") else 401, "{}")

    limits = {"key_guesses_per_minute": 1}
    async with gateway_and_upstream(answer, tmp_path, **limits) as (gateway, _):
        statuses = [
            (await gateway.rest(path, key)).status_code
            for path, key in (
                ("/public", "guess-9"),
                ("/contacts", "guess-1"),
                ("/deals", "guess-2"),
                ("/contacts", "guess-9"),
            )
        ]

    assert statuses == [200, 401, 401, 429]


async def test_it_is_counted_and_logged_as_one_operation(tmp_path: Path, log: io.StringIO) -> None:
    def answer(_: Request) -> Recording:
        return recorded(404, '{"error": "x"}', headers={"X-Request-Id": "hienergy-1"})

    async with gateway_and_upstream(answer, tmp_path, metrics=True) as (gateway, _):
        await _get(gateway, "/api/v1/deals/secret?q=secret")
        metrics = (await gateway.client.get("/metrics")).text

    assert 'contact_gateway_upstream_calls_total{operation="pass_through"} 1.0' in metrics
    text = log.getvalue()
    (logged,) = (
        line
        for line in map(json.loads, text.splitlines())
        if line.get("operation") == "pass_through"
    )
    assert (logged["outcome"], logged["status"]) == ("NOT_FOUND", 404)
    assert "hienergy-1" in text
    assert "secret" not in text


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (204, "OK"),
        (400, "BAD_REQUEST"),
        (402, "BAD_REQUEST"),
        (404, "NOT_FOUND"),
        (422, "INVALID_INPUT"),
        (500, "SERVICE_UNAVAILABLE"),
        (501, "SERVICE_UNAVAILABLE"),
    ],
)
async def test_an_error_of_hienergy_is_not_counted_as_a_success(
    tmp_path: Path, status: int, outcome: str
) -> None:
    def answer(_: Request) -> Recording:
        return recorded(status, b"" if status == 204 else "{}")

    async with gateway_and_upstream(answer, tmp_path, metrics=True) as (gateway, _):
        await _get(gateway, "/api/v1/deals")
        metrics = (await gateway.client.get("/metrics")).text

    labels = f'face="rest",operation="pass_through",outcome="{outcome}"'
    assert f"contact_gateway_requests_total{{{labels}}} 1.0" in metrics


async def test_the_setting_switches_it_off(tmp_path: Path) -> None:
    settings = {"upstream_pass_through": False}
    async with gateway_and_upstream(_deals, tmp_path, **settings) as (gateway, upstream):
        response = await _get(gateway, "/api/v1/deals")

    assert response.status_code == 404
    assert upstream.calls() == []
