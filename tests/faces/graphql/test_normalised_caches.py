"""Apollo Client and urql's Graphcache show errors that are selected as in the examples."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from support.clock import WATCHDOG_SECONDS
from support.faces import Json
from support.process import GatewayProcess, gateway_process
from support.programs import node_with_packages

CLIENTS = Path(__file__).parent / "normalised_caches"
EXAMPLE = Path(__file__).parents[3] / "examples" / "graphql" / "create-contact.graphql"
BY_INTERFACE = """mutation ($input: CreateContactInput!) {
  createContact(input: $input) { __typename ... on ApiError { code message requestId } }
}"""
UNRESOLVED = {"advertiserId": "3001", "email": "maya@example.com"}


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Return the path of Node, and the script with its npm packages installed."""
    folder = tmp_path_factory.mktemp("clients") / "normalised_caches"
    return node_with_packages(CLIENTS, folder), folder / "mutate.mjs"


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with gateway_process(tmp_path_factory.mktemp("gateway"), "--demo") as running:
        yield running


def _results(
    clients: tuple[str, Path],
    process: GatewayProcess,
    document: str,
    contact: Mapping[str, str],
    key: str,
) -> Mapping[str, Json]:
    """Return the field `createContact` as each client shows it."""
    ran = subprocess.run(
        (*clients, f"{process.address}/graphql"),
        input=json.dumps({"key": key, "document": document, "variables": {"input": contact}}),
        capture_output=True,
        encoding="utf-8",
        timeout=WATCHDOG_SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    data = json.loads(ran.stdout)
    return {client: data[client]["createContact"] for client in ("apollo", "urql")}


@pytest.mark.parametrize(
    ("contact", "role", "kind", "code"),
    [
        (UNRESOLVED, "admin", "NotFoundError", "NOT_FOUND"),
        ({"advertiserId": "x", "email": "x"}, "admin", "InvalidInputError", "INVALID_INPUT"),
        (UNRESOLVED, "member", "ForbiddenError", "FORBIDDEN"),
        (UNRESOLVED, "nobody", "UnauthorizedError", "UNAUTHORIZED"),
    ],
    ids=["not found", "invalid", "forbidden", "unauthorized"],
)
def test_errors_selected_by_their_own_types_are_shown(
    clients: tuple[str, Path],
    process: GatewayProcess,
    contact: Mapping[str, str],
    role: str,
    kind: str,
    code: str,
) -> None:
    key = {"admin": process.admin_key, "member": process.member_key}.get(role, "nonsense")
    results = _results(clients, process, EXAMPLE.read_text(encoding="utf-8"), contact, key)

    for result in results.values():
        assert (result["__typename"], result["code"]) == (kind, code)
        assert result["message"]
        assert result["requestId"]


def test_errors_selected_by_their_interface_are_left_out(
    clients: tuple[str, Path], process: GatewayProcess
) -> None:
    """The documentation warns of this. If a client fixes it, update the documentation."""
    results = _results(clients, process, BY_INTERFACE, UNRESOLVED, process.admin_key)

    for result in results.values():
        assert result == {"__typename": "NotFoundError"}
