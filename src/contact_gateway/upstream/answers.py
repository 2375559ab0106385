"""What each answer of upstream becomes: an outcome of the rules, or no business outcome at all.

The status decides. What upstream says beside it, in an envelope, in another JSON or not at all,
is carried on as far as it can be read.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Final, NoReturn, TypeVar

import structlog

from contact_gateway.access.principals import KeyRefusal
from contact_gateway.access.quota import Quota
from contact_gateway.contacts.contact import Contact
from contact_gateway.contacts.outcomes import (
    Conflict,
    CreateContactOutcome,
    Created,
    Details,
    Forbidden,
    InvalidInput,
    NotFound,
    Previewed,
    RateLimited,
    ReadRefusal,
    Unauthorized,
)
from contact_gateway.contacts.problems import Problem, ProblemCode
from contact_gateway.upstream.client import (
    LONGEST_RETRY_SECONDS,
    Answer,
    Delivery,
    UpstreamUnavailable,
    delivery_of,
    retry_after_seconds,
)
from contact_gateway.upstream.documents import (
    NotUnderstoodError,
    contact_of,
    is_stored,
    preview_of,
    resource_of,
)

_Worded = TypeVar("_Worded", NotFound, Conflict, Forbidden)

RETRY_AFTER_SECONDS: Final = 60
"""When to come back after a 429 that does not say so."""

_log = structlog.get_logger(__name__)
_MAX_TEXT_LENGTH: Final = 1000
_MAX_DEPTH: Final = 16
_MAX_PROBLEMS: Final = 100
_OUR_CODES: Final[frozenset[str]] = frozenset(ProblemCode)
_SUCCESSES: Final = range(HTTPStatus.OK, HTTPStatus.MULTIPLE_CHOICES)


def outcome_of(answer: Answer, *, dry_run: bool) -> CreateContactOutcome:
    """Return what an answer to a creation is in the words of the rules.

    Raises:
        UpstreamUnavailable: it is no business outcome: a fault, a redirect, or not understood.
    """
    if answer.status in _SUCCESSES:
        resource = resource_of(answer.body)
        try:
            if dry_run and is_stored(resource):
                _log.error("upstream has carried a dry run out")
                raise UpstreamUnavailable("upstream has no dry run", Delivery.OVER)
            return Previewed(preview_of(resource)) if dry_run else Created(contact_of(resource))
        except NotUnderstoodError as error:
            not_understood(answer, error)
    said = _Said.in_answer(answer)
    match answer.status:
        case HTTPStatus.NOT_FOUND:
            return _saying(NotFound(), said)
        case HTTPStatus.CONFLICT:
            return _saying(Conflict(_existing(said)), said)
        case _:
            return read_refusal_of(answer)


def read_refusal_of(answer: Answer) -> ReadRefusal:
    """Return the refusal that a read and a creation may both meet.

    Raises:
        UpstreamUnavailable: the answer is no such refusal.
    """
    said = _Said.in_answer(answer)
    match answer.status:
        case HTTPStatus.UNAUTHORIZED:
            return Unauthorized(KeyRefusal.REFUSED, said.message, said.details)
        case HTTPStatus.FORBIDDEN:
            return _saying(Forbidden(), said)
        case HTTPStatus.UNPROCESSABLE_ENTITY:
            return InvalidInput(_problems(answer.body, said), said.message, said.details)
        case HTTPStatus.TOO_MANY_REQUESTS:
            return RateLimited(_retry_after(answer, said), said.message, said.details)
        case status:
            raise UpstreamUnavailable(f"upstream answers {status}", delivery_of(status))


def not_understood(answer: Answer, error: NotUnderstoodError) -> NoReturn:
    """Refuse a success that holds nothing that can be read.

    Raises:
        UpstreamUnavailable: always.
    """
    raise UpstreamUnavailable(
        f"upstream's answer {answer.status} is not understood: {error}", Delivery.OVER
    ) from None


def window_of(answer: Answer) -> Quota | None:
    """Return what upstream tells of the caller's budget; None where it tells none."""
    if _LIMIT not in answer.headers:
        return None
    numbers = [
        _number(answer.headers.get(f"X-RateLimit-{name}"))
        for name in ("Limit", "Remaining", "Reset")
    ]
    limit, remaining, resets_at = numbers
    if limit is None or remaining is None or resets_at is None:
        return None
    refused = answer.status == HTTPStatus.TOO_MANY_REQUESTS
    return Quota(limit, remaining, float(resets_at), exceeded=refused)


@dataclass(frozen=True, slots=True)
class _Said:
    """What upstream says of a refusal: a sentence, and details of any shape."""

    message: str | None = None
    details: Details = field(default_factory=dict)

    @classmethod
    def in_answer(cls, answer: Answer) -> "_Said":
        body = answer.body
        if not isinstance(body, Mapping):
            return cls()
        error = body.get("error")
        envelope = error if isinstance(error, Mapping) else body
        message = _text(envelope.get("message")) or _text(error) or _text(envelope.get("detail"))
        details = envelope.get("details")
        if isinstance(details, Mapping) and _is_shallow(details):
            return cls(message, details)
        return cls(message)


def _saying(refusal: _Worded, said: _Said) -> _Worded:
    return replace(refusal, message=said.message or refusal.message, details=said.details)


def _existing(said: _Said) -> Contact | None:
    try:
        return contact_of(said.details.get("existing"))
    except NotUnderstoodError:
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


def _retry_after(answer: Answer, said: _Said) -> int:
    told = retry_after_seconds(answer.headers) or _number(said.details.get("retry_after_seconds"))
    if told is None:
        resets_at = _number(answer.headers.get("X-RateLimit-Reset"))
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
