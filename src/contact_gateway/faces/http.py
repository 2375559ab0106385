"""What the faces share of HTTP: request ids, credentials, bodies, JSON and the error envelope."""

import asyncio
import json
import math
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, NoReturn

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contact_gateway.access.callers import Authenticate, Caller
from contact_gateway.access.rate_limits import Budget, Window
from contact_gateway.contacts.source import SourceUnavailable

BODY_TIMEOUT_SECONDS: Final = 30.0

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_BEARER: Final = re.compile(r"bearer +(\S+) *", re.IGNORECASE)
_EXCHANGE: Final = "contact_gateway.exchange"

_log = structlog.get_logger("contact_gateway.http")


class TransportCode(StrEnum):
    """What went wrong before or beside the rules, for programs."""

    BAD_REQUEST = "BAD_REQUEST"
    NOT_FOUND = "NOT_FOUND"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    NOT_ACCEPTABLE = "NOT_ACCEPTABLE"
    REQUEST_TIMEOUT = "REQUEST_TIMEOUT"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    SERVICE_UNAVAILABLE = "SERVICE_UNAVAILABLE"


TRANSPORT_STATUSES: Final[Mapping[TransportCode, int]] = {
    TransportCode.BAD_REQUEST: 400,
    TransportCode.NOT_FOUND: 404,
    TransportCode.METHOD_NOT_ALLOWED: 405,
    TransportCode.NOT_ACCEPTABLE: 406,
    TransportCode.REQUEST_TIMEOUT: 408,
    TransportCode.PAYLOAD_TOO_LARGE: 413,
    TransportCode.UNSUPPORTED_MEDIA_TYPE: 415,
    TransportCode.INTERNAL_ERROR: 500,
    TransportCode.SERVICE_UNAVAILABLE: 503,
}


@dataclass(frozen=True)
class TransportError(Exception):
    """A request that never came to a rule, with the answer it gets."""

    code: TransportCode
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """The HTTP status of the answer."""
        return TRANSPORT_STATUSES[self.code]


def internal_error() -> TransportError:
    """Return what a caller is told of a fault: nothing of the inside."""
    return TransportError(
        TransportCode.INTERNAL_ERROR, "Something went wrong here. It has been noted."
    )


def service_unavailable(cause: SourceUnavailable) -> TransportError:
    """Return what a caller is told while the source does not answer."""
    return TransportError(
        TransportCode.SERVICE_UNAVAILABLE,
        "The service cannot answer now. Repeat the request, with the same idempotency key.",
        {"Retry-After": str(cause.retry_after_seconds)},
    )


@dataclass(slots=True)
class Exchange:
    """One request and its answer: who asks, and what the log line will say of it."""

    request_id: str
    caller: Caller
    operation: str | None = None
    outcome: str | None = None


def exchange_of(scope: Scope) -> Exchange:
    """Return the exchange that a request belongs to."""
    exchange = scope[_EXCHANGE]
    if not isinstance(exchange, Exchange):
        raise TypeError("the Exchanges middleware is missing")
    return exchange


class Exchanges:
    """The outermost middleware: it gives each request its id, its caller and its log line.

    It also puts the headers that every answer has.
    """

    def __init__(self, app: ASGIApp, *, authenticate: Authenticate, budget: Budget) -> None:
        self._app: Final = app
        self._authenticate: Final = authenticate
        self._budget: Final = budget

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        caller = Caller(_credential(headers), self._authenticate, self._budget)
        exchange = Exchange(_request_id(headers), caller)
        scope[_EXCHANGE] = exchange
        started = time.perf_counter()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                await _add_headers(MutableHeaders(scope=message), exchange)
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=exchange.request_id):
            try:
                await self._app(scope, receive, send_with_headers)
            finally:
                _log.info(
                    "request",
                    method=scope["method"],
                    operation=exchange.operation,
                    outcome=exchange.outcome,
                    status=status,
                    duration_ms=round((time.perf_counter() - started) * 1000, 2),
                )


class Faults:
    """The innermost middleware: what a route raises becomes an answer, once and for all."""

    def __init__(self, app: ASGIApp) -> None:
        self._app: Final = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = exchange_of(scope)
        began = False

        async def noting_send(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            await self._app(scope, receive, noting_send)
        except ClientDisconnect:
            exchange.outcome = "DISCONNECTED"
        except Exception as error:
            failure = failure_of(error)
            if began:
                # The connection has to break: the answer cannot be taken back.
                raise
            await error_response(failure, exchange)(scope, receive, send)


def failure_of(error: BaseException) -> TransportError:
    """Return what a caller is told of an exception. A fault is logged here, once."""
    if isinstance(error, TransportError):
        return error
    if isinstance(error, SourceUnavailable):
        _log.warning("source unavailable", cause=type(error.__cause__).__name__)
        return service_unavailable(error)
    _log.error("fault", exc_info=error)
    return internal_error()


class JsonResponse(Response):
    """A JSON answer. What UTF-8 cannot carry, a lone surrogate, becomes a question mark."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """Write JSON compactly, other scripts as they are."""
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", errors="replace")


def error_response(error: TransportError, exchange: Exchange) -> Response:
    """Render a transport error as the envelope."""
    exchange.outcome = error.code
    return JsonResponse(
        envelope(error.code, error.message, exchange.request_id),
        status_code=error.status,
        headers=dict(error.headers),
    )


def envelope(
    code: str, message: str, request_id: str, details: Mapping[str, object] | None = None
) -> dict[str, object]:
    """Return the body that every REST error has."""
    return {
        "error": {
            "code": code,
            "message": message,
            "timestamp": timestamp(datetime.now(UTC)),
            "request_id": request_id,
            "details": dict(details or {}),
        }
    }


def timestamp(moment: datetime) -> str:
    """Write a time as RFC 3339 in UTC, to the millisecond: `2026-01-31T12:00:00.000Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def read_json(request: Request, max_bytes: int) -> object:
    """Read a request's JSON body.

    Raises:
        TransportError: the body is not JSON, not declared as JSON, or too large.
    """
    require_json_media_type(request.headers.get("content-type"))
    body = await _read_body(request, max_bytes)
    return parse_json(body)


def require_json_media_type(content_type: str | None) -> None:
    """Refuse a body that is not declared as JSON in UTF-8.

    Raises:
        TransportError: `UNSUPPORTED_MEDIA_TYPE`.
    """
    media_type, _, parameters = (content_type or "").partition(";")
    charset = re.search(r'charset\s*=\s*"?([^\s";]+)', parameters, re.IGNORECASE)
    in_utf8 = charset is None or charset[1].lower() in {"utf-8", "utf8", "us-ascii"}
    if media_type.strip().lower() != "application/json" or not in_utf8:
        raise TransportError(
            TransportCode.UNSUPPORTED_MEDIA_TYPE,
            "Send the body as application/json in UTF-8.",
            {"Accept": "application/json"},
        )


def parse_json(text: bytes | str) -> object:
    """Parse JSON strictly: no NaN, no infinities, no name twice in an object.

    Raises:
        TransportError: `BAD_REQUEST`.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        return json.loads(text, parse_constant=_refuse, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        raise TransportError(
            TransportCode.BAD_REQUEST, "The body is not valid JSON in UTF-8."
        ) from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    read = dict(pairs)
    if len(read) != len(pairs):
        raise ValueError("a name stands twice in an object")
    return read


async def _read_body(request: Request, max_bytes: int) -> bytes:
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise TransportError(
            TransportCode.UNSUPPORTED_MEDIA_TYPE, "Send the body without content encoding."
        )
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > max_bytes:
                    raise _too_large(max_bytes)
    except TimeoutError:
        raise TransportError(
            TransportCode.REQUEST_TIMEOUT,
            f"The body did not arrive within {BODY_TIMEOUT_SECONDS:.0f} seconds.",
            {"Connection": "close"},
        ) from None
    return bytes(body)


def _too_large(max_bytes: int) -> TransportError:
    return TransportError(
        TransportCode.PAYLOAD_TOO_LARGE, f"The body is larger than {max_bytes} bytes."
    )


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _credential(headers: Headers) -> str | None:
    key = headers.get("x-api-key")
    if key is not None and key.strip():
        return key.strip()
    bearer = _BEARER.fullmatch(headers.get("authorization", ""))
    return None if bearer is None else bearer[1]


async def _add_headers(headers: MutableHeaders, exchange: Exchange) -> None:
    headers["X-Request-Id"] = exchange.request_id
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("Cache-Control", "no-cache" if "ETag" in headers else "no-store")
    window = await _window(exchange.caller)
    if window is not None:
        headers["X-RateLimit-Limit"] = str(window.limit)
        headers["X-RateLimit-Remaining"] = str(window.remaining)
        headers["X-RateLimit-Reset"] = str(math.ceil(window.resets_at))


async def _window(caller: Caller) -> Window | None:
    try:
        return await caller.window()
    except SourceUnavailable:
        # The answer stands without these headers.
        return None
