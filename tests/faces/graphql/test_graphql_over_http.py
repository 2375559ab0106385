"""GraphQL over HTTP: the public audit, and the cases that it leaves open."""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.clock import WATCHDOG_SECONDS
from support.databases import Engine
from support.gateway import Gateway, credentials
from support.process import GatewayProcess, gateway_process
from support.programs import node_with_packages

AUDIT = Path(__file__).parent / "graphql_over_http"
# The number of audits in graphql-http 1.23. A script that runs fewer must not pass.
AUDITS = 36

MUTATION = 'mutation { createContact(input: {advertiserId: 1001, email: "m@example.com"}) '
MUTATION += "{ __typename } }"
GRAPHQL_RESPONSE = "application/graphql-response+json"


@pytest.fixture(scope="module")
def engine_of_module() -> Engine:
    """Run these tests on SQLite alone: the protocol does not depend on the store."""
    return Engine.SQLITE


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Return the path of Node, and the audit script with its npm packages installed."""
    folder = tmp_path_factory.mktemp("audit") / "graphql_over_http"
    node = node_with_packages(AUDIT, folder)
    return node, folder / "audit.mjs"


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with gateway_process(tmp_path_factory.mktemp("gateway"), "--demo") as running:
        yield running


# Any: the audit's JSON, whose shape the assertions check.
def _audited(
    audit: tuple[str, Path], process: GatewayProcess, key: str | None
) -> list[dict[str, Any]]:
    environment = {name: value for name, value in os.environ.items() if name != "API_KEY"}
    ran = subprocess.run(
        (*audit, f"{process.address}/graphql"),
        env=environment if key is None else environment | {"API_KEY": key},
        capture_output=True,
        encoding="utf-8",
        timeout=WATCHDOG_SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    results: list[dict[str, Any]] = json.loads(ran.stdout)
    return results


@pytest.mark.parametrize("with_key", [False, True], ids=["without a key", "with an admin's key"])
def test_every_must_and_should_of_the_public_audit_passes(
    audit: tuple[str, Path], process: GatewayProcess, subtests: pytest.Subtests, *, with_key: bool
) -> None:
    results = _audited(audit, process, process.admin_key if with_key else None)

    assert len({result["id"] for result in results}) == AUDITS
    for result in results:
        with subtests.test(msg=f"{result['id']} {result['name']}"):
            assert result["status"] == "ok", f"{result['name']}: {result['reason']}"


@dataclass(frozen=True, slots=True)
class Case:
    """A request, with its status for each of the two media types."""

    name: str
    body: str
    graphql_response: int
    json: int


CASES = (
    Case("a document that is executed", '{"query": "{ __typename }"}', 200, 200),
    Case("a field that is refused", '{"query": "{ viewer { label } }"}', 200, 200),
    Case("a document that does not parse", '{"query": "{"}', 400, 200),
    Case("a document that is not valid", '{"query": "{ nope }"}', 400, 200),
    Case(
        "a variable that does not coerce",
        '{"query": "query ($id: ID!) { contact(id: $id) { id } }", "variables": {"id": []}}',
        400,
        200,
    ),
    Case(
        "a variable that is missing",
        '{"query": "query ($id: ID!) { contact(id: $id) { id } }"}',
        400,
        200,
    ),
    Case("an unknown operation", '{"query": "{ a }", "operationName": "A"}', 400, 400),
    Case("a body that is not JSON", '{"query"', 400, 400),
    Case("a body without a document", "{}", 400, 400),
    Case("a document's hash alone", '{"extensions": {"persistedQuery": {}}}', 400, 400),
    Case("a batch", '[{"query": "{ __typename }"}, {"query": "{ __typename }"}]', 400, 400),
    Case("a batch of one", '[{"query": "{ __typename }"}]', 400, 400),
)


@pytest.mark.anyio
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_the_status_depends_on_the_media_type(gateway: Gateway, case: Case) -> None:
    for media_type, status in (
        (GRAPHQL_RESPONSE, case.graphql_response),
        ("application/json", case.json),
    ):
        response = await gateway.client.post(
            "/graphql",
            content=case.body,
            headers={"Content-Type": "application/json", "Accept": media_type},
        )

        assert response.status_code == status, media_type
        assert response.headers["Content-Type"] == f"{media_type}; charset=utf-8"
        was_executed = status == 200 and case.graphql_response == 200
        assert ("data" in response.json()) is was_executed, media_type


@pytest.mark.anyio
async def test_a_client_that_sends_a_hash_first_can_fall_back_on_the_document(
    gateway: Gateway,
) -> None:
    """Apollo Client and urql recognise exactly this message and code."""
    extensions = {"persistedQuery": {"version": 1, "sha256Hash": "0" * 64}}
    posted = await gateway.post_json("/graphql", {"extensions": extensions}, {})
    got = await gateway.client.get("/graphql", params={"extensions": json.dumps(extensions)})

    for response in (posted, got):
        assert response.status_code == 400
        assert response.json() == {
            "errors": [
                {
                    "message": "PersistedQueryNotSupported",
                    "extensions": {
                        "code": "PERSISTED_QUERY_NOT_SUPPORTED",
                        "requestId": response.headers["X-Request-Id"],
                    },
                }
            ]
        }


@pytest.mark.anyio
async def test_a_document_with_its_hash_is_executed(gateway: Gateway) -> None:
    extensions = {"persistedQuery": {"version": 1, "sha256Hash": "0" * 64}}
    body = {"query": "{ __typename }", "extensions": extensions}
    response = await gateway.post_json("/graphql", body, {})

    assert response.json() == {"data": {"__typename": "Query"}}


@pytest.mark.anyio
@pytest.mark.parametrize("batch", [1, 2], ids=["of one", "of two"])
async def test_no_operation_of_a_batch_is_executed(gateway: Gateway, batch: int) -> None:
    response = await gateway.post_json(
        "/graphql", [{"query": MUTATION}] * batch, credentials(gateway.admin)
    )

    assert response.status_code == 400
    assert [error["extensions"]["code"] for error in response.json()["errors"]] == ["BAD_REQUEST"]
    assert await gateway.contact_rows() == 0


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain", json.dumps({"query": MUTATION})),
        ("application/graphql", MUTATION),
        ("application/x-www-form-urlencoded", "query=%7B__typename%7D"),
        (
            "multipart/form-data; boundary=b",
            "\r\n".join(
                (
                    "--b",
                    'Content-Disposition: form-data; name="operations"',
                    "",
                    json.dumps({"query": MUTATION}),
                    "--b--",
                    "",
                )
            ),
        ),
    ],
    ids=["text", "a document", "a form", "a form with files"],
)
async def test_content_types_that_browsers_send_across_origins_are_refused(
    gateway: Gateway, content_type: str, body: str
) -> None:
    """Browsers send forms and text to any origin, but JSON only after a CORS preflight."""
    response = await gateway.client.post(
        "/graphql",
        content=body,
        headers=credentials(gateway.admin) | {"Content-Type": content_type},
    )

    assert response.status_code == 415
    assert response.headers["Accept"] == "application/json"
    assert [error["extensions"]["code"] for error in response.json()["errors"]] == [
        "UNSUPPORTED_MEDIA_TYPE"
    ]
    assert await gateway.contact_rows() == 0


@pytest.mark.anyio
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_mutation_by_a_safe_method_creates_nothing(gateway: Gateway, method: str) -> None:
    response = await gateway.client.request(
        method, "/graphql", params={"query": MUTATION}, headers=credentials(gateway.admin)
    )

    assert response.status_code == 405
    assert response.headers["Allow"] == "POST"
    assert await gateway.contact_rows() == 0


@pytest.mark.anyio
async def test_hienergys_path_is_the_same_endpoint(gateway: Gateway) -> None:
    body = {"query": "{ viewer { role } }"}
    headers = credentials(gateway.member)

    for path in ("/graphql", "/api/v1/graphql"):
        response = await gateway.post_json(path, body, headers)
        by_get = await gateway.client.get(path, params=body, headers=headers)
        assert response.json() == by_get.json() == {"data": {"viewer": {"role": "MEMBER"}}}


@pytest.mark.anyio
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_browser_at_hienergys_path_is_sent_to_the_explorer(
    gateway: Gateway, method: str
) -> None:
    headers = {"Accept": "text/html"}
    response = await gateway.client.request(method, "/api/v1/graphql", headers=headers)

    assert (response.status_code, response.headers["Location"]) == (307, "/graphql")
