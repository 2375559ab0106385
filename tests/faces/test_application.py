"""The application around an endpoint that a test writes."""

import io
import json
from typing import Final

import http_sf
import httpx
import pytest
from anyio.lowlevel import checkpoint
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from contact_gateway.access.principals import Credential, KeyRefusal
from contact_gateway.access.rate_limits import HourlyRateLimit
from contact_gateway.app import healthz
from contact_gateway.faces.application import IS_ADMIN, Application, Routes
from contact_gateway.faces.http import Response
from contact_gateway.faces.request_context import CallerFactory
from contact_gateway.faces.rest.routes import Resource
from contact_gateway.telemetry.logs import RequestLog
from support.faces import Json
from support.fake_source import FakeSource
from support.gateway import credentials

pytestmark = pytest.mark.anyio

FINE: Final = PlainTextResponse("fine", headers={"Cache-Control": "max-age=60"})


class BrokenSource(FakeSource):
    """A source that fails to authenticate."""

    async def authenticate(self, credential: Credential) -> FakeSource | KeyRefusal:
        raise LookupError(type(credential).__name__)


async def _get(
    app: ASGIApp,
    source: FakeSource,
    key: str | None = None,
    rate_limit: HourlyRateLimit | None = None,
) -> httpx.Response:
    callers = CallerFactory(source, 1, rate_limit)
    application = Application(Routes([Mount("/", app)]), callers, [RequestLog()])
    transport = httpx.ASGITransport(app=application)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        return await client.get("/", headers=credentials(key))


async def test_a_response_keeps_its_own_cache_control() -> None:
    response = await _get(FINE, FakeSource())

    assert response.headers["Cache-Control"] == "max-age=60"


async def test_a_response_is_sent_without_rate_limits_that_cannot_be_read(
    log: io.StringIO,
) -> None:
    response = await _get(FINE, BrokenSource(), "any key")

    assert response.text == "fine"
    assert "X-RateLimit-Limit" not in response.headers
    assert await _events(log) == ["fault", "request"]


async def test_a_limit_is_an_integer_of_a_structured_field() -> None:
    """One has at most 15 digits: https://www.rfc-editor.org/rfc/rfc9651#section-3.3.1."""
    source, rate_limit = FakeSource(), HourlyRateLimit(10**16)
    response = await _get(FINE, source, "admin", rate_limit)

    assert response.headers["X-RateLimit-Limit"] == "1" + 16 * "0"
    assert http_sf.parse(response.headers["RateLimit-Policy"].encode(), tltype="list") == [
        ("default", {"q": 10**15 - 1, "w": 3600})
    ]


async def test_an_error_after_the_start_of_a_response_is_raised(log: io.StringIO) -> None:
    """The server logs it and closes the connection."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await FINE(scope, receive, send)
        raise LookupError("after the response")

    with pytest.raises(LookupError, match="after the response"):
        await _get(app, FakeSource())

    assert await _events(log) == ["request"]


@pytest.mark.parametrize("status", [204, 304])
async def test_a_response_that_has_no_body_has_no_length(status: int) -> None:
    assert Response.of(b"", None, status, {"ETag": "x"}).headers == [(b"etag", b"x")]


async def test_the_admin_port_has_paths_of_its_own() -> None:
    routes = Routes([Mount("/", FINE)], [Route("/healthz", Resource(None, get=healthz))])
    application = Application(routes, CallerFactory(FakeSource(), 1))

    async def on_admin_port(scope: Scope, receive: Receive, send: Send) -> None:
        await application({**scope, "state": {IS_ADMIN: True}}, receive, send)

    transport = httpx.ASGITransport(app=on_admin_port)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        served, unknown = [await client.get(path) for path in ("/healthz", "/")]

    assert served.json() == {"status": "ok"}
    assert unknown.status_code == 404
    message = "Unknown path. The admin port serves /healthz."
    assert unknown.json()["error"]["message"] == message


@pytest.mark.parametrize("path", ["/healthz%0A", "/contacts/1%0A"])
async def test_no_path_ends_with_a_line_break(path: str) -> None:
    """The router's patterns would accept it."""
    endpoint = Resource(None, get=healthz)
    routes = Routes([Route("/healthz", endpoint), Route("/contacts/{id}", endpoint)])
    transport = httpx.ASGITransport(app=Application(routes, CallerFactory(FakeSource(), 1)))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        response = await client.get(path)

    assert response.status_code == 404


async def _events(log: io.StringIO) -> list[str]:
    # Lines are written in the next iteration of the event loop.
    await checkpoint()
    lines: list[Json] = [json.loads(line) for line in log.getvalue().splitlines()]
    return [line["event"] for line in lines]
