"""Only the routes listed here work without a key. New routes and fields are tested too."""

from pathlib import Path

import pytest
from graphql import GraphQLNonNull, build_schema
from starlette.routing import BaseRoute, Mount, Route

from contact_gateway.app import create_app
from contact_gateway.contacts.source import OWN_FILTERS
from contact_gateway.faces.graphql.schema import schema_sdl
from contact_gateway.faces.mcp.descriptions import described_tools
from contact_gateway.settings import Settings
from support.databases import Engine
from support.gateway import Gateway

pytestmark = pytest.mark.anyio

PUBLIC = {
    *("/", "/docs", "/api/v1/schema", "/graphql", "/graphql/explorer", "/api/v1/graphql"),
    *("/mcp", "/healthz", "/readyz"),
    # There is only a 404, which lists the operations.
    "/api/v1/{path:path}",
}
ARGUMENTS = {
    "id": "1",
    "submissions": "[]",
    "input": '{advertiserId: 1001, email: "maya@example.com"}',
}


@pytest.fixture(scope="module")
def engine_of_module() -> Engine:
    """Run these tests on SQLite alone: what needs a key does not depend on the store."""
    return Engine.SQLITE


def _paths() -> list[str]:
    url = f"sqlite+aiosqlite:///{Path(__file__).with_name('never-opened.sqlite3')}"
    routes: list[BaseRoute] = create_app(Settings.model_validate({"database_url": url})).routes
    assert all(isinstance(route, (Route, Mount)) for route in routes)
    return [route.path for route in routes if isinstance(route, (Route, Mount))]


def _fields(type_name: str) -> list[str]:
    """Return a selection of each root field of a type, with its required arguments."""
    root = build_schema(schema_sdl()).type_map[type_name]
    selections = []
    for name, field in getattr(root, "fields", {}).items():
        needed = ", ".join(
            f"{argument}: {ARGUMENTS[argument]}"
            for argument, definition in field.args.items()
            if isinstance(definition.type, GraphQLNonNull) and argument in ARGUMENTS
        )
        selections.append(
            f"{name}({needed}) {{ __typename }}" if needed else f"{name} {{ __typename }}"
        )
    return selections


def test_every_public_route_exists() -> None:
    assert set(_paths()) >= PUBLIC


@pytest.mark.parametrize("path", sorted(set(_paths()) - PUBLIC))
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_every_other_route_needs_a_key(gateway: Gateway, path: str, method: str) -> None:
    response = await gateway.client.request(method, path.replace("{id}", "1"))

    assert response.status_code in {401, 405}


@pytest.mark.parametrize("selection", _fields("Query"))
async def test_every_query_needs_a_key(gateway: Gateway, selection: str) -> None:
    body = (await gateway.graphql(f"{{ {selection} }}")).json()

    assert list(body["data"].values()) == [None]
    assert body["errors"][0]["extensions"]["code"] == "UNAUTHORIZED"


@pytest.mark.parametrize("selection", _fields("Mutation"))
async def test_every_mutation_needs_a_key(gateway: Gateway, selection: str) -> None:
    body = (await gateway.graphql(f"mutation {{ {selection} }}")).json()

    assert list(body["data"].values()) == [{"__typename": "UnauthorizedError"}]


@pytest.mark.parametrize("tool", described_tools(OWN_FILTERS))
async def test_every_tool_needs_a_key(gateway: Gateway, tool: str) -> None:
    result = (await gateway.mcp(tool)).json()["result"]

    assert result["isError"]
    assert result["structuredContent"]["error"]["code"] == "UNAUTHORIZED"
