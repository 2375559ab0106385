"""HTTP as the faces share it: endpoints, responses, transport errors and the error envelope."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final, NamedTuple, Self

import orjson
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from contact_gateway.contacts import policy
from contact_gateway.contacts.problems import DescribedCode
from contact_gateway.contacts.source import SearchTimedOut, SourceUnavailable
from contact_gateway.contacts.timestamps import timestamp
from contact_gateway.faces.request_context import (
    RawHeaders,
    RequestContext,
    current_request,
    request_context_of,
)

WITHOUT_BODY: Final = frozenset({204, 304})
"""The statuses of responses without a body, and so without its length (RFC 9110, section 8.6)."""

_log = structlog.get_logger(__name__)


class Response(NamedTuple):
    """A response with its whole body, and its headers as they are sent."""

    status: int
    body: bytes
    headers: RawHeaders

    @classmethod
    def of(
        cls,
        body: bytes,
        content_type: str | None = None,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> Self:
        """Return a response with these headers, and those of its body."""
        raw = [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in (headers or {}).items()
        ]
        if status not in WITHOUT_BODY:
            raw.append((b"content-length", b"%d" % len(body)))
        if content_type is not None:
            raw.append((b"content-type", content_type.encode("latin-1")))
        return cls(status, body, raw)

    async def send(self, send: Send) -> None:
        """Send the response by ASGI."""
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


class Endpoint(ABC):
    """What serves a path: a request in, a response out."""

    @abstractmethod
    async def respond(self, request: Request, context: RequestContext) -> Response:
        """Return the response to a request.

        Raises:
            TransportError: the request fails outside the rules.
        """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request as an ASGI application, for the router."""
        response = await self.respond(Request(scope, receive), request_context_of(scope))
        await response.send(send)


class TransportCode(DescribedCode):
    """Why a request failed outside the rules. Each code has its HTTP status."""

    status: int

    def __init__(self, value: str, status: int, meaning: str) -> None:
        super().__init__(value, meaning)
        self.status = status

    BAD_REQUEST = (
        "BAD_REQUEST",
        400,
        "The request is malformed: invalid JSON, or not exactly one valid `Host` header.",
    )
    FORBIDDEN = "FORBIDDEN", 403, "Web pages of this origin are not allowed."
    NOT_FOUND = "NOT_FOUND", 404, "The route does not exist."
    METHOD_NOT_ALLOWED = (
        "METHOD_NOT_ALLOWED",
        405,
        "The route does not support the method. `Allow` lists those it supports.",
    )
    NOT_ACCEPTABLE = "NOT_ACCEPTABLE", 406, "No supported media type is acceptable to the client."
    REQUEST_TIMEOUT = "REQUEST_TIMEOUT", 408, "The body did not arrive in time."
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE", 413, "The body is too large."
    UNSUPPORTED_MEDIA_TYPE = (
        "UNSUPPORTED_MEDIA_TYPE",
        415,
        "The body is not `application/json` in UTF-8.",
    )
    INTERNAL_ERROR = "INTERNAL_ERROR", 500, "The gateway failed. The error is logged."
    SERVICE_UNAVAILABLE = (
        "SERVICE_UNAVAILABLE",
        503,
        "The source of truth does not respond, or its queue is full. Retry as `Retry-After` says.",
    )
    SEARCH_TIMEOUT = (
        "SEARCH_TIMEOUT",
        503,
        "The search took too long and was stopped. Narrow it, or retry as `Retry-After` says.",
    )


@dataclass(eq=False)
class TransportError(Exception):
    """A request that fails outside the rules.

    `headers` are added to the response, and `details` to the body of the REST face.
    """

    code: TransportCode
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, object] = field(default_factory=dict)

    @property
    def retry_after_seconds(self) -> int | None:
        """The header `Retry-After`, for faces whose clients do not show headers."""
        seconds = self.headers.get("Retry-After")
        return None if seconds is None else int(seconds)

    def envelope(self, request_id: str) -> dict[str, object]:
        """Return the body of a REST error."""
        seconds = self.retry_after_seconds
        retry = {} if seconds is None else {"retry_after_seconds": seconds}
        return envelope(self.code, self.message, request_id, {**self.details, **retry})


def no_such_route(operations: Sequence[tuple[str, str]] = ()) -> TransportError:
    """Return the error for an unknown path. It lists `operations`: methods and paths, if any."""
    root = current_request.get().root_path
    listed = [f"{method} {root}{path}" for method, path in operations]
    return TransportError(
        TransportCode.NOT_FOUND,
        f"Unknown path. GET {root}/ lists all addresses.",
        details={"operations": listed} if listed else {},
    )


def method_not_allowed(allow: str, message: str | None = None) -> TransportError:
    """Return the error for a method that a path does not support.

    Args:
        allow: the supported methods, as the header `Allow` lists them.
        message: a more specific message.
    """
    return TransportError(
        TransportCode.METHOD_NOT_ALLOWED,
        message or f"Method not allowed. This path supports {allow}.",
        {"Allow": allow},
    )


def service_unavailable(cause: SourceUnavailable) -> TransportError:
    """Return the error for a source of truth that does not respond."""
    return TransportError(
        TransportCode.SERVICE_UNAVAILABLE,
        policy.UNAVAILABLE,
        {"Retry-After": str(cause.retry_after_seconds)},
        cause.details,
    )


def _search_timeout(cause: SearchTimedOut) -> TransportError:
    seconds = cause.timeout_seconds
    return TransportError(
        TransportCode.SEARCH_TIMEOUT,
        f"The search was stopped after {seconds:g} s. Narrow it, such as by an advertiser's id.",
        {"Retry-After": str(cause.retry_after_seconds)},
    )


def transport_error_of(error: BaseException) -> TransportError:
    """Return the error that the caller gets for an exception, without internals. Log faults."""
    if isinstance(error, TransportError):
        return error
    if isinstance(error, SearchTimedOut):
        _log.warning("search stopped", cause=error.reason)
        return _search_timeout(error)
    if isinstance(error, SourceUnavailable):
        _log.warning("source unavailable", cause=error.reason)
        return service_unavailable(error)
    if isinstance(error, HTTPException):
        # Of the router, or of the static files.
        is_method = error.status_code == HTTPStatus.METHOD_NOT_ALLOWED
        return method_not_allowed("GET, HEAD") if is_method else no_such_route()
    _log.error("fault", exc_info=error)
    return TransportError(
        TransportCode.INTERNAL_ERROR,
        "Internal error. It is logged; report the request id if it persists.",
    )


def json_response(
    content: object,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    content_type: str = "application/json",
) -> Response:
    """Return a JSON response."""
    return Response.of(json_body(content), content_type, status, headers)


def json_body(content: object) -> bytes:
    """Encode as compact JSON, without escaping other scripts.

    Lone surrogates, which UTF-8 cannot encode, become question marks.
    """
    try:
        return orjson.dumps(content)
    except TypeError:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", errors="replace")


def html_page(content: bytes, *policy: str) -> Response:
    """Return a page that may load what the directives of `policy` allow, and nothing else.

    Source: Content Security Policy Level 3.
    """
    directives = (
        "default-src 'none'",
        *policy,
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
    headers = {"Content-Security-Policy": "; ".join(directives)}
    return Response.of(content, "text/html; charset=utf-8", headers=headers)


def envelope(
    code: str,
    message: str,
    request_id: str,
    details: Mapping[str, object],
) -> dict[str, object]:
    """Return the body of every REST error."""
    return {
        "error": {
            "code": code,
            "message": message,
            "timestamp": timestamp(datetime.now(UTC)),
            "request_id": request_id,
            "details": dict(details),
        }
    }


def error_response(error: TransportError, context: RequestContext) -> Response:
    """Return a transport error in the envelope, and record its code as the outcome."""
    context.outcome = error.code
    return json_response(error.envelope(context.request_id), error.code.status, error.headers)
