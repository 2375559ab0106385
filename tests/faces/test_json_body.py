"""JSON bodies: the values of numbers, byte order marks, and where a body is invalid."""

import json
from collections.abc import AsyncIterator
from contextlib import nullcontext
from decimal import Decimal

import pytest

from contact_gateway.faces.http import TransportError
from contact_gateway.faces.json_body import parse_json
from support.databases import Engine
from support.gateway import BIG_ID, Gateway, credentials

BOM = b"\xef\xbb\xbf"


@pytest.fixture(scope="module")
def engine_of_module() -> Engine:
    """Run these tests on SQLite alone: bodies are parsed before the store is reached."""
    return Engine.SQLITE


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1001.0", 1001),
        ("1e3", 1000),
        ("-0.0", 0),
        # A float would be rounded.
        (f"{BIG_ID}.0", BIG_ID),
        ("1.5", Decimal("1.5")),
        (f"{BIG_ID}.5", Decimal(f"{BIG_ID}.5")),
        ("1e-999999999", Decimal("1e-999999999")),
        ("1e39", 10**39),
        # Their digits do not fit into memory, or into the range of any field.
        ("1e40", Decimal("1e40")),
        ("1e999999999", Decimal("1e999999999")),
        ("0e999999999", Decimal(0)),
    ],
)
def test_a_number_without_a_fraction_is_whole(text: str, value: int | Decimal) -> None:
    parsed = parse_json(text.encode(), 32)

    assert (type(parsed), parsed) == (type(value), value)


@pytest.mark.parametrize(
    ("text", "position"),
    [
        (b"", "line 1, column 1"),
        (b"{contact: {}}", "line 1, column 2"),
        (b'{\n  "contact": {}\n  "a": 1}', "line 3, column 3"),
        (BOM + b"{} {}", "line 1, column 4"),
    ],
)
def test_the_error_says_where_the_json_is_invalid(text: bytes, position: str) -> None:
    with pytest.raises(TransportError) as caught:
        parse_json(text, 32)

    assert caught.value.message == f"This is not valid JSON. See {position}."


NESTED = b"[" * 32 + b"]" * 32


@pytest.mark.parametrize(
    ("text", "is_too_deep"),
    [
        pytest.param(NESTED, False, id="32 levels"),
        pytest.param(b"[%b]" % NESTED, True, id="33 levels"),
        pytest.param(b"[%b]" % b",".join([b"[]"] * 99), False, id="lists side by side"),
        pytest.param(b"[%b]" % b",".join([b"{}"] * 99), False, id="objects side by side"),
        pytest.param(b"[[],[],{},{},%b]" % NESTED, True, id="33 levels beside others"),
        pytest.param(b'["%b"]' % (b"[" * 99), False, id="brackets in a text"),
    ],
)
def test_the_depth_of_json_is_limited(text: bytes, *, is_too_deep: bool) -> None:
    refusal = pytest.raises(TransportError, match=r"too deeply\. At most 32 levels are allowed")
    with refusal if is_too_deep else nullcontext():
        parse_json(text, 32)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/json; charset=utf-8"},
        {"Content-Type": 'application/json;charset="UTF-8"'},
        {"Content-Type": "application/json; charset=utf8"},
        {"Content-Type": "application/json; charset=us-ascii"},
        {"Content-Type": "Application/JSON"},
        {"Content-Type": "application/json ;v=1"},
        {"Content-Type": "application/json", "Content-Encoding": "Identity"},
    ],
    ids=lambda headers: " ".join(headers.values()),
)
async def test_json_in_utf_8_is_accepted_as_clients_declare_it(
    gateway: Gateway, headers: dict[str, str]
) -> None:
    content = b'{"query": "{ __typename }"}'
    response = await gateway.client.post("/graphql", content=content, headers=headers)

    assert response.json() == {"data": {"__typename": "Query"}}


@pytest.mark.anyio
@pytest.mark.parametrize("is_chunked", [False, True], ids=["declared", "in chunks"])
@pytest.mark.parametrize(("size", "status"), [(65_536, 200), (65_537, 413)])
async def test_a_body_is_not_larger_than_the_limit(
    gateway: Gateway, size: int, status: int, *, is_chunked: bool
) -> None:
    content = b'{"query": "{ __typename }"}'.ljust(size)

    async def chunks() -> AsyncIterator[bytes]:
        yield content[:100]
        yield content[100:]

    response = await gateway.client.post(
        "/graphql",
        content=chunks() if is_chunked else content,
        headers={"Content-Type": "application/json"},
    )

    assert response.status_code == status


@pytest.mark.anyio
async def test_every_face_reads_whole_numbers_and_byte_order_marks(gateway: Gateway) -> None:
    headers = {**credentials(gateway.admin), "Content-Type": "application/json"}
    document = """query ($id: ID!, $page: Int) {
      advertiser(id: $id) { name } contacts(page: $page) { pageInfo { currentPage } }
    }"""
    by_rest = await gateway.client.post(
        "/api/v1/contacts",
        content=BOM + b'{"contact": {"advertiser_id": 1001.0, "email": "maya@example.com"}}',
        headers=headers,
    )
    variables = {"id": 1001.0, "page": 2.0}
    by_graphql = await gateway.client.post(
        "/graphql",
        content=BOM + json.dumps({"query": document, "variables": variables}).encode(),
        headers=headers,
    )

    assert by_rest.status_code == 201
    assert by_graphql.json()["data"] == {
        "advertiser": {"name": "Northwind"},
        "contacts": {"pageInfo": {"currentPage": 2}},
    }
