"""A fault shows its caller no internals, and is logged in one line without their input."""

import io
import json
from pathlib import Path

import pytest

from contact_gateway.faces.graphql import execution
from contact_gateway.store import api_keys, contacts
from support.databases import plain_connection
from support.faces import CREATE_CONTACT, Json
from support.gateway import Gateway, credentials, running_gateway

pytestmark = pytest.mark.anyio

MAYA = {"advertiser_id": 1001, "email": "maya@example.com"}
MAYA_INPUT = {"advertiserId": 1001, "email": "maya@example.com"}


@pytest.fixture
def gateway(new_gateway: Gateway) -> Gateway:
    return new_gateway


@pytest.fixture
def _broken_store(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the inside of the gateway")

    monkeypatch.setattr(contacts, "create", broken)


@pytest.mark.usefixtures("_broken_store")
async def test_a_fault_in_rest_is_a_500_that_shows_nothing(
    gateway: Gateway, log: io.StringIO
) -> None:
    response = await gateway.client.post(
        "/api/v1/contacts", json={"contact": MAYA}, headers=credentials(gateway.admin)
    )

    assert response.status_code == 500
    assert response.json()["error"]["code"] == "INTERNAL_ERROR"
    assert "inside" not in response.text
    _check_log(log.getvalue(), response.headers["X-Request-Id"])


@pytest.fixture
def _broken_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the inside of the gateway")

    monkeypatch.setattr(api_keys, "by_lookup", broken)


@pytest.mark.usefixtures("_broken_keys")
async def test_a_fault_in_authentication_is_a_500_and_does_not_affect_probes(
    gateway: Gateway, log: io.StringIO
) -> None:
    response = await gateway.rest("/contacts", gateway.member)
    _check_log(log.getvalue(), response.headers["X-Request-Id"])
    alive = await gateway.client.get("/healthz", headers=credentials(gateway.member))

    assert response.status_code == 500
    assert response.json()["error"]["code"] == "INTERNAL_ERROR"
    assert alive.status_code == 200


async def test_a_missing_table_is_an_outage_until_it_is_restored(
    gateway: Gateway, log: io.StringIO
) -> None:
    """Such as by pg_restore --clean, while the gateway runs."""
    with plain_connection(gateway.database.address) as other:
        other.exec_driver_sql("ALTER TABLE contacts RENAME TO elsewhere")
        read = await gateway.rest("/contacts", gateway.member)
        created = await gateway.client.post(
            "/api/v1/contacts", json={"contact": MAYA}, headers=credentials(gateway.admin)
        )
        other.exec_driver_sql("ALTER TABLE elsewhere RENAME TO contacts")
    restored = await gateway.rest("/contacts", gateway.member)

    for response in (read, created):
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "SERVICE_UNAVAILABLE"
    assert "no such table" in log.getvalue() or "does not exist" in log.getvalue()
    assert restored.status_code == 200


@pytest.mark.usefixtures("_broken_store")
async def test_a_fault_in_graphql_is_masked(gateway: Gateway, log: io.StringIO) -> None:
    response = await gateway.graphql(CREATE_CONTACT, gateway.admin, {"input": MAYA_INPUT})

    body = response.json()
    assert body["data"] is None
    assert body["errors"][0]["extensions"] == {
        "code": "INTERNAL_ERROR",
        "requestId": response.headers["X-Request-Id"],
    }
    assert body["errors"][0]["path"] == ["createContact"]
    assert "inside" not in response.text
    _check_log(log.getvalue(), response.headers["X-Request-Id"])


@pytest.mark.usefixtures("_broken_store")
async def test_a_fault_in_a_tool_is_a_result_that_shows_nothing(
    gateway: Gateway, log: io.StringIO
) -> None:
    response = await gateway.mcp("add_contact", gateway.admin, contact=MAYA)
    result = response.json()["result"]

    assert result["isError"]
    assert result["structuredContent"]["error"]["code"] == "INTERNAL_ERROR"
    assert "inside" not in response.text
    _check_log(log.getvalue(), response.headers["X-Request-Id"])


@pytest.mark.parametrize("accept", ["application/graphql-response+json", "application/json"])
async def test_a_fault_before_execution_is_a_500_that_shows_nothing(
    gateway: Gateway, log: io.StringIO, accept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the inside of the gateway")

    monkeypatch.setattr(execution, "validate", broken)
    response = await gateway.graphql("{ viewer { label } }", gateway.admin, Accept=accept)

    assert response.status_code == 500
    body = response.json()
    assert "data" not in body
    assert [error["extensions"] for error in body["errors"]] == [
        {"code": "INTERNAL_ERROR", "requestId": response.headers["X-Request-Id"]}
    ]
    assert "inside" not in response.text
    _check_log(log.getvalue(), response.headers["X-Request-Id"])


def _check_log(text: str, request_id: str) -> None:
    lines: list[Json] = [json.loads(line) for line in text.splitlines()]
    faults = [line for line in lines if line["event"] == "fault"]
    assert len(faults) == 1
    assert "RuntimeError: the inside of the gateway" in faults[0]["exception"]
    assert {line["request_id"] for line in lines} == {request_id}
    assert "maya@" not in text


async def test_a_damaged_store_is_unavailable_and_not_ready(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        await gateway.database.close()
        _damage(tmp_path)
        ready = await gateway.client.get("/readyz")
        rest = await gateway.rest("/contacts", gateway.member)
        graphql = await gateway.graphql("{ viewer { label } }", gateway.member)
        named = await gateway.graphql(
            "{ viewer { label } }", gateway.member, accept="application/json"
        )
        in_part = await gateway.graphql("{ __typename viewer { label } }", gateway.member)

    assert ready.status_code == rest.status_code == 503
    assert graphql.status_code == named.status_code == 503
    assert in_part.status_code == 200
    assert in_part.json()["data"] == {"__typename": "Query", "viewer": None}
    assert graphql.json()["errors"][0]["extensions"]["code"] == "SERVICE_UNAVAILABLE"


def _damage(folder: Path) -> None:
    for file in folder.glob("gateway.sqlite3*"):
        file.write_bytes(b"this is no database" * 1000)
