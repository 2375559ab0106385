"""What each answer of upstream becomes: an outcome of the rules, or no business outcome at all.

The status decides. What upstream says beside it, in an envelope, in another JSON or not at all,
is carried on as far as it can be read.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, NoReturn, assert_never

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
    LONGEST_RETRY_SECONDS,
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
"""When to come back after a 429 that does not say so."""

_log = structlog.get_logger(__name__)
_MAX_TEXT_LENGTH: Final = 1000
_MAX_DEPTH: Final = 16
_MAX_PROBLEMS: Final = 100
_OUR_CODES: Final[frozenset[str]] = frozenset(ProblemCode)
_SUCCESSES: Final = range(HTTPStatus.OK, HTTPStatus.MULTIPLE_CHOICES)


def outcome_of(response: Response, *, dry_run: bool) -> CreateContactOutcome:
    """Return the outcome that a response to a creation means.

    Raises:
        UpstreamUnavailable: it means none: a fault, a redirect, or something unreadable.
    """
    if response.status not in _SUCCESSES:
        return refusal_of(response)
    resource = resource_of(response.body)
    if dry_run and is_stored(resource):
        _log.error("upstream carried out a dry run")
        raise UpstreamUnavailable("upstream has no dry run", Delivery.OVER)
    try:
        return Previewed(preview_of(resource)) if dry_run else Created(contact_of(resource))
    except UnreadableError as error:
        unreadable(response, error)


def refusal_of(response: Response) -> Refusal:
    """Return the refusal that a response means. The status decides, by the table of statuses.

    Raises:
        UpstreamUnavailable: the status is not that of a refusal.
    """
    code = CODES.get(response.status)
    if code is None:
        raise _unexpected(response)
    said = _Said.by(response)
    match code:
        case ErrorCode.UNAUTHORIZED:
            return Unauthorized(KeyRefusal.REFUSED, said.message, said.details)
        case ErrorCode.FORBIDDEN:
            return Forbidden(said.message or policy.FORBIDDEN, said.details)
        case ErrorCode.RATE_LIMITED:
            return RateLimited(_retry_after(response, said), said.message, said.details)
        case ErrorCode.INVALID_INPUT | ErrorCode.IDEMPOTENCY_KEY_REUSED:
            return InvalidInput(_problems(response.body, said), said.message, said.details)
        case ErrorCode.NOT_FOUND:
            return NotFound(said.message or policy.NO_HIENERGY_ADVERTISER, said.details)
        case ErrorCode.CONFLICT:
            message = said.message or policy.ADDRESS_IS_TAKEN
            return Conflict(_existing(said), message, said.details)
        case _:
            assert_never(code)


def read_refusal_of(response: Response) -> ReadRefusal:
    """Return the refusal that a response to a read means.

    Raises:
        UpstreamUnavailable: the status is not that of a read's refusal.
    """
    refusal = refusal_of(response)
    if isinstance(refusal, ReadRefusal):
        return refusal
    raise _unexpected(response)


def _unexpected(response: Response) -> UpstreamUnavailable:
    status = response.status
    return UpstreamUnavailable(f"upstream responds with {status}", delivery_of(status))


def unreadable(response: Response, error: UnreadableError) -> NoReturn:
    """Refuse a success whose body cannot be read.

    Raises:
        UpstreamUnavailable: always.
    """
    raise UpstreamUnavailable(
        f"upstream's response {response.status} cannot be read: {error}", Delivery.OVER
    ) from None


def quota_of(response: Response) -> Quota | None:
    """Return what upstream tells of the caller's budget; None where it tells none."""
    if _LIMIT not in response.headers:
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
class _Said:
    """What upstream says of a refusal: a sentence, and details of any shape."""

    message: str | None = None
    details: Details = field(default_factory=dict)

    @classmethod
    def by(cls, response: Response) -> "_Said":
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


def _existing(said: _Said) -> Contact | None:
    try:
        return contact_of(said.details.get("existing"))
    except UnreadableError:
        return None


def _problems(body: object, said: _Said) -> tuple[Problem, ...]:
    """Return the problems that upstream names, or one for the whole where it names none."""
    named = said.details.get("problems")
    found = [*_problems_of_envelope(named), *_problems_of_fields(body)][:_MAX_PROBLEMS]
    whole = Problem(
        ("contact",), ProblemCode.REFUSED, said.message or "HiEnergy refuses the input."
    )
    return tuple(found) or (whole,)


def _problems_of_envelope(named: object) -> Iterator[Problem]:
    for problem in named if isinstance(named, list) else ():
        if not isinstance(problem, Mapping):
            continue
        path, code = _text(problem.get("path")), problem.get("code")
        message = _text(problem.get("message"))
        if path and message:
            known = isinstance(code, str) and code in _OUR_CODES
            our_code = ProblemCode(str(code)) if known else ProblemCode.REFUSED
            yield Problem(tuple(path.split(".")), our_code, message)


def _problems_of_fields(body: object) -> Iterator[Problem]:
    """Read what Rails writes: `{"errors": {"email": ["is invalid"]}}`, or a list of sentences."""
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


def _retry_after(response: Response, said: _Said) -> int:
    told = retry_after_seconds(response.headers) or _number(said.details.get("retry_after_seconds"))
    if told is None:
        resets_at = _number(response.headers.get("X-RateLimit-Reset"))
        told = None if resets_at is None else resets_at - int(time.time())
    if told is None or told <= 0:
        return RETRY_AFTER_SECONDS
    return min(told, LONGEST_RETRY_SECONDS)


def _number(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    text = str(value)
    return int(text) if text.isascii() and text.isdecimal() and len(text) < _DIGITS else None


_DIGITS: Final = 16
_LIMIT: Final = "X-RateLimit-Limit"


def _text(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    return value.strip()[:_MAX_TEXT_LENGTH] or None


def _is_shallow(value: object, depth: int = 0) -> bool:
    """Tell whether a value can be written again without end of depth."""
    if depth > _MAX_DEPTH:
        return False
    match value:
        case Mapping():
            return all(_is_shallow(member, depth + 1) for member in value.values())
        case list():
            return all(_is_shallow(member, depth + 1) for member in value)
        case _:
            return True
