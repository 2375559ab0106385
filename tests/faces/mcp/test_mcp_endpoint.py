"""MCP over HTTP: methods, origins, bodies, revisions of the protocol, and the setting."""

import asyncio
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import httpx
import pytest
from anyio.lowlevel import checkpoint
from sqlalchemy import select

from contact_gateway.store.tables import contacts
from support.databases import locked
from support.faces import FACES
from support.gateway import Gateway, credentials, running_gateway

pytestmark = pytest.mark.anyio

PING: Final[Mapping[str, object]] = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
MAYA: Final[Mapping[str, object]] = {"advertiser_id": 1001, "email": "maya@example.com"}


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "PUT", "OPTIONS"])
async def test_there_are_no_streams_and_no_sessions(gateway: Gateway, method: str) -> None:
    response = await gateway.client.request(
        method, "/mcp", headers={"Accept": "text/event-stream", "Mcp-Session-Id": "a-session"}
    )

    assert response.status_code == 405
    assert response.headers["Allow"] == "POST"
    if method != "HEAD":
        assert response.json()["error"]["code"] == "METHOD_NOT_ALLOWED"


@pytest.mark.parametrize(
    ("allowed", "origin", "status"),
    [
        ("", None, 200),
        ("", "http://gateway", 403),
        ("", "null", 403),
        ("https://app.example", "https://app.example", 200),
        ("https://app.example", "https://other.example", 403),
        ("*", "https://other.example", 200),
    ],
    ids=["a program", "the host itself", "null", "a listed one", "another one", "any"],
)
async def test_only_pages_of_allowed_origins_may_call(
    tmp_path: Path, allowed: str, origin: str | None, status: int
) -> None:
    headers = {} if origin is None else {"Origin": origin}
    async with running_gateway(tmp_path, cors_origins=allowed) as gateway:
        response = await gateway.post_json("/mcp", PING, headers)

    assert response.status_code == status
    if status == 403:
        assert response.json()["error"]["code"] == "FORBIDDEN"


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b"{", {}, 400, "BAD_REQUEST"),
        (b"[]", {}, 400, "BAD_REQUEST"),
        (json.dumps([PING]).encode(), {}, 400, "BAD_REQUEST"),
        (b'"ping"', {}, 400, "BAD_REQUEST"),
        (b"{}", {}, 400, "BAD_REQUEST"),
        (json.dumps({**PING, "jsonrpc": "1.0"}).encode(), {}, 400, "BAD_REQUEST"),
        (json.dumps({**PING, "method": 1}).encode(), {}, 400, "BAD_REQUEST"),
        (json.dumps({**PING, "params": []}).encode(), {}, 400, "BAD_REQUEST"),
        (json.dumps({**PING, "id": None}).encode(), {}, 400, "BAD_REQUEST"),
        (json.dumps({**PING, "id": True}).encode(), {}, 400, "BAD_REQUEST"),
        (b'{"jsonrpc": "2.0", "id": 1, "result": {}}', {}, 400, "BAD_REQUEST"),
        (b'{"jsonrpc": "2.0", "id": 1, "id": 2, "method": "ping"}', {}, 400, "BAD_REQUEST"),
        (b"[" * 40, {}, 400, "BAD_REQUEST"),
        (b" " * 65_537, {}, 413, "PAYLOAD_TOO_LARGE"),
        (json.dumps(PING).encode(), {"Content-Type": "text/plain"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
    ],
    ids=[
        "half an object",
        "an empty batch",
        "a batch",
        "a text",
        "an empty object",
        "another version",
        "a method that is a number",
        "a list of parameters",
        "no id",
        "a boolean id",
        "an answer",
        "an id twice",
        "deep nesting",
        "a large body",
        "another media type",
    ],
)
async def test_unreadable_requests_have_the_envelope(
    gateway: Gateway, content: bytes, headers: Mapping[str, str], status: int, code: str
) -> None:
    response = await gateway.client.post(
        "/mcp", content=content, headers={"Content-Type": "application/json", **headers}
    )
    error = response.json()["error"]

    assert (response.status_code, error["code"]) == (status, code)
    assert error["request_id"] == response.headers["X-Request-Id"]


MODERN: Final[Mapping[str, object]] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/list",
    "params": {
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        }
    },
}


async def _accepting(gateway: Gateway, accept: str | None, *, is_modern: bool) -> httpx.Response:
    request = gateway.client.build_request(
        "POST",
        "/mcp",
        json=MODERN if is_modern else PING,
        headers={"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/list"}
        if is_modern
        else {},
    )
    del request.headers["Accept"]
    if accept is not None:
        request.headers["Accept"] = accept
    return await gateway.client.send(request)


@pytest.mark.parametrize("is_modern", [False, True], ids=["2025", "2026"])
@pytest.mark.parametrize(
    "accept",
    [
        None,
        "",
        "*/*",
        "application/json",
        "Application/JSON;q=0.1",
        "application/*",
        "application/json, text/event-stream",
        "text/html, */*;q=0.1",
    ],
    ids=str,
)
async def test_json_is_sent_to_clients_that_accept_it(
    gateway: Gateway, accept: str | None, *, is_modern: bool
) -> None:
    response = await _accepting(gateway, accept, is_modern=is_modern)

    assert response.status_code == 200
    assert "result" in response.json()


@pytest.mark.parametrize("is_modern", [False, True], ids=["2025", "2026"])
@pytest.mark.parametrize("accept", ["text/html", "text/event-stream", "application/json;q=0"])
async def test_clients_that_do_not_accept_json_get_the_envelope(
    gateway: Gateway, accept: str, *, is_modern: bool
) -> None:
    response = await _accepting(gateway, accept, is_modern=is_modern)
    error = response.json()["error"]

    assert (response.status_code, error["code"]) == (406, "NOT_ACCEPTABLE")
    assert error["request_id"] == response.headers["X-Request-Id"]


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("tools/call", {"name": "drop_table", "arguments": {}}, -32602),
        ("tools/call", {"arguments": {}}, -32602),
        ("tools/call", {"name": "add_contact", "arguments": []}, -32602),
        ("resources/list", {}, -32601),
        ("wat", {}, -32601),
    ],
    ids=["an unknown tool", "no tool", "a list of arguments", "no resources", "an unknown method"],
)
async def test_errors_of_the_protocol_are_those_of_json_rpc(
    gateway: Gateway, log: io.StringIO, method: str, params: Mapping[str, object], code: int
) -> None:
    response = await gateway.mcp_message(method, gateway.admin, **params)
    await checkpoint()

    assert response.json()["error"]["code"] == code
    (line,) = map(json.loads, log.getvalue().splitlines())
    assert (line["operation"], line["outcome"]) == ("mcp", "BAD_REQUEST")
    assert "drop_table" not in log.getvalue()


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (r'"a\ud800@example.com"', "INVALID_CHARACTERS"),
        ("1" * 5000, "INVALID_TYPE"),
        ("1" + "0" * 4000 + ".5", "INVALID_TYPE"),
    ],
    ids=["a lone surrogate", "a long number", "a long fraction"],
)
async def test_arguments_are_parsed_as_on_the_other_faces(
    gateway: Gateway, value: str, problem: str
) -> None:
    body = (
        '{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "add_contact", '
        f'"arguments": {{"contact": {{"advertiser_id": 1001, "email": {value}}}}}}}}}'
    )
    response = await gateway.client.post(
        "/mcp",
        content=body,
        headers={**credentials(gateway.admin), "Content-Type": "application/json"},
    )

    (found,) = response.json()["result"]["structuredContent"]["error"]["details"]["problems"]
    assert (found["path"], found["code"]) == ("contact.email", problem)


@pytest.mark.parametrize(
    "field", ['"id": "\\ud800"', '"id": 1, "extra": 1e999', '"id": ' + "1" * 5000], ids=str
)
async def test_the_rest_of_a_message_may_be_odd(gateway: Gateway, field: str) -> None:
    response = await gateway.client.post(
        "/mcp",
        content=f'{{"jsonrpc": "2.0", "method": "ping", {field}}}',
        headers={"Content-Type": "application/json"},
    )

    assert response.status_code in {200, 400}


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_a_handshake_negotiates_the_revision(gateway: Gateway, version: str) -> None:
    answer = await gateway.mcp_message(
        "initialize",
        protocolVersion=version,
        capabilities={},
        clientInfo={"name": "a-client", "version": "1"},
    )
    result = answer.json()["result"]
    ready = await gateway.post_json(
        "/mcp",
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"MCP-Protocol-Version": version},
    )

    assert result["protocolVersion"] == version
    assert result["capabilities"] == {"tools": {"listChanged": False}}
    assert result["serverInfo"]["name"] == "contact-gateway"
    assert "idempotency_key" in result["instructions"]
    assert "Mcp-Session-Id" not in answer.headers
    assert (ready.status_code, ready.content) == (202, b"")


async def test_the_revision_of_2026_needs_no_handshake(gateway: Gateway) -> None:
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": "get_advertiser", "arguments": {"id": "kestrel"}, "_meta": meta}
    response = await gateway.post_json(
        "/mcp",
        {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params},
        {
            **credentials(gateway.member),
            "MCP-Protocol-Version": "2026-07-28",
            "Mcp-Method": "tools/call",
            "Mcp-Name": "get_advertiser",
        },
    )

    assert response.json()["result"]["structuredContent"]["data"]["id"] == "1002"


async def test_an_unknown_revision_is_refused(gateway: Gateway) -> None:
    response = await gateway.post_json("/mcp", PING, {"MCP-Protocol-Version": "1999-01-01"})

    assert response.status_code == 400


async def test_the_log_names_the_tool_and_nothing_that_was_sent(
    gateway: Gateway, log: io.StringIO
) -> None:
    answer = await FACES["MCP"].submit(gateway, MAYA, gateway.admin)
    await checkpoint()

    (line,) = map(json.loads, log.getvalue().splitlines())
    assert (line["operation"], line["outcome"], line["status"]) == ("add_contact", "CREATED", 200)
    assert line["request_id"] == answer.headers["X-Request-Id"]
    assert "maya" not in log.getvalue()


async def test_the_audit_trail_names_the_face(gateway: Gateway) -> None:
    answer = await FACES["MCP"].submit(gateway, MAYA, gateway.admin)

    columns = (contacts.c.created_through, contacts.c.created_by_request_id)
    (row,) = await gateway.database.read(
        lambda connection: connection.execute(select(*columns)).all()
    )

    assert tuple(row) == ("mcp", answer.headers["X-Request-Id"])


@pytest.mark.usefixtures("impatient_store")
async def test_an_outage_is_a_result_that_says_when_to_retry(gateway: Gateway) -> None:
    with locked(gateway.database.address):
        response = await gateway.mcp("add_contact", gateway.admin, contact=MAYA)

    result = response.json()["result"]
    error = result["structuredContent"]["error"]
    assert (response.status_code, result["isError"]) == (200, True)
    assert error["code"] == "SERVICE_UNAVAILABLE"
    assert error["details"] == {"retry_after_seconds": 1}
    assert error["request_id"] == response.headers["X-Request-Id"]


async def test_it_is_served_below_a_root_path(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, root_path="/gw") as gateway:
        responses = [await gateway.post_json(path, PING, {}) for path in ("/gw/mcp", "/mcp")]

    assert [response.json()["result"] for response in responses] == [{}, {}]


async def test_without_the_setting_there_is_no_such_path(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, mcp=False) as gateway:
        response = await gateway.post_json("/mcp", PING, {})

    assert response.status_code == 404
    assert response.json()["error"]["code"] == "NOT_FOUND"


async def test_concurrent_first_requests_are_all_answered(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        responses = await asyncio.gather(*(gateway.post_json("/mcp", PING, {}) for _ in range(5)))

    assert [response.json()["result"] for response in responses] == [{}] * 5
