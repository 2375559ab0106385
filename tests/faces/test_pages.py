"""The page at `/`, and the REST reference at `/docs`."""

import re
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest

from support.databases import Engine
from support.gateway import Gateway, running_gateway

pytestmark = pytest.mark.anyio

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
LINKS = {
    "graphql": "/graphql",
    "rest": "/api/v1/contacts",
    "graphiql": "/graphql",
    "docs": "/docs",
    "openapi": "/api/v1/schema",
    "health": "/healthz",
    "readiness": "/readyz",
}


@pytest.fixture(scope="module")
def engine_of_module() -> Engine:
    """Run these tests on SQLite alone: the pages do not depend on the store."""
    return Engine.SQLITE


async def links(gateway: Gateway, **headers: str) -> dict[str, str]:
    """Return the links in the JSON at `/`, without those of routes that have their own tests."""
    found: dict[str, str] = (await gateway.client.get("/", headers=headers)).json()["links"]
    return {name: path for name, path in found.items() if name != "mcp"}


def hrefs(page: httpx.Response) -> list[str]:
    return [href for href in re.findall('<a href="([^"]*)"', page.text) if href != "/mcp"]


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/*"])
async def test_a_program_gets_the_links_in_json(gateway: Gateway, accept: str) -> None:
    response = await gateway.client.get("/", headers={"Accept": accept})

    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    assert response.json()["name"] == "contact-gateway"
    assert response.json()["description"].endswith(".")
    assert await links(gateway, Accept=accept) == LINKS


async def test_every_link_of_the_page_leads_somewhere(gateway: Gateway) -> None:
    page = await gateway.client.get("/", headers=HTML)
    found = hrefs(page)
    answers = [await gateway.client.get(href, headers=HTML) for href in found]

    assert found == ["/graphql", "/docs", "/api/v1/schema", "/healthz", "/readyz"]
    assert {answer.status_code for answer in answers} == {200}


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_a_page_has_a_strict_policy_and_no_version(gateway: Gateway, path: str) -> None:
    page = await gateway.client.get(path, headers=HTML)
    policy = page.headers["Content-Security-Policy"]

    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert policy.startswith("default-src 'none'; ")
    assert policy.endswith("; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert version("contact-gateway") not in page.text


@pytest.mark.parametrize("path", ["/", "/docs"])
async def test_head_is_answered_and_other_methods_are_not(gateway: Gateway, path: str) -> None:
    head = await gateway.client.head(path, headers=HTML)
    post = await gateway.client.post(path, headers=HTML)

    assert (head.status_code, head.text) == (200, "")
    assert post.status_code == 405
    assert post.headers["Allow"] == "GET, HEAD"
    assert post.json()["error"]["code"] == "METHOD_NOT_ALLOWED"


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        pytest.param({"graphiql": False}, {"graphiql"}, id="without GraphiQL"),
        pytest.param({"rest_docs": False}, {"docs"}, id="without the reference"),
        pytest.param({"admin_port": 0}, {"health", "readiness"}, id="with an admin port"),
        pytest.param({"profile": "production"}, {"graphiql", "docs"}, id="in production"),
    ],
)
async def test_only_what_is_served_is_linked(
    tmp_path: Path, settings: dict[str, object], missing: set[str]
) -> None:
    async with running_gateway(tmp_path, **settings) as gateway:
        found = await links(gateway)
        page = await gateway.client.get("/", headers=HTML)

    assert found == {name: path for name, path in LINKS.items() if name not in missing}
    assert len(hrefs(page)) == 5 - len(missing)


async def test_the_reference_can_be_switched_off(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, rest_docs=False) as gateway:
        statuses = [
            (await gateway.client.get(path, headers=HTML)).status_code
            for path in ("/docs", "/docs/reference.js", "/api/v1/schema")
        ]

    assert statuses == [404, 404, 200]


@pytest.mark.parametrize("path", ["/gw", "/gw/", "/"])
async def test_links_are_below_the_root_path(tmp_path: Path, path: str) -> None:
    """Whether a proxy removes the prefix or not, and with a slash at its end or not."""
    async with running_gateway(tmp_path, root_path="/gw") as gateway:
        page = await gateway.client.get(path, headers=HTML)
        links_in_json = (await gateway.client.get(path)).json()["links"]

    assert links_in_json["docs"] == "/gw/docs"
    assert all(href.startswith("/gw/") for href in hrefs(page))


async def test_a_path_that_only_begins_like_the_root_path_is_another(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, root_path="/gw") as gateway:
        response = await gateway.client.get("/gwen", headers=HTML)

    assert response.status_code == 404


async def test_a_prefix_is_escaped_in_the_page(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, trusted_proxies="127.0.0.0/8") as gateway:
        page = await gateway.client.get("/", headers=HTML | {"X-Forwarded-Prefix": "/a'b&c"})

    assert "/a&#x27;b&amp;c/docs" in page.text
