"""Every REST error has the same envelope, and every GraphQL error a code and the request's id."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from support.databases import Engine
from support.gateway import Gateway, credentials, running_gateway

pytestmark = pytest.mark.anyio

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def engine_of_module() -> Engine:
    """Run these tests on SQLite alone: the shape does not depend on the store."""
    return Engine.SQLITE


@dataclass(frozen=True, slots=True)
class Wrong:
    """A request that is refused, with its expected response."""

    name: str
    status: int
    code: str
    method: str = "POST"
    path: str = "/api/v1/contacts"
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)
    content: bytes = b"{}"
    answer_headers: Mapping[str, str] = field(default_factory=dict)


TRANSPORT = (
    Wrong("malformed JSON", 400, "BAD_REQUEST", content=b"{"),
    Wrong("NaN", 400, "BAD_REQUEST", content=b'{"contact": NaN}'),
    Wrong("a duplicate name", 400, "BAD_REQUEST", content=b'{"contact": 1, "contact": 2}'),
    Wrong("not UTF-8", 400, "BAD_REQUEST", content=b'{"contact": "\xff"}'),
    Wrong("deep nesting", 400, "BAD_REQUEST", content=b"[" * 60_000),
    Wrong("an empty body", 400, "BAD_REQUEST", content=b""),
    Wrong("a large body", 413, "PAYLOAD_TOO_LARGE", content=b" " * 65_537),
    Wrong("a form", 415, "UNSUPPORTED_MEDIA_TYPE", headers={"Content-Type": "text/plain"}),
    Wrong("no content type", 415, "UNSUPPORTED_MEDIA_TYPE", headers={}),
    Wrong(
        "another charset",
        415,
        "UNSUPPORTED_MEDIA_TYPE",
        headers={"Content-Type": "application/json; charset=utf-16"},
    ),
    Wrong(
        "a compressed body",
        415,
        "UNSUPPORTED_MEDIA_TYPE",
        headers=JSON | {"Content-Encoding": "gzip"},
    ),
)
REST_ONLY = (
    Wrong("an unknown route", 404, "NOT_FOUND", path="/api/v1/nope"),
    Wrong("the base of the routes", 404, "NOT_FOUND", method="GET", path="/api/v1"),
    Wrong("a trailing slash", 404, "NOT_FOUND", path="/api/v1/contacts/"),
    Wrong(
        "a method that the route does not support",
        405,
        "METHOD_NOT_ALLOWED",
        method="DELETE",
        answer_headers={"Allow": "GET, HEAD, POST"},
    ),
    Wrong(
        "a body for a read",
        405,
        "METHOD_NOT_ALLOWED",
        path="/api/v1/contacts/1",
        answer_headers={"Allow": "GET, HEAD"},
    ),
    Wrong("an unknown contact", 404, "NOT_FOUND", method="GET", path="/api/v1/contacts/99"),
    Wrong("no id", 404, "NOT_FOUND", method="GET", path="/api/v1/contacts/abc"),
    Wrong("an unknown advertiser", 404, "NOT_FOUND", method="GET", path="/api/v1/advertisers/9"),
    Wrong(
        "an unknown advertiser's contacts",
        404,
        "NOT_FOUND",
        method="GET",
        path="/api/v1/advertisers/9/contacts",
    ),
    Wrong("page 0", 422, "INVALID_INPUT", method="GET", path="/api/v1/contacts?page=0"),
    Wrong("an empty page", 422, "INVALID_INPUT", method="GET", path="/api/v1/contacts?limit=0"),
    Wrong("an unknown filter", 422, "INVALID_INPUT", method="GET", path="/api/v1/contacts?foo=1"),
    Wrong(
        "a huge number",
        422,
        "INVALID_INPUT",
        content=b'{"contact": {"email": "m@example.com", "advertiser_id": ' + b"9" * 5_000 + b"}}",
    ),
    Wrong("a number beyond all numbers", 422, "INVALID_INPUT", content=b'{"contact": 1e400}'),
    Wrong(
        "two values of dry_run",
        422,
        "INVALID_INPUT",
        path="/api/v1/contacts?dry_run=true&dry_run=false",
        content=b'{"contact": {"email": "m@example.com", "advertiser_id": 1001}}',
    ),
    Wrong(
        "two idempotency keys",
        422,
        "INVALID_INPUT",
        headers=JSON | {"Idempotency-Key": "a, b"},
        content=b'{"contact": {"email": "m@example.com", "advertiser_id": 1001}}',
    ),
    Wrong("a wild dry_run", 422, "INVALID_INPUT", path="/api/v1/contacts?dry_run=maybe"),
    Wrong("the published sample's body", 422, "INVALID_INPUT"),
    Wrong("a list for a body", 422, "INVALID_INPUT", content=b"[]"),
    Wrong("a string for a contact", 422, "INVALID_INPUT", content=b'{"contact": "x"}'),
)
GRAPHQL_ONLY = (
    Wrong(
        "several operations without a name",
        400,
        "BAD_REQUEST",
        content=b'{"query": "query A { viewer { label } } query B { viewer { role } }"}',
    ),
    Wrong(
        "more than 15 aliases",
        400,
        "BAD_REQUEST",
        content=b'{"query": "{'
        + b" ".join(b"a%d: viewer { label }" % number for number in range(16))
        + b'}"}',
    ),
    Wrong(
        "more than 1,000 tokens",
        400,
        "BAD_REQUEST",
        content=b'{"query": "{ viewer {' + b" label" * 1000 + b'}}"}',
    ),
    Wrong(
        "a subscription",
        400,
        "BAD_REQUEST",
        content=b'{"query": "subscription { viewer { label } }"}',
    ),
    Wrong(
        "a fraction for an id",
        400,
        "BAD_REQUEST",
        content=b'{"query": "query ($id: ID!) { contact(id: $id) { id } }",'
        b' "variables": {"id": 9007199254740993.5}}',
    ),
    Wrong("a batch", 400, "BAD_REQUEST", content=b"[]"),
    Wrong("no document", 400, "BAD_REQUEST"),
    Wrong("a document that does not parse", 400, "BAD_REQUEST", content=b'{"query": "{"}'),
    Wrong("an unknown field", 400, "BAD_REQUEST", content=b'{"query": "{ nope }"}'),
    Wrong(
        "no such operation",
        400,
        "BAD_REQUEST",
        content=b'{"query": "query A { viewer { label } }", "operationName": "B"}',
    ),
    Wrong(
        "a variable that does not coerce",
        400,
        "BAD_REQUEST",
        content=b'{"query": "query ($p: Int) { contacts(page: $p) { nodes { id } } }",'
        b' "variables": {"p": "x"}}',
    ),
    Wrong(
        "variables of a wrong type", 400, "BAD_REQUEST", content=b'{"query": "x", "variables": 1}'
    ),
    Wrong(
        "another method",
        405,
        "METHOD_NOT_ALLOWED",
        method="PUT",
        answer_headers={"Allow": "GET, HEAD, POST"},
    ),
    Wrong(
        "a mutation by GET",
        405,
        "METHOD_NOT_ALLOWED",
        method="GET",
        path="?query=mutation{createContact(input:{advertiserId:1,email:%22a%22}){__typename}}",
        answer_headers={"Allow": "POST"},
    ),
    Wrong("no document by GET", 400, "BAD_REQUEST", method="GET"),
    Wrong("bad variables by GET", 400, "BAD_REQUEST", method="GET", path="?query={a}&variables={"),
    Wrong("no acceptable answer", 406, "NOT_ACCEPTABLE", headers=JSON | {"Accept": "image/png"}),
    Wrong(
        "deep nesting of a document",
        400,
        "BAD_REQUEST",
        content=b'{"query": "' + b"{a" * 9_000 + b'"}',
    ),
)


@pytest.mark.parametrize("wrong", [*TRANSPORT, *REST_ONLY], ids=lambda wrong: wrong.name)
async def test_every_rest_error_is_the_envelope(gateway: Gateway, wrong: Wrong) -> None:
    response = await _send(gateway, wrong, wrong.path)

    assert response.status_code == wrong.status
    error = response.json()["error"]
    assert error.keys() == {"code", "message", "timestamp", "request_id", "details"}
    assert error["code"] == wrong.code
    assert error["message"].endswith(".")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", error["timestamp"])
    assert error["request_id"] == response.headers["X-Request-Id"]
    assert (
        response.headers.items()
        >= {name.lower(): value for name, value in wrong.answer_headers.items()}.items()
    )
    assert response.headers["X-RateLimit-Limit"] == "10000"


@pytest.mark.parametrize("wrong", [*TRANSPORT, *GRAPHQL_ONLY], ids=lambda wrong: wrong.name)
async def test_every_graphql_error_has_a_code_and_the_request_s_id(
    gateway: Gateway, wrong: Wrong
) -> None:
    path = "/graphql" + (wrong.path if wrong.path.startswith("?") else "")
    response = await _send(gateway, wrong, path)

    assert response.status_code == wrong.status
    body = response.json()
    assert "data" not in body
    for error in body["errors"]:
        assert error["extensions"]["code"] == wrong.code
        assert error["extensions"]["requestId"] == response.headers["X-Request-Id"]
    assert (
        response.headers.items()
        >= {name.lower(): value for name, value in wrong.answer_headers.items()}.items()
    )


async def _send(gateway: Gateway, wrong: Wrong, path: str) -> httpx.Response:
    response: httpx.Response = await gateway.client.request(
        wrong.method,
        path,
        headers={**wrong.headers, "X-Api-Key": gateway.admin},
        content=None if wrong.method == "GET" else wrong.content,
    )
    return response


@pytest.mark.parametrize("wrong", TRANSPORT, ids=lambda wrong: wrong.name)
async def test_without_a_key_the_body_is_not_examined(gateway: Gateway, wrong: Wrong) -> None:
    response = await gateway.client.post(
        wrong.path, headers=dict(wrong.headers), content=wrong.content
    )

    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert response.json()["error"]["code"] == "UNAUTHORIZED"


@pytest.mark.parametrize(
    ("sent", "is_used"),
    [
        ("caller-1.A_b~c", True),
        ("", False),
        ("two words", False),
        ("x" * 129, False),
        ("a\tb", False),
        ("cgw_pasted_by_mistake", False),
    ],
)
async def test_a_well_formed_request_id_is_used(
    gateway: Gateway, sent: str, *, is_used: bool
) -> None:
    response = await gateway.client.get("/healthz", headers={"X-Request-Id": sent})

    assert (response.headers["X-Request-Id"] == sent) is is_used
    assert re.fullmatch(r"[A-Za-z0-9._~-]{1,128}", response.headers["X-Request-Id"])


@pytest.mark.parametrize("path", ["/api/v1/contacts", "/graphql"])
async def test_a_body_that_does_not_arrive_times_out(tmp_path: Path, path: str) -> None:
    async def half_a_body() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with running_gateway(tmp_path, body_timeout_seconds=0.05) as gateway:
        response = await gateway.client.post(
            path, headers=JSON | credentials(gateway.admin), content=half_a_body()
        )

    assert response.status_code == 408
    assert response.headers["Connection"] == "close"
    assert "REQUEST_TIMEOUT" in response.text
