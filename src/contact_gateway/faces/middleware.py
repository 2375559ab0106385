"""The middleware that every request passes: its context, its headers and its errors."""

import math
import time
from collections.abc import Mapping
from typing import Final, Protocol

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contact_gateway.access.quota import Quota
from contact_gateway.contacts.source import ContactCaller
from contact_gateway.faces.http import (
    TransportCode,
    TransportError,
    error_response,
    no_such_route,
    transport_error_of,
)
from contact_gateway.faces.request_context import (
    CallerFactory,
    RawHeaders,
    RequestContext,
    request_context_of,
)

_PROBES: Final = ("/healthz", "/readyz")
# Responses are data, not pages, so browsers must not run or frame them, nor send a referrer to
# other sites. Pages have their own policies.
_SECURITY_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
)
_DEFAULT_HEADERS: Final = (*_SECURITY_HEADERS, (b"cache-control", b"no-store"))
_DEFAULT_HEADERS_WITH_ETAG: Final = (*_SECURITY_HEADERS, (b"cache-control", b"no-cache"))
_DEFAULT_NAMES: Final = frozenset({b"etag", *(name for name, _ in _DEFAULT_HEADERS)})
# RFC 9651, section 3.3.1: an integer of a structured field has at most 15 digits.
_MAX_INTEGER: Final = 10**15 - 1

_log = structlog.get_logger("contact_gateway.requests")


class Observer(Protocol):
    """Receives each request after its response, for metrics."""

    def answered(self, context: RequestContext, seconds: float, /) -> None:
        """Record a request and its duration."""
        ...


class RequestContextMiddleware:
    """The outermost middleware: gives each request its id, its caller and its log line.

    It also adds the headers that every response has.
    """

    def __init__(
        self, app: ASGIApp, callers: CallerFactory, observer: Observer | None = None
    ) -> None:
        self._app: Final = app
        self._callers: Final = callers
        self._observer: Final = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = self._callers.request_context(scope)
        path: str = scope["path"]
        # Accept paths with the prefix too: not every proxy removes it.
        if context.root_path and f"{path}/".startswith(f"{context.root_path}/"):
            scope["path"] = path.removeprefix(context.root_path) or "/"
        started = time.perf_counter()

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                # Some libraries send an `HTTPStatus`.
                context.status = int(message["status"])
                headers = _with_default_headers(message["headers"], context)
                if scope["path"] not in _PROBES:
                    headers += await _rate_limit_headers(context.caller)
                message = {**message, "headers": headers}
            await send(message)

        bound = structlog.contextvars.bind_contextvars(request_id=context.request_id)
        try:
            await self._app(scope, receive, send_with_headers)
            await context.caller.conclude()
        finally:
            seconds = time.perf_counter() - started
            if self._observer is not None:
                self._observer.answered(context, seconds)
            client = context.client
            client_fields = (
                {}
                if client is None
                else {"client_name": client.name, "client_version": client.version}
            )
            _log.info(
                "request",
                method=scope["method"],
                operation=context.operation,
                outcome=context.outcome,
                status=context.status,
                duration_ms=round(seconds * 1000, 2),
                **client_fields,
            )
            structlog.contextvars.reset_contextvars(**bound)


class ExactPathMiddleware:
    """Looks up paths without parameters in a dict. The router would try route after route."""

    def __init__(self, app: ASGIApp, *, endpoints: Mapping[str, ASGIApp]) -> None:
        self._app: Final = app
        self._endpoints: Final = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        path: str = scope.get("path", "")
        if path.endswith("\n"):
            # The router would accept it: `$` in its patterns matches before a trailing line break.
            raise no_such_route()
        await self._endpoints.get(path, self._app)(scope, receive, send)


class ErrorMiddleware:
    """Turns exceptions into error responses."""

    def __init__(self, app: ASGIApp) -> None:
        self._app: Final = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = request_context_of(scope)
        try:
            host = context.headers.get("host")
            # RFC 9112, section 3.2. Repeated headers arrive here joined by commas.
            if (host is None and scope["http_version"] == "1.1") or (host and ", " in host):
                raise TransportError(
                    TransportCode.BAD_REQUEST, "Send exactly one Host header in a request."
                )
            await self._app(scope, receive, send)
        except ClientDisconnect:
            context.outcome = "DISCONNECTED"
        except Exception as error:
            if context.status:
                # The response has started, so the server logs the error and closes the connection.
                raise
            await error_response(transport_error_of(error), context)(scope, receive, send)


def _with_default_headers(given: RawHeaders, context: RequestContext) -> list[tuple[bytes, bytes]]:
    """Return the headers of a response, with those that every response has."""
    names = {name for name, _ in given}
    request_id = (b"x-request-id", context.request_id.encode("ascii"))
    if names.isdisjoint(_DEFAULT_NAMES):
        return [*given, request_id, *_DEFAULT_HEADERS]
    defaults = _DEFAULT_HEADERS_WITH_ETAG if b"etag" in names else _DEFAULT_HEADERS
    return [*given, request_id, *(each for each in defaults if each[0] not in names)]


async def _rate_limit_headers(caller: ContactCaller) -> RawHeaders:
    try:
        quota = await caller.quota()
    except Exception as error:  # noqa: BLE001 - the response is valid without these headers
        transport_error_of(error)
        return ()
    if quota is None:
        return ()
    return (
        (b"x-ratelimit-limit", b"%d" % quota.limit),
        (b"x-ratelimit-remaining", b"%d" % quota.remaining),
        (b"x-ratelimit-reset", b"%d" % math.ceil(quota.resets_at)),
        *_ietf_rate_limit_headers(quota),
    )


def _ietf_rate_limit_headers(quota: Quota) -> RawHeaders:
    """Return the same as structured fields (RFC 9651).

    Source: https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/11/.
    """
    policy = b'"default";q=%d' % min(quota.limit, _MAX_INTEGER)
    if quota.window_seconds is not None:
        policy += b";w=%d" % quota.window_seconds
    left = b'"default";r=%d' % min(quota.remaining, _MAX_INTEGER)
    seconds = math.ceil(quota.resets_at - time.time())
    # An unused quota has no window yet: it ends now.
    if seconds > 0:
        left += b";t=%d" % min(seconds, _MAX_INTEGER)
    return (b"ratelimit-policy", policy), (b"ratelimit", left)
