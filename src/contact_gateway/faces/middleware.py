"""The middleware that every request passes: its context, its headers, its errors."""

import math
import time
from collections.abc import Iterator, Mapping
from typing import Final, Protocol

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contact_gateway.contacts.source import ContactCaller
from contact_gateway.faces.http import (
    TransportCode,
    TransportError,
    error_response,
    failure_of,
    no_such_route,
)
from contact_gateway.faces.request_context import (
    CallerFactory,
    RawHeaders,
    RequestContext,
    request_context_of,
)

_PROBES: Final = ("/healthz", "/readyz")
# An answer is data, and no page: nothing of it may be run, framed, or told to other sites. The
# explorer has a policy of its own.
_SECURITY_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
)

_log = structlog.get_logger("contact_gateway.requests")


class Observer(Protocol):
    """Is told of every request once it is answered."""

    def answered(self, context: RequestContext, seconds: float, /) -> None:
        """Take note of a request."""
        ...


class RequestContextMiddleware:
    """The outermost middleware: it gives each request its id, its caller and its log line.

    It also puts the headers that every answer has.
    """

    def __init__(
        self, app: ASGIApp, callers: CallerFactory, observer: Observer | None = None
    ) -> None:
        self._app: Final = app
        self._callers: Final = callers
        self._observer: Final = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = self._callers.admit(scope)
        started = time.perf_counter()

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                context.status = message["status"]
                headers = [*message["headers"], *_headers_beside(message["headers"], context)]
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
            _log.info(
                "request",
                method=scope["method"],
                operation=context.operation,
                outcome=context.outcome,
                status=context.status,
                duration_ms=round(seconds * 1000, 2),
            )
            structlog.contextvars.reset_contextvars(**bound)


class ExactPathMiddleware:
    """Serves the paths without parameters at once; the router would try one after the other."""

    def __init__(self, app: ASGIApp, *, endpoints: Mapping[str, ASGIApp]) -> None:
        self._app: Final = app
        self._endpoints: Final = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        path: str = scope.get("path", "")
        if path.endswith("\n"):
            # The router's patterns end before a last line break, too.
            raise no_such_route()
        await self._endpoints.get(path, self._app)(scope, receive, send)


class ErrorMiddleware:
    """What a route raises becomes an answer, once and for all."""

    def __init__(self, app: ASGIApp) -> None:
        self._app: Final = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = request_context_of(scope)
        try:
            _require_host(scope, context.headers)
            await self._app(scope, receive, send)
        except ClientDisconnect:
            context.outcome = "DISCONNECTED"
        except Exception as error:
            if context.status:
                # The answer cannot be taken back: the server logs the fault and breaks off.
                raise
            await error_response(failure_of(error), context)(scope, receive, send)


def _require_host(scope: Scope, headers: Mapping[str, str]) -> None:
    """Refuse a request that names no host, or several (RFC 9112, section 3.2).

    Raises:
        TransportError: `BAD_REQUEST`.
    """
    host = headers.get("host")
    if (host is None and scope["http_version"] == "1.1") or (host is not None and ", " in host):
        raise TransportError(
            TransportCode.BAD_REQUEST, "A request has one `Host` header, and no more."
        )


def _headers_beside(given: RawHeaders, context: RequestContext) -> Iterator[tuple[bytes, bytes]]:
    """Yield the headers of every answer that an answer has not given itself."""
    names = {name for name, _ in given}
    yield b"x-request-id", context.request_id.encode("ascii")
    for header in _SECURITY_HEADERS:
        if header[0] not in names:
            yield header
    if b"cache-control" not in names:
        yield b"cache-control", b"no-cache" if b"etag" in names else b"no-store"


async def _rate_limit_headers(caller: ContactCaller) -> RawHeaders:
    try:
        quota = await caller.quota()
    except Exception as error:  # noqa: BLE001 - the answer stands without these headers
        failure_of(error)
        return ()
    if quota is None:
        return ()
    return (
        (b"x-ratelimit-limit", b"%d" % quota.limit),
        (b"x-ratelimit-remaining", b"%d" % quota.remaining),
        (b"x-ratelimit-reset", b"%d" % math.ceil(quota.resets_at)),
    )
