"""The ASGI application: one coroutine takes a request to its response."""

import math
import re
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Final, NamedTuple, Protocol

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Lifespan, Message, Receive, Scope, Send

from contact_gateway.access.quota import Quota
from contact_gateway.contacts.source import ContactCaller
from contact_gateway.faces.http import (
    Endpoint,
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
    current_request,
    request_context_of,
)

IS_ADMIN: Final = "contact_gateway.is_admin"
"""The key in the ASGI `state` of requests to the admin port."""

# RFC 9110, section 7.2: a registered name, or an address in brackets, and a port. Repeated headers
# arrive here joined by a comma and a blank, so they do not match.
_HOST: Final = re.compile(r"(?:[\w.~!$&'()*+,;=%-]*|\[[\w.:~%-]+\])(?::[0-9]*)?", re.ASCII)
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


class Observer(Protocol):
    """Receives each request after its response, for the log and for metrics."""

    def answered(self, context: RequestContext, seconds: float, /) -> None:
        """Record a request and its duration."""
        ...


class Routes(NamedTuple):
    """What the application serves.

    Attributes:
        public: for callers.
        admin: for the operator, if they have a port of their own.
    """

    public: Sequence[BaseRoute]
    admin: Sequence[Route] = ()


class Application(Starlette):
    """Gives each request its id and its caller, and its response the headers that all have.

    Args:
        routes: what it serves.
        callers: creates the callers of requests.
        observers: receive each request after its response.
        middleware: around the routes, but inside the observers.
        lifespan: opens and closes the application.
    """

    def __init__(
        self,
        routes: Routes,
        callers: CallerFactory,
        observers: Sequence[Observer] = (),
        middleware: Sequence[Middleware] = (),
        lifespan: Lifespan[Starlette] | None = None,
    ) -> None:
        super().__init__(routes=routes.public, lifespan=lifespan)
        self.router.redirect_slashes = False
        self._endpoints: Final = _by_path(routes.public)
        self._admin_endpoints: Final = _by_path(routes.admin)
        self._callers: Final = callers
        self._observers: Final = observers
        app: ASGIApp = self._respond
        for each in reversed(middleware):
            app = each.cls(app, *each.args, **each.kwargs)
        self._app: Final = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        scope["app"] = self
        if scope["type"] != "http":
            await self.router(scope, receive, send)
            return
        started = time.perf_counter()
        context = self._callers.request_context(scope)
        path: str = scope["path"]
        # Accept paths with the prefix too: not every proxy removes it.
        if context.root_path and f"{path}/".startswith(f"{context.root_path}/"):
            scope["path"] = path.removeprefix(context.root_path) or "/"

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                # Some libraries send an `HTTPStatus`.
                context.status = int(message["status"])
                headers = _with_default_headers(message["headers"], context)
                if scope["path"] not in _PROBES:
                    headers += await _rate_limit_headers(context.caller)
                message = {**message, "headers": headers}
            await send(message)

        token = current_request.set(context)
        try:
            await self._app(scope, receive, send_with_headers)
            await context.caller.conclude()
        finally:
            seconds = time.perf_counter() - started
            for observer in self._observers:
                observer.answered(context, seconds)
            current_request.reset(token)

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response of the endpoint at the request's path, or of the error."""
        context = request_context_of(scope)
        try:
            _require_one_host(scope, context.headers)
            endpoint = self._endpoint(scope)
            if endpoint is None:
                await self.router(scope, receive, send)
                return
            response = await endpoint.respond(Request(scope, receive), context)
        except ClientDisconnect:
            context.outcome = "DISCONNECTED"
            return
        except Exception as error:
            if context.status:
                # The response has started, so the server logs the error and closes the connection.
                raise
            response = error_response(transport_error_of(error), context)
        await response.send(send)

    def _endpoint(self, scope: Scope) -> Endpoint | None:
        """Return the endpoint of a path without parameters. The router serves other paths.

        The router would try route after route.
        """
        path: str = scope["path"]
        if IS_ADMIN in scope.get("state", ()):
            endpoint = self._admin_endpoints.get(path)
            if endpoint is None:
                paths = ", ".join(self._admin_endpoints)
                raise TransportError(
                    TransportCode.NOT_FOUND, f"Unknown path. The admin port serves {paths}."
                )
            return endpoint
        if path.endswith("\n"):
            # The router would accept it: `$` in its patterns matches before a trailing line break.
            raise no_such_route()
        return self._endpoints.get(path)


def _by_path(routes: Sequence[BaseRoute]) -> Mapping[str, Endpoint]:
    """Return the endpoints at paths without parameters."""
    return {
        route.path: route.endpoint
        for route in routes
        if isinstance(route, Route)
        and isinstance(route.endpoint, Endpoint)
        and not route.param_convertors
    }


def _require_one_host(scope: Scope, headers: Mapping[str, str]) -> None:
    """Refuse a request with no host, several ones or an invalid one (RFC 9112, section 3.2)."""
    host = headers.get("host")
    is_valid = scope["http_version"] != "1.1" if host is None else _is_host(host)
    if not is_valid:
        raise TransportError(
            TransportCode.BAD_REQUEST, "Send exactly one valid Host header in a request."
        )


@lru_cache(maxsize=16)
def _is_host(text: str) -> bool:
    return _HOST.fullmatch(text) is not None


def _with_default_headers(given: RawHeaders, context: RequestContext) -> list[tuple[bytes, bytes]]:
    """Return the headers of a response, with those that every response has."""
    names = set(map(itemgetter(0), given))
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
    return () if quota is None else _headers_of(quota)


def _headers_of(quota: Quota) -> RawHeaders:
    """Return the headers of a quota: upstream's, and the same as structured fields (RFC 9651).

    Source: https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/11/.
    """
    limit, policy = _constant_headers_of(quota.limit, quota.window_seconds)
    left = b'"default";r=%d' % min(quota.remaining, _MAX_INTEGER)
    seconds = math.ceil(quota.resets_at - time.time())
    # An unused quota has no window yet: it ends now.
    if seconds > 0:
        left += b";t=%d" % min(seconds, _MAX_INTEGER)
    return (
        limit,
        (b"x-ratelimit-remaining", b"%d" % quota.remaining),
        (b"x-ratelimit-reset", b"%d" % math.ceil(quota.resets_at)),
        policy,
        (b"ratelimit", left),
    )


@lru_cache(maxsize=16)
def _constant_headers_of(
    limit: int, window_seconds: int | None
) -> tuple[tuple[bytes, bytes], tuple[bytes, bytes]]:
    """Return the headers of a quota that do not change. Most callers have the same limit."""
    policy = b'"default";q=%d' % min(limit, _MAX_INTEGER)
    if window_seconds is not None:
        policy += b";w=%d" % window_seconds
    return (b"x-ratelimit-limit", b"%d" % limit), (b"ratelimit-policy", policy)
