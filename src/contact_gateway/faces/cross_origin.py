"""Requests from web pages of other origins (CORS)."""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

import structlog
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from contact_gateway.faces.request_context import request_context_of

_EXPOSED_HEADERS: Final = (
    "Idempotent-Replayed",
    "Location",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "X-Request-Id",
    "X-Upstream-Request-Id",
)
# Without user information, which may be an e-mail address.
_LOGGED_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]{0,30}://[A-Za-z0-9.:\[\]-]{1,253}|null")

_log = structlog.get_logger(__name__)


class CrossOriginMiddleware(CORSMiddleware):
    """Allows pages of some origins to call the gateway, and logs the preflights that it refuses.

    Args:
        app: the application.
        origins: the origins, or `*`.
    """

    def __init__(self, app: ASGIApp, *, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=("GET", "POST"),
            # Libraries in browsers add headers of their own, such as `baggage`, `sentry-trace` and
            # `apollographql-client-name`. The gateway ignores those that it does not know.
            allow_headers=("*",),
            expose_headers=_EXPOSED_HEADERS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        # Starlette takes 6 µs to find that a request does not have the header.
        if scope["type"] == "http" and "origin" in request_context_of(scope).headers:
            await super().__call__(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def preflight_response(self, request_headers: Headers) -> Response:
        """Return the answer to a preflight."""
        response = super().preflight_response(request_headers)
        if response.status_code != HTTPStatus.OK:
            origin = request_headers["origin"]
            _log.warning(
                "preflight refused",
                origin=origin if _LOGGED_ORIGIN.fullmatch(origin) else None,
                reason=bytes(response.body).decode(),
            )
        return response
