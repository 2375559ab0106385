"""One request and its answer: who asks, what every answer carries, what a fault becomes."""

import math
import random
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

import structlog
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contact_gateway.access.addresses import Network, client_address
from contact_gateway.access.api_keys import PREFIX as API_KEY_PREFIX
from contact_gateway.access.callers import Authenticate, Caller
from contact_gateway.access.guesses import Guesses
from contact_gateway.access.principals import Credential, CredentialScheme
from contact_gateway.access.rate_limits import Budget
from contact_gateway.contacts.origin import Face
from contact_gateway.contacts.source import SourceUnavailable
from contact_gateway.faces.http import (
    JsonResponse,
    TransportCode,
    TransportError,
    envelope,
    internal_error,
    no_such_route,
    service_unavailable,
)

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_SPACES: Final = " \t"
_BEARER: Final = re.compile(r"bearer +(\S+) *", re.IGNORECASE)
_PROBES: Final = ("/healthz", "/readyz")
# An answer is data, and no page: nothing of it may be run, framed, or told to other sites. The
# explorer has a policy of its own.
_SECURITY_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
)
_EXCHANGE: Final = "contact_gateway.exchange"

RawHeaders: TypeAlias = Sequence[tuple[bytes, bytes]]

_log = structlog.get_logger("contact_gateway.requests")


@dataclass(slots=True)
class Exchange:
    """One request and its answer: who asks, and what the log line will say of it.

    `headers` are the request's, by their names in lower case. `status` is the answer's, 0 before it
    has begun.
    """

    request_id: str
    caller: Caller
    headers: Mapping[str, str] = field(default_factory=dict)
    operation: str | None = None
    outcome: str | None = None
    status: int = 0
    face: Face | None = None


def exchange_of(scope: Scope) -> Exchange:
    """Return the exchange that a request belongs to."""
    exchange = scope[_EXCHANGE]
    if not isinstance(exchange, Exchange):
        raise TypeError("the Exchanges middleware is missing")
    return exchange


@dataclass(frozen=True, slots=True)
class Admission:
    """How callers are told apart: by whom, and within which limits."""

    authenticate: Authenticate
    budget: Budget
    guesses: Guesses | None = None
    trusted_proxies: Sequence[Network] = ()

    def caller(
        self,
        credential: Credential | None,
        peer: tuple[str, int] | None,
        headers: Mapping[str, str],
    ) -> Caller:
        """Return the caller of a request, given the other end of its connection."""
        address = client_address(
            None if peer is None else peer[0],
            headers.get("x-forwarded-for", ""),
            self.trusted_proxies,
        )
        return Caller(credential, self.authenticate, self.budget, self.guesses, address)


class Observer(Protocol):
    """Is told of every request once it is answered."""

    def answered(self, exchange: Exchange, seconds: float, /) -> None:
        """Take note of a request."""
        ...


class Exchanges:
    """The outermost middleware: it gives each request its id, its caller and its log line.

    It also puts the headers that every answer has.
    """

    def __init__(
        self, app: ASGIApp, admission: Admission, observer: Observer | None = None
    ) -> None:
        self._app: Final = app
        self._admission: Final = admission
        self._observer: Final = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = _headers_of(scope["headers"])
        credential = _credential(headers)
        caller = self._admission.caller(credential, scope.get("client"), headers)
        exchange = Exchange(_request_id(headers, credential), caller, headers)
        scope[_EXCHANGE] = exchange
        started = time.perf_counter()

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                headers = [*message["headers"], *_headers_beside(message["headers"], exchange)]
                if scope["path"] not in _PROBES:
                    headers += await _rate_limit_headers(exchange.caller)
                message = {**message, "headers": headers}
            await send(message)

        bound = structlog.contextvars.bind_contextvars(request_id=exchange.request_id)
        try:
            await self._app(scope, receive, send_with_headers)
            await caller.conclude()
        finally:
            seconds = time.perf_counter() - started
            if self._observer is not None:
                self._observer.answered(exchange, seconds)
            _log.info(
                "request",
                method=scope["method"],
                operation=exchange.operation,
                outcome=exchange.outcome,
                status=exchange.status,
                duration_ms=round(seconds * 1000, 2),
            )
            structlog.contextvars.reset_contextvars(**bound)


class ExactPaths:
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


class Faults:
    """What a route raises becomes an answer, once and for all."""

    def __init__(self, app: ASGIApp) -> None:
        self._app: Final = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = exchange_of(scope)
        try:
            _require_host(scope, exchange.headers)
            await self._app(scope, receive, send)
        except ClientDisconnect:
            exchange.outcome = "DISCONNECTED"
        except Exception as error:
            if exchange.status:
                # The answer cannot be taken back: the server logs the fault and breaks off.
                raise
            await error_response(failure_of(error), exchange)(scope, receive, send)


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


def failure_of(error: BaseException) -> TransportError:
    """Return what a caller is told of an exception. A fault is logged here, once."""
    if isinstance(error, TransportError):
        return error
    if isinstance(error, SourceUnavailable):
        _log.warning("source unavailable", cause=error.reason)
        return service_unavailable(error)
    _log.error("fault", exc_info=error)
    return internal_error()


def error_response(error: TransportError, exchange: Exchange) -> Response:
    """Render a transport error as the envelope."""
    exchange.outcome = error.code
    return JsonResponse(
        envelope(error.code, error.message, exchange.request_id),
        status_code=error.status,
        headers=dict(error.headers),
    )


def _headers_of(lines: RawHeaders) -> Mapping[str, str]:
    """Return the headers; lines of one name are joined, as RFC 9110, section 5.3, has it.

    So two different keys in one request make one that is not valid, and neither wins. White space
    around a value is no part of it (RFC 9112, section 5.1); the server has left some behind it.
    """
    headers: dict[str, str] = {}
    repeated: dict[str, list[str]] = {}
    for raw_name, raw_value in lines:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1").strip(_SPACES)
        if name in headers:
            repeated.setdefault(name, [headers[name]]).append(value)
        else:
            headers[name] = value
    for name, values in repeated.items():
        headers[name] = ", ".join(values)
    return headers


def _request_id(headers: Mapping[str, str], credential: Credential | None) -> str:
    given = headers.get("x-request-id", "")
    well_formed = (
        _REQUEST_ID.fullmatch(given)
        and API_KEY_PREFIX not in given
        and (credential is None or credential.secret not in given)
    )
    return given if well_formed else f"{random.getrandbits(128):032x}"


def _credential(headers: Mapping[str, str]) -> Credential | None:
    key = headers.get("x-api-key")
    if key:
        return Credential(key)
    bearer = _BEARER.fullmatch(headers.get("authorization", ""))
    return None if bearer is None else Credential(bearer[1], CredentialScheme.BEARER)


def _headers_beside(given: RawHeaders, exchange: Exchange) -> Iterator[tuple[bytes, bytes]]:
    """Yield the headers of every answer that an answer has not given itself."""
    names = {name for name, _ in given}
    yield b"x-request-id", exchange.request_id.encode("ascii")
    for header in _SECURITY_HEADERS:
        if header[0] not in names:
            yield header
    if b"cache-control" not in names:
        yield b"cache-control", b"no-cache" if b"etag" in names else b"no-store"


async def _rate_limit_headers(caller: Caller) -> RawHeaders:
    try:
        window = await caller.window()
    except Exception as error:  # noqa: BLE001 - the answer stands without these headers
        failure_of(error)
        return ()
    if window is None:
        return ()
    return (
        (b"x-ratelimit-limit", b"%d" % window.limit),
        (b"x-ratelimit-remaining", b"%d" % window.remaining),
        (b"x-ratelimit-reset", b"%d" % math.ceil(window.resets_at)),
    )
