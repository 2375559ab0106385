"""Behind a proxy that serves the gateway below a prefix: every address is below it, too."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest
from starlette.applications import Starlette

from contact_gateway.app import create_app
from contact_gateway.settings import Settings
from support.gateway import Store, credentials, filled_store

pytestmark = pytest.mark.anyio

CONTACT = {"contact": {"advertiser_id": 2001, "email": "maya@example.com"}}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return filled_store(tmp_path)


def _app(store: Store, **settings: object) -> Starlette:
    values = {"database_url": store.url, "trusted_proxies": "10.0.0.0/8", **settings}
    return create_app(Settings.model_validate(values))


@asynccontextmanager
async def _client(app: Starlette, peer: str, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app, client=(peer, 4711))
        async with httpx.AsyncClient(
            transport=transport, base_url="http://gateway", headers=headers
        ) as client:
            yield client


async def _addresses(
    store: Store, app: Starlette, peer: str = "10.0.0.1", path: str = "", **headers: str
) -> tuple[str, str]:
    """Return the address of a new contact, and of the server in the OpenAPI document."""
    async with _client(app, peer, **headers) as client:
        created = await client.post(
            f"{path}/api/v1/contacts", json=CONTACT, headers=credentials(store.keys["admin"])
        )
        schema = await client.get(f"{path}/api/v1/schema")
    return created.headers["Location"], schema.json()["servers"][0]["url"]


async def test_addresses_are_below_the_root_path(store: Store) -> None:
    assert await _addresses(store, _app(store, root_path="/gw/")) == (
        "/gw/api/v1/contacts/1",
        "/gw/api/v1",
    )


async def test_a_proxy_need_not_remove_the_root_path(store: Store) -> None:
    assert await _addresses(store, _app(store, root_path="/gw"), path="/gw") == (
        "/gw/api/v1/contacts/1",
        "/gw/api/v1",
    )


async def test_an_unknown_path_lists_addresses_below_the_root_path(store: Store) -> None:
    async with _client(_app(store, root_path="/gw"), "10.0.0.1") as client:
        page, operation = [
            (await client.get(path)).json()["error"] for path in ("/gw/nope", "/gw/api/v1/nope")
        ]

    assert page["message"] == operation["message"] == "Unknown path. GET /gw/ lists all addresses."
    assert "POST /gw/api/v1/contacts" in operation["details"]["operations"]


@pytest.mark.parametrize(
    ("peer", "prefix", "root_path"),
    [
        pytest.param("10.0.0.1", "/gw", "/gw", id="a trusted proxy"),
        pytest.param("10.0.0.1", "/gw/", "/gw", id="with a slash at the end"),
        pytest.param("10.0.0.1", "/apps, /gw", "/apps/gw", id="two proxies"),
        pytest.param("10.0.0.1", "/", "", id="the root"),
        pytest.param("192.0.2.1", "/gw", "/own", id="another client"),
        pytest.param("10.0.0.1", "//evil.example", "/own", id="another host"),
        pytest.param("10.0.0.1", "https://evil.example", "/own", id="a URL"),
        pytest.param("10.0.0.1", "/a b", "/own", id="not a path"),
    ],
)
async def test_the_prefix_of_a_trusted_proxy_replaces_the_root_path(
    store: Store, peer: str, prefix: str, root_path: str
) -> None:
    app = _app(store, root_path="/own")

    assert await _addresses(store, app, peer, **{"X-Forwarded-Prefix": prefix}) == (
        f"{root_path}/api/v1/contacts/1",
        f"{root_path}/api/v1",
    )


TRUSTED = "10.0.0.1"
DIRECT = "192.0.2.1"
PROTO, HOST = "X-Forwarded-Proto", "X-Forwarded-Host"


@pytest.mark.parametrize(
    ("peer", "headers", "origin"),
    [
        pytest.param(DIRECT, {}, "http://gateway", id="a client that connects directly"),
        pytest.param(DIRECT, {"Host": "localhost:8000"}, "http://localhost:8000", id="a port"),
        pytest.param(DIRECT, {"Host": "[::1]:8000"}, "http://[::1]:8000", id="an IPv6 address"),
        pytest.param(DIRECT, {"Host": "a.example;b"}, "", id="not the name of a host"),
        pytest.param(DIRECT, {"Host": ""}, "", id="no host"),
        pytest.param(DIRECT, {PROTO: "https", HOST: "b.example"}, "", id="an untrusted proxy"),
        pytest.param(TRUSTED, {PROTO: "https"}, "https://gateway", id="a proxy that keeps Host"),
        pytest.param(
            TRUSTED,
            {PROTO: "https, http", HOST: "a.example, b.internal"},
            "https://a.example",
            id="two proxies",
        ),
        pytest.param(TRUSTED, {HOST: "a.example"}, "", id="a proxy that sends no scheme"),
        pytest.param(TRUSTED, {PROTO: "javascript"}, "", id="another scheme"),
        pytest.param(TRUSTED, {PROTO: "https", HOST: "a b"}, "", id="not a proxy's host"),
    ],
)
async def test_the_openapi_document_says_where_the_client_reaches_the_gateway(
    store: Store, peer: str, headers: dict[str, str], origin: str
) -> None:
    async with _client(_app(store, root_path="/gw"), peer) as client:
        response = await client.get("/api/v1/schema", headers=headers)

    assert response.json()["servers"] == [{"url": f"{origin}/gw/api/v1"}]
    # Another client must not get the host that this one sent.
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(("path", "count"), [("/graphql", 7), ("/docs", 4)])
async def test_a_page_finds_its_files_below_a_prefix(store: Store, path: str, count: int) -> None:
    page = f"http://proxy.example/gw{path}"
    async with _client(_app(store), "10.0.0.1") as client:
        html = await client.get(path, headers={"Accept": "text/html"})
        found = re.findall(r'(?:src|href)="(?!data:)([^"]*)"', html.text)
        links = [urljoin(page, link) for link in found]
        files = [await client.get(link.removeprefix("http://proxy.example/gw")) for link in links]

    assert len(links) == count
    assert {file.status_code for file in files} == {200}


async def test_graphiql_finds_the_api_below_a_prefix(store: Store) -> None:
    page = "http://proxy.example/gw/graphql"
    async with _client(_app(store), "10.0.0.1") as client:
        script = await client.get("/graphql/explorer/explorer.js")

    (endpoint,) = re.findall(r'ENDPOINT = "([^"]*)"', script.text)
    assert urljoin(page, endpoint) == page


async def test_the_explorer_is_below_the_root_path(store: Store) -> None:
    async with _client(_app(store, root_path="/gw"), "10.0.0.1", Accept="text/html") as client:
        response = await client.get("/gw/api/v1/graphql")

    assert response.headers["Location"] == "/gw/graphql"
