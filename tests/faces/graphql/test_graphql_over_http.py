"""GraphQL over HTTP, as its public audit has it, and what that leaves open."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.gateway import Gateway, credentials
from support.process import GatewayProcess, gateway_process
from support.programs import skip_or_fail

AUDIT = Path(__file__).parent / "graphql_over_http"
# Of graphql-http 1.23: a script that lost some of them would pass in vain.
AUDITS = 36
INSTALLS_WITHIN_SECONDS = 120
RUNS_WITHIN_SECONDS = 60

MUTATION = 'mutation { createContact(input: {advertiserId: 1001, email: "m@example.com"}) '
MUTATION += "{ __typename } }"
GRAPHQL_RESPONSE = "application/graphql-response+json"


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Return Node, and the audit's script with what it needs from npm beside it."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        skip_or_fail("there is no node, or no npm, on the PATH to audit GraphQL over HTTP with")
    folder = tmp_path_factory.mktemp("audit") / "graphql_over_http"
    shutil.copytree(AUDIT, folder, ignore=shutil.ignore_patterns("node_modules"))
    # npm keeps what it has fetched, so only the first time is the registry asked.
    options = ("--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund")
    installed = subprocess.run(
        (npm, "ci", *options),
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        timeout=INSTALLS_WITHIN_SECONDS,
        check=False,
    )
    if installed.returncode != 0:
        skip_or_fail(f"npm cannot install graphql-http: {installed.stderr.strip()}")
    return node, folder / "audit.mjs"


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with gateway_process(tmp_path_factory.mktemp("gateway"), "--demo") as running:
        yield running


# Any: the audit's own JSON, whose shape is looked at where it is used.
def _audited(
    audit: tuple[str, Path], process: GatewayProcess, key: str | None
) -> list[dict[str, Any]]:
    environment = {name: value for name, value in os.environ.items() if name != "API_KEY"}
    ran = subprocess.run(
        (*audit, f"{process.address}/graphql"),
        env=environment if key is None else environment | {"API_KEY": key},
        capture_output=True,
        encoding="utf-8",
        timeout=RUNS_WITHIN_SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    results: list[dict[str, Any]] = json.loads(ran.stdout)
    return results


@pytest.mark.parametrize("with_key", [False, True], ids=["without a key", "with an admin's key"])
def test_every_must_and_should_of_the_public_audit_is_kept(
    audit: tuple[str, Path], process: GatewayProcess, subtests: pytest.Subtests, *, with_key: bool
) -> None:
    results = _audited(audit, process, process.admin_key if with_key else None)

    assert len({result["id"] for result in results}) == AUDITS
    for result in results:
        with subtests.test(msg=f"{result['id']} {result['name']}"):
            assert result["status"] == "ok", f"{result['name']}: {result['reason']}"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and its status for each of the two media types."""

    name: str
    body: str
    graphql_response: int
    json: int


ASKED = (
    Asked("a document that is executed", '{"query": "{ __typename }"}', 200, 200),
    Asked("a field that is refused", '{"query": "{ viewer { label } }"}', 200, 200),
    Asked("a document that does not parse", '{"query": "{"}', 400, 200),
    Asked("a document that is not valid", '{"query": "{ nope }"}', 400, 200),
    Asked(
        "a variable that does not coerce",
        '{"query": "query ($id: ID!) { contact(id: $id) { id } }", "variables": {"id": []}}',
        400,
        200,
    ),
    Asked(
        "a variable that is missing",
        '{"query": "query ($id: ID!) { contact(id: $id) { id } }"}',
        400,
        200,
    ),
    Asked("an operation that is not there", '{"query": "{ a }", "operationName": "A"}', 400, 400),
    Asked("a body that is no JSON", '{"query"', 400, 400),
    Asked("a body without a document", "{}", 400, 400),
    Asked("a document's hash alone", '{"extensions": {"persistedQuery": {}}}', 400, 400),
    Asked("a batch", '[{"query": "{ __typename }"}, {"query": "{ __typename }"}]', 400, 400),
    Asked("a batch of one", '[{"query": "{ __typename }"}]', 400, 400),
)


@pytest.mark.anyio
@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: asked.name)
async def test_the_status_is_that_of_the_media_type(gateway: Gateway, asked: Asked) -> None:
    for media_type, status in (
        (GRAPHQL_RESPONSE, asked.graphql_response),
        ("application/json", asked.json),
    ):
        response = await gateway.client.post(
            "/graphql",
            content=asked.body,
            headers={"Content-Type": "application/json", "Accept": media_type},
        )

        assert response.status_code == status, media_type
        assert response.headers["Content-Type"] == f"{media_type}; charset=utf-8"
        was_executed = status == 200 and asked.graphql_response == 200
        assert ("data" in response.json()) is was_executed, media_type


@pytest.mark.anyio
async def test_a_client_that_sends_a_hash_first_is_told_to_send_the_document(
    gateway: Gateway,
) -> None:
    """Apollo Client and urql look for these words, and fall back on nothing else."""
    extensions = {"persistedQuery": {"version": 1, "sha256Hash": "0" * 64}}
    posted = await gateway.post_json("/graphql", {"extensions": extensions}, {})
    got = await gateway.client.get("/graphql", params={"extensions": json.dumps(extensions)})

    for response in (posted, got):
        assert response.status_code == 400
        assert response.json() == {
            "errors": [
                {
                    "message": "PersistedQueryNotSupported",
                    "extensions": {"code": "PERSISTED_QUERY_NOT_SUPPORTED"},
                }
            ]
        }


@pytest.mark.anyio
async def test_a_document_that_comes_with_its_hash_is_executed(gateway: Gateway) -> None:
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
async def test_what_a_page_of_another_origin_may_send_is_not_read(
    gateway: Gateway, content_type: str, body: str
) -> None:
    """Browsers send a form or text to any address without asking it, and JSON only if let in."""
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
async def test_a_mutation_that_is_sent_as_a_read_creates_nothing(
    gateway: Gateway, method: str
) -> None:
    response = await gateway.client.request(
        method, "/graphql", params={"query": MUTATION}, headers=credentials(gateway.admin)
    )

    assert response.status_code == 405
    assert response.headers["Allow"] == "POST"
    assert await gateway.contact_rows() == 0
