"""The middleware around an application that a test writes."""

import io
import json
from typing import Final

import http_sf
import httpx
import pytest
from anyio.lowlevel import checkpoint
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from contact_gateway.access.principals import Credential, KeyRefusal
from contact_gateway.access.rate_limits import HourlyRateLimit
from contact_gateway.faces.middleware import ErrorMiddleware, RequestContextMiddleware
from contact_gateway.faces.request_context import CallerFactory
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
    callers = CallerFactory(source, rate_limit)
    middleware = RequestContextMiddleware(ErrorMiddleware(app), callers)
    transport = httpx.ASGITransport(app=middleware)
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


async def _events(log: io.StringIO) -> list[str]:
    # Lines are written in the next iteration of the event loop.
    await checkpoint()
    lines: list[Json] = [json.loads(line) for line in log.getvalue().splitlines()]
    return [line["event"] for line in lines]
