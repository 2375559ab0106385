"""Turns upstream's responses into outcomes, by their status.

Messages, details and problems are passed on as far as they can be read. A response without a
business outcome raises `UpstreamUnavailable`.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from http import HTTPStatus
from typing import Final, NamedTuple, TypeAlias, assert_never

import structlog

from contact_gateway.access.principals import KeyRefusal
from contact_gateway.access.quota import Quota
from contact_gateway.contacts import policy
from contact_gateway.contacts.contact import ContactPreview, NewContact, completed
from contact_gateway.contacts.outcomes import (
    Conflict,
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
from contact_gateway.contacts.timestamps import timestamp
from contact_gateway.http_statuses import CODES
from contact_gateway.upstream.calls import (
    MAX_RETRY_AFTER_SECONDS,
    Response,
    retry_after_seconds,
    unexpected,
)
from contact_gateway.upstream.documents import (
    UnreadableError,
    contact_of,
    fields_of,
    owner_of,
    resource_of,
    says_dry_run,
)
from contact_gateway.upstream.error_bodies import (
    WHOLE_CONTACT,
    ErrorBody,
    ReportedProblem,
    error_body_of,
    is_error,
)

RETRY_AFTER_SECONDS: Final = 60
"""When to retry after a 429 without any such information."""

ABSENT_OPERATION_STATUSES: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED})
"""Of operations that HiEnergy may not have. It may have other methods at their paths."""

_log = structlog.get_logger(__name__)
_MAX_DIGITS: Final = 15
# Of the years 2001 and 5138. A smaller number is a duration, a larger one has milliseconds.
_MIN_EPOCH_SECONDS: Final = 10**9
_MAX_EPOCH_SECONDS: Final = 10**11
_PROBLEM_CODES: Final[Mapping[str | None, ProblemCode]] = {code.value: code for code in ProblemCode}
_CLIENT_ERRORS: Final = range(HTTPStatus.BAD_REQUEST, HTTPStatus.INTERNAL_SERVER_ERROR)
_INPUT_STATUSES: Final = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY})


class Unnamed(NamedTuple):
    """Upstream created the contact, and its response shows no id."""


CreationAnswer: TypeAlias = Created | Unnamed | Refusal
"""What a response to a creation means."""


def creation_answer_of(response: Response, submitted: NewContact) -> CreationAnswer:
    """Return what a response to a creation means. Any 2xx is a creation, whatever its body.

    Fields that a 2xx does not show are those of the submission. Times may be missing.

    Raises:
        UpstreamUnavailable: it means nothing: a server error, a redirect, or a missing operation.
    """
    if not response.is_success:
        return refusal_of(response)
    try:
        created = contact_of(resource_of(response.body), advertiser_id=submitted.advertiser_id)
    except UnreadableError:
        return Unnamed()
    return Created(completed(created, submitted))


def dated(created: Created, answered_at: datetime) -> Created:
    """Return a creation with the time of its answer, if the answer shows none.

    That is a time of our clock, and not to be compared with times that upstream shows.
    """
    contact = created.contact
    if contact.created_at is None:
        answered = timestamp(answered_at)
        contact = contact._replace(created_at=answered, updated_at=answered)
    elif contact.updated_at is None:
        contact = contact._replace(updated_at=contact.created_at)
    else:
        return created
    return created._replace(contact=contact)


def dry_run_answer_of(response: Response, submitted: NewContact) -> CreationAnswer | Previewed:
    """Return what a response to a forwarded dry run means.

    HiEnergy documents no dry run of this operation. Another operation answers one with an id and
    `attributes.dry_run`. So a 201, or a 2xx with an id, is a creation unless it says `dry_run`.

    Raises:
        UpstreamUnavailable: it means nothing.
    """
    if not response.is_success:
        return refusal_of(response)
    resource = resource_of(response.body)
    has_id = isinstance(resource, Mapping) and resource.get("id") is not None
    is_created = response.status == HTTPStatus.CREATED or has_id
    if is_created and not says_dry_run(response.body):
        return creation_answer_of(response, submitted)
    owner_id, owner_name = owner_of(fields_of(resource) or {})
    details = submitted._replace(advertiser_id=owner_id or submitted.advertiser_id)
    return Previewed(ContactPreview(details, owner_name))


def refusal_of(response: Response) -> Refusal:
    """Return the refusal that a response means.

    Raises:
        UpstreamUnavailable: no refusal has the response's status, or it is a 404 without an error
            in JSON, which is not about a record.
    """
    refusal = _refusal_of(response, policy.FORBIDDEN)
    log_refusal(response)
    return refusal


def log_refusal(response: Response) -> None:
    """Log that upstream refused a request, with upstream's request id."""
    _log.info(
        "upstream refused a request",
        upstream_status=response.status,
        upstream_request_id=response.request_id,
    )


def _refusal_of(response: Response, forbidden: str) -> Refusal:
    """Return the refusal that a response means. `forbidden` is the message of a 403 without one."""
    code = _code_of(response.status)
    if code is None or is_missing_operation(response):
        raise unexpected(response)
    error = error_body_of(response.body)
    details = error.details
    if response.request_id is not None:
        details = {**details, "upstream_request_id": response.request_id}
    match code:
        case ErrorCode.UNAUTHORIZED:
            return Unauthorized(KeyRefusal.REFUSED, error.sentence, details)
        case ErrorCode.FORBIDDEN:
            is_403 = response.status == HTTPStatus.FORBIDDEN
            default = forbidden if is_403 else _default_message(response)
            return Forbidden(error.sentence or default, details)
        case ErrorCode.RATE_LIMITED:
            seconds = _retry_after(response, error.details)
            return RateLimited(seconds, error.sentence, details)
        case ErrorCode.INVALID_INPUT | ErrorCode.IDEMPOTENCY_KEY_REUSED:
            return _invalid_input_or_conflict(response, error, details)
        case ErrorCode.NOT_FOUND:
            return NotFound(error.sentence or policy.NO_HIENERGY_ADVERTISER, details)
        case ErrorCode.CONFLICT:
            return _conflict(error, details)
        case ErrorCode.OUTCOME_UNKNOWN | ErrorCode.SERVICE_UNAVAILABLE | ErrorCode.NOT_TRIED:
            raise unexpected(response)
        case _:
            assert_never(code)


def read_refusal_of(response: Response) -> ReadRefusal:
    """Return the refusal that a response to a read means.

    Raises:
        UpstreamUnavailable: no refusal of a read has the response's status.
    """
    refusal = _refusal_of(response, _default_message(response))
    if not isinstance(refusal, ReadRefusal):
        raise unexpected(response)
    log_refusal(response)
    if not isinstance(refusal, InvalidInput):
        return refusal
    # The parameters of a read are not fields of a contact.
    problems = (
        problem._replace(path=problem.path[len(WHOLE_CONTACT) :] or ("query",))
        for problem in refusal.problems
    )
    return replace(refusal, problems=tuple(problems))


def is_missing_operation(response: Response) -> bool:
    """Return whether a response is a 404 of a server or a framework: it has no error in JSON."""
    return response.status == HTTPStatus.NOT_FOUND and not is_error(response.body)


def _code_of(status: int) -> ErrorCode | None:
    """Return the code of a refusal; None if the status has none.

    Every other client error is one of the input: a repeat of the same request would not help.
    """
    code = CODES.get(status)
    if code is not None or status == HTTPStatus.REQUEST_TIMEOUT:
        return code
    if status in {HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS}:
        return ErrorCode.FORBIDDEN
    return ErrorCode.INVALID_INPUT if status in _CLIENT_ERRORS else None


def _invalid_input_or_conflict(
    response: Response, error: ErrorBody, details: Details
) -> InvalidInput | Conflict:
    """Return a conflict if the only problem is that the address is taken."""
    message = error.message
    if message is None and response.status not in _INPUT_STATUSES:
        message = _default_message(response)
    whole = ReportedProblem(WHOLE_CONTACT, message or "HiEnergy refuses the input.", error.code)
    reported = error.problems or (whole,)
    if response.status in _INPUT_STATUSES and all(each.is_taken_address() for each in reported):
        return _conflict(error, details)
    problems = (
        Problem(each.path, _PROBLEM_CODES.get(each.code, ProblemCode.REFUSED), each.message)
        for each in reported
    )
    return InvalidInput(tuple(problems), message, details)


def _conflict(error: ErrorBody, details: Details) -> Conflict:
    try:
        existing = contact_of(error.details.get("existing"))
    except UnreadableError:
        existing = None
    return Conflict(existing, error.message or policy.ADDRESS_IS_TAKEN, details)


def _default_message(response: Response) -> str:
    return f"HiEnergy refuses the request with status {response.status}."


def quota_of(response: Response) -> Quota | None:
    """Return the caller's quota from the headers `X-RateLimit-*`, or None."""
    if "X-RateLimit-Limit" not in response.headers:
        return None
    limit, remaining = (
        number_of(response.headers.get(f"X-RateLimit-{name}")) for name in ("Limit", "Remaining")
    )
    resets_at = _resets_at(response)
    if limit is None or remaining is None or resets_at is None:
        return None
    refused = response.status == HTTPStatus.TOO_MANY_REQUESTS
    return Quota(limit, remaining, resets_at, excess=int(refused))


def _resets_at(response: Response) -> float | None:
    """Return when the quota is renewed, in seconds since the epoch.

    The unit of `X-RateLimit-Reset` is not documented: APIs send the seconds that are left, or a
    time since the epoch in seconds or milliseconds.
    """
    number = number_of(response.headers.get("X-RateLimit-Reset"))
    if number is None:
        return None
    if number < _MIN_EPOCH_SECONDS:
        return time.time() + number
    return number / 1000 if number > _MAX_EPOCH_SECONDS else float(number)


def _retry_after(response: Response, details: Details) -> int:
    seconds = retry_after_seconds(response.headers)
    seconds = seconds or number_of(details.get("retry_after_seconds"))
    if seconds is None:
        resets_at = _resets_at(response)
        seconds = None if resets_at is None else math.ceil(resets_at - time.time())
    if seconds is None or seconds <= 0:
        return RETRY_AFTER_SECONDS
    return min(seconds, MAX_RETRY_AFTER_SECONDS)


def number_of(value: object) -> int | None:
    """Return a whole number, which may be written in decimal digits; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    text = str(value)
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS else None
