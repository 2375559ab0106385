"""Calls to upstream and their responses, apart from how they are sent."""

import math
import re
import time
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from functools import lru_cache
from http import HTTPStatus
from typing import Final, NamedTuple, Self

from contact_gateway.access.principals import Credential
from contact_gateway.contacts.source import SourceUnavailable

MAX_RESPONSE_BYTES: Final = 4 * 1024 * 1024
MAX_RETRY_AFTER_SECONDS: Final = 86_400

_DELAY_SECONDS: Final = re.compile(r"[0-9]+(\.[0-9]+)?")
# Visible ASCII. An id with an @ may contain an e-mail address, which is not logged.
_REQUEST_ID: Final = re.compile("[!-?A-~]{1,200}")
_SUCCESS: Final = range(HTTPStatus.OK, HTTPStatus.MULTIPLE_CHOICES)


class Delivery(Enum):
    """What a request without a usable response may have done."""

    NEVER_SENT = auto()
    """Nothing: no connection was made, so upstream has not seen the request."""

    REFUSED = auto()
    """Nothing: the response says so."""

    UNKNOWN = auto()
    """Upstream may have done what the request asks for, or may still do it."""


class UpstreamUnavailable(SourceUnavailable):
    """There is no usable response from upstream.

    Attributes:
        delivery: what the request may have done.
        status: the status of the response; None without a response.
        is_transient: whether an immediate retry may help.
    """

    def __init__(
        self,
        reason: str,
        delivery: Delivery,
        *,
        status: int | None = None,
        retry_after_seconds: int = 1,
        is_transient: bool = False,
    ) -> None:
        super().__init__(reason, retry_after_seconds)
        self.delivery = delivery
        self.status = status
        self.is_transient = is_transient

    @classmethod
    def because_of(cls, response: "Response", reason: str, delivery: Delivery) -> Self:
        """Return the exception for a response that is not usable."""
        request_id = response.request_id
        seconds = retry_after_seconds(response.headers) or 1
        error = cls(
            reason if request_id is None else f"{reason} (its request id is {request_id})",
            delivery,
            status=response.status,
            retry_after_seconds=seconds,
            is_transient=seconds == 1,
        )
        if request_id is not None:
            error.details = {"upstream_request_id": request_id}
        return error


class Response(NamedTuple):
    """A response.

    `body` is the parsed JSON, or None if it is incomplete, not JSON, or not to be parsed.
    `content` is the body as it arrived, or None if it is incomplete or too large.
    """

    status: int
    headers: Mapping[str, str]
    body: object
    content: bytes | None = None

    @property
    def is_success(self) -> bool:
        """Whether the status is a 2xx."""
        return self.status in _SUCCESS

    @property
    def error(self) -> Mapping[str, object] | None:
        """The `error` of HiEnergy's envelope; None if the body has another format."""
        error = self.body.get("error") if isinstance(self.body, Mapping) else None
        return error if isinstance(error, Mapping) else None

    @property
    def request_id(self) -> str | None:
        """The id by which HiEnergy finds the request in its logs, in the error or a header."""
        for envelope in (self.error, self.body):
            request_id = envelope.get("request_id") if isinstance(envelope, Mapping) else None
            if isinstance(request_id, str) and _REQUEST_ID.fullmatch(request_id):
                return request_id
        request_id = self.headers.get("X-Request-Id", "")
        return request_id if _REQUEST_ID.fullmatch(request_id) else None


class Call(NamedTuple):
    """A request to upstream.

    Attributes:
        method: the HTTP method.
        path: percent-encoded, relative to the base URL. It may have a query.
        credential: the caller's credential.
        query: the query parameters.
        body: the JSON body.
        timeout_seconds: how long the call may take with its retries; by default as a read.
        idempotency_key: the header `Idempotency-Key`, which HiEnergy may ignore.
        wants_body: whether the body of the response is read.
        is_passed_through: whether it is a read that the gateway does not know, and does not parse.
            Any caller may choose a slow or broken one, so it takes at most half of the connections,
            and its failures after it was sent do not count for the circuit breaker.
    """

    method: str
    path: str
    credential: Credential | None = None
    query: Mapping[str, str] | None = None
    body: object = None
    timeout_seconds: float | None = None
    idempotency_key: str | None = None
    wants_body: bool = True
    is_passed_through: bool = False

    def __repr__(self) -> str:
        """Show nothing of a contact."""
        return f"<Call {self.method}>"

    def headers(self) -> dict[str, str]:
        """Return new headers with the credential and the idempotency key.

        HiEnergy documents `Authorization: Bearer` for JSON Web Tokens only.
        """
        key = {} if self.idempotency_key is None else {"Idempotency-Key": self.idempotency_key}
        if self.credential is None:
            return key
        if self.credential.is_jwt:
            return {"Authorization": f"Bearer {self.credential.secret}", **key}
        return {"X-Api-Key": self.credential.secret, **key}


# Cached, because all responses of one second have the same.
@lru_cache(maxsize=4)
def seconds_of(date: str) -> float | None:
    """Parse a date of HTTP, in seconds since the epoch; return None if it is none."""
    try:
        moment = parsedate_to_datetime(date)
        # It means UTC if it has no zone, as in the form of `asctime`.
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def unexpected(response: Response) -> UpstreamUnavailable:
    """Return the exception for a response without a business outcome.

    408 and server errors may come from a proxy while upstream processes the request: Heroku's
    router answers 503 after 30 s, and HiEnergy goes on (Heroku's error H12). So only a 503 in
    HiEnergy's own envelope says that nothing was done.
    """
    status = response.status
    is_redirect = HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST
    is_own_503 = status == HTTPStatus.SERVICE_UNAVAILABLE and response.error is not None
    is_refused = is_redirect or is_own_503 or status == HTTPStatus.NOT_FOUND
    delivery = Delivery.REFUSED if is_refused else Delivery.UNKNOWN
    return UpstreamUnavailable.because_of(response, f"upstream responds with {status}", delivery)


def retry_after_seconds(headers: Mapping[str, str]) -> int | None:
    """Parse `Retry-After`, in seconds or as a date (RFC 9110, section 10.2.3); at most a day.

    A date is compared with that of the response, since our clock may differ from its sender's.
    """
    value = headers.get("Retry-After", "").strip()
    if _DELAY_SECONDS.fullmatch(value):
        return math.ceil(min(float(value), MAX_RETRY_AFTER_SECONDS))
    moment = seconds_of(value)
    if moment is None:
        return None
    now = seconds_of(headers.get("Date", "")) or time.time()
    return min(max(1, math.ceil(moment - now)), MAX_RETRY_AFTER_SECONDS)
