"""Turns upstream's responses into outcomes, by their status.

Messages and details are passed on as far as they can be read, in the error envelope or other JSON.
A response without a business outcome raises `UpstreamUnavailable`.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, Self, assert_never

import structlog

from contact_gateway.access.principals import KeyRefusal
from contact_gateway.access.quota import Quota
from contact_gateway.contacts import policy
from contact_gateway.contacts.contact import Contact
from contact_gateway.contacts.outcomes import (
    Conflict,
    CreateContactOutcome,
    Created,
    Details,
    ErrorCode,
    Forbidden,
    InvalidInput,
    NotFound,
    Previewed,
    RateLimited,
    ReadRefusal,
    Refusal,
    Unauthorized,
)
from contact_gateway.contacts.problems import Problem, ProblemCode
from contact_gateway.http_statuses import CODES
from contact_gateway.upstream.client import (
    MAX_RETRY_AFTER_SECONDS,
    Delivery,
    Response,
    UpstreamUnavailable,
    delivery_of,
    retry_after_seconds,
)
from contact_gateway.upstream.documents import (
    UnreadableError,
    contact_of,
    is_stored,
    preview_of,
    resource_of,
)

RETRY_AFTER_SECONDS: Final = 60
"""When to retry after a 429 without any such information."""

_log = structlog.get_logger(__name__)
_MAX_TEXT_LENGTH: Final = 1000
_MAX_DEPTH: Final = 16
_MAX_PROBLEMS: Final = 100
_MAX_DIGITS: Final = 15
_PROBLEM_CODES: Final[frozenset[str]] = frozenset(ProblemCode)
_SUCCESSES: Final = range(HTTPStatus.OK, HTTPStatus.MULTIPLE_CHOICES)


def outcome_of(response: Response, *, dry_run: bool) -> CreateContactOutcome:
    """Return the outcome that a response to a creation means.

    Raises:
        UpstreamUnavailable: it means none: a server error, a redirect, or an unreadable body.
    """
    if response.status not in _SUCCESSES:
        return refusal_of(response)
    resource = resource_of(response.body)
    if dry_run and is_stored(resource):
        _log.error("upstream ignored dry_run and created the contact")
        raise UpstreamUnavailable("upstream ignored dry_run", Delivery.FINISHED)
    try:
        return Previewed(preview_of(resource)) if dry_run else Created(contact_of(resource))
    except UnreadableError as error:
        raise unreadable(response, error) from None


def refusal_of(response: Response) -> Refusal:
    """Return the refusal that a response means.

    Raises:
        UpstreamUnavailable: no refusal has the response's status.
    """
    code = CODES.get(response.status)
    if code is None:
        raise _unexpected(response)
    error = _ErrorBody.of(response)
    match code:
        case ErrorCode.UNAUTHORIZED:
            return Unauthorized(KeyRefusal.REFUSED, error.message, error.details)
        case ErrorCode.FORBIDDEN:
            return Forbidden(error.message or policy.FORBIDDEN, error.details)
        case ErrorCode.RATE_LIMITED:
            return RateLimited(_retry_after(response, error), error.message, error.details)
        case ErrorCode.INVALID_INPUT | ErrorCode.IDEMPOTENCY_KEY_REUSED:
            return InvalidInput(_problems(response.body, error), error.message, error.details)
        case ErrorCode.NOT_FOUND:
            return NotFound(error.message or policy.NO_HIENERGY_ADVERTISER, error.details)
        case ErrorCode.CONFLICT:
            message = error.message or policy.ADDRESS_IS_TAKEN
            return Conflict(error.existing(), message, error.details)
        case ErrorCode.OUTCOME_UNKNOWN:
            raise _unexpected(response)
        case _:
            assert_never(code)


def read_refusal_of(response: Response) -> ReadRefusal:
    """Return the refusal that a response to a read means.

    Raises:
        UpstreamUnavailable: no refusal of a read has the response's status.
    """
    refusal = refusal_of(response)
    if isinstance(refusal, ReadRefusal):
        return refusal
    raise _unexpected(response)


def _unexpected(response: Response) -> UpstreamUnavailable:
    status = response.status
    return UpstreamUnavailable(f"upstream responds with {status}", delivery_of(status))


def unreadable(response: Response, error: UnreadableError) -> UpstreamUnavailable:
    """Return the exception for a success whose body cannot be read."""
    return UpstreamUnavailable(
        f"upstream's response {response.status} is unreadable: {error}", Delivery.FINISHED
    )


def quota_of(response: Response) -> Quota | None:
    """Return the caller's quota from the headers `X-RateLimit-*`, or None."""
    if "X-RateLimit-Limit" not in response.headers:
        return None
    numbers = [
        _number(response.headers.get(f"X-RateLimit-{name}"))
        for name in ("Limit", "Remaining", "Reset")
    ]
    limit, remaining, resets_at = numbers
    if limit is None or remaining is None or resets_at is None:
        return None
    refused = response.status == HTTPStatus.TOO_MANY_REQUESTS
    return Quota(limit, remaining, float(resets_at), exceeded=refused)


@dataclass(frozen=True, slots=True)
class _ErrorBody:
    """The message and the details in the body of a refusal."""

    message: str | None = None
    details: Details = field(default_factory=dict)

    @classmethod
    def of(cls, response: Response) -> Self:
        body = response.body
        if not isinstance(body, Mapping):
            return cls()
        error = body.get("error")
        envelope = error if isinstance(error, Mapping) else body
        message = _text(envelope.get("message")) or _text(error) or _text(envelope.get("detail"))
        details = envelope.get("details")
        if isinstance(details, Mapping) and _is_shallow(details):
            return cls(message, details)
        return cls(message)

    def existing(self) -> Contact | None:
        """Return the existing contact of a conflict, if it is readable."""
        try:
            return contact_of(self.details.get("existing"))
        except UnreadableError:
            return None


def _problems(body: object, error: _ErrorBody) -> tuple[Problem, ...]:
    """Return the problems in a body, or one for the whole contact if there are none."""
    problems = [*_problems_of_envelope(error.details.get("problems")), *_problems_of_rails(body)]
    message = error.message or "HiEnergy refuses the input."
    whole = Problem(("contact",), ProblemCode.REFUSED, message)
    return tuple(problems[:_MAX_PROBLEMS]) or (whole,)


def _problems_of_envelope(problems: object) -> Iterator[Problem]:
    for problem in problems if isinstance(problems, list) else ():
        if not isinstance(problem, Mapping):
            continue
        path, code = _text(problem.get("path")), problem.get("code")
        message = _text(problem.get("message"))
        if path and message:
            is_known = isinstance(code, str) and code in _PROBLEM_CODES
            known_code = ProblemCode(str(code)) if is_known else ProblemCode.REFUSED
            yield Problem(tuple(path.split(".")), known_code, message)


def _problems_of_rails(body: object) -> Iterator[Problem]:
    """Parse Rails' format: `{"errors": {"email": ["is invalid"]}}`, or a list of sentences."""
    errors = body.get("errors") if isinstance(body, Mapping) else None
    for sentence in errors if isinstance(errors, list) else ():
        text = _text(sentence)
        if text:
            yield Problem(("contact",), ProblemCode.REFUSED, text)
    for name, messages in errors.items() if isinstance(errors, Mapping) else ():
        for message in messages if isinstance(messages, list) else [messages]:
            text = _text(message)
            if text:
                yield Problem(("contact", str(name)), ProblemCode.REFUSED, text)


def _retry_after(response: Response, error: _ErrorBody) -> int:
    seconds = retry_after_seconds(response.headers)
    seconds = seconds or _number(error.details.get("retry_after_seconds"))
    if seconds is None:
        resets_at = _number(response.headers.get("X-RateLimit-Reset"))
        seconds = None if resets_at is None else resets_at - int(time.time())
    if seconds is None or seconds <= 0:
        return RETRY_AFTER_SECONDS
    return min(seconds, MAX_RETRY_AFTER_SECONDS)


def _number(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    text = str(value)
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS else None


def _text(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    return value.strip()[:_MAX_TEXT_LENGTH] or None


def _is_shallow(value: object, depth: int = 0) -> bool:
    """Return whether a value can be serialized without exceeding the recursion limit."""
    if depth > _MAX_DEPTH:
        return False
    match value:
        case Mapping():
            return all(_is_shallow(member, depth + 1) for member in value.values())
        case list():
            return all(_is_shallow(member, depth + 1) for member in value)
        case _:
            return True
