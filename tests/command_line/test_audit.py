"""`contact-gateway contacts audit`: which API key created a contact, in which request."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from contact_gateway.database_url import parse_database_url
from support.databases import plain_connection
from support.process import Command, GatewayProcess, gateway_process

pytestmark = pytest.mark.usefixtures("database_url")


@pytest.fixture
def process(folder: Path, database_url: str) -> Iterator[GatewayProcess]:
    environment = {"CONTACT_GATEWAY_DATABASE_URL": database_url}
    with gateway_process(folder, "--demo", environment=environment) as process:
        yield process


def _create_by_rest(process: GatewayProcess) -> str:
    with process.client(process.admin_key) as client:
        response = client.post(
            "/api/v1/contacts",
            json={"contact": {"advertiser_id": 2001, "email": "rest@example.com"}},
            headers={"X-Request-Id": "request-of-rest"},
        )
    return str(response.json()["data"]["id"])


def _create_by_graphql(process: GatewayProcess) -> str:
    document = """mutation {
      createContact(input: { advertiserId: 2001, email: "graphql@example.com" }) {
        ... on Contact { id }
      }
    }"""
    with process.client(process.admin_key) as client:
        response = client.post(
            "/graphql", json={"query": document}, headers={"X-Request-Id": "request-of-graphql"}
        )
    return str(response.json()["data"]["createContact"]["id"])


@pytest.mark.parametrize(
    ("create", "face"), [(_create_by_rest, "rest"), (_create_by_graphql, "graphql")]
)
def test_a_contact_has_a_key_a_face_and_a_request(
    process: GatewayProcess, run: Command, create: Callable[[GatewayProcess], str], face: str
) -> None:
    contact_id = create(process)

    result = run("contacts", "audit", contact_id)

    assert result.exit_code == 0
    shown = dict(line.split(maxsplit=1) for line in result.stdout.splitlines() if "id" not in line)
    assert shown["Contact"] == f"{contact_id}, of advertiser 1001"
    assert shown["Key"].startswith("1 (")
    assert shown["Face"] == face
    assert f"Request id  request-of-{face}\n" in result.stdout
    assert "@" not in result.stdout


def test_it_is_a_json_object_on_request(process: GatewayProcess, run: Command) -> None:
    contact_id = _create_by_rest(process)

    document = json.loads(run("contacts", "audit", contact_id, "--json").stdout)

    assert datetime.fromisoformat(document.pop("created_at")) <= datetime.now(UTC)
    assert document == {
        "contact_id": int(contact_id),
        "advertiser_id": 1001,
        "key_id": 1,
        "key_label": "demo admin",
        "face": "rest",
        "request_id": "request-of-rest",
    }


def test_a_replay_does_not_change_it(process: GatewayProcess, run: Command) -> None:
    body = {"contact": {"advertiser_id": 2001, "email": "twice@example.com"}}
    for request_id in ("the-first", "the-second"):
        with process.client(process.admin_key) as client:
            headers = {"Idempotency-Key": "k", "X-Request-Id": request_id}
            assert client.post("/api/v1/contacts", json=body, headers=headers).status_code == 201

    assert "the-first" in run("contacts", "audit", "1").stdout


def test_a_contact_older_than_the_audit_trail_has_dashes(
    process: GatewayProcess, run: Command, database_url: str
) -> None:
    contact_id = _create_by_rest(process)
    with plain_connection(parse_database_url(database_url)) as connection:
        connection.exec_driver_sql(
            "UPDATE contacts SET created_by_key_id = NULL, created_through = NULL, "
            "created_by_request_id = NULL"
        )

    lines = run("contacts", "audit", contact_id).stdout.splitlines()
    assert [line.split()[-1] for line in lines[2:]] == ["-", "-", "-"]


def test_an_unknown_contact_is_an_error(run: Command) -> None:
    result = run("contacts", "audit", "7")

    assert result.exit_code == 1
    assert "There is no contact 7." in result.stderr


def test_in_front_of_upstream_it_is_refused(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTACT_GATEWAY_UPSTREAM_URL", "http://127.0.0.1:1/api/v1")
    result = run("contacts", "audit", "1")

    assert result.exit_code == 1
    assert "CONTACT_GATEWAY_UPSTREAM_URL" in result.stderr
