"""What the faces share of HTTP: transport errors, their envelope, and how JSON is written."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

import orjson
import structlog
from starlette.responses import Response

from contact_gateway.contacts.source import SourceUnavailable
from contact_gateway.faces.request_context import RequestContext

_log = structlog.get_logger(__name__)


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


@dataclass(eq=False)
class TransportError(Exception):
    """A request that never came to a rule, with the answer it gets."""

    code: TransportCode
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """The HTTP status of the answer."""
        return TRANSPORT_STATUSES[self.code]


def no_such_route() -> TransportError:
    """Return what a caller is told of an address where there is nothing."""
    return TransportError(TransportCode.NOT_FOUND, "There is nothing at this address.")


def method_not_allowed(
    allow: str, message: str = "The method is not allowed here."
) -> TransportError:
    """Return what a caller is told whose method a route does not take; `allow` names those."""
    return TransportError(TransportCode.METHOD_NOT_ALLOWED, message, {"Allow": allow})


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


class JsonResponse(Response):
    """A JSON answer. What UTF-8 cannot carry, a lone surrogate, becomes a question mark."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """Write JSON compactly, other scripts as they are."""
        try:
            return orjson.dumps(content)
        except TypeError:
            text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            return text.encode("utf-8", errors="replace")


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
    in_utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    return in_utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def failure_of(error: BaseException) -> TransportError:
    """Return what a caller is told of an exception. A fault is logged here, once."""
    if isinstance(error, TransportError):
        return error
    if isinstance(error, SourceUnavailable):
        _log.warning("source unavailable", cause=error.reason)
        return service_unavailable(error)
    _log.error("fault", exc_info=error)
    return internal_error()


def error_response(error: TransportError, context: RequestContext) -> Response:
    """Render a transport error as the envelope."""
    context.outcome = error.code
    return JsonResponse(
        envelope(error.code, error.message, context.request_id),
        status_code=error.status,
        headers=dict(error.headers),
    )
