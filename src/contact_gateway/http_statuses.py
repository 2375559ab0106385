"""The HTTP status of each error code, in HiEnergy's REST API and so in the gateway's.

The REST face renders refusals by it, and upstream's responses are read by it. Source: the published
reference of `createContact`.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, assert_never

from contact_gateway.contacts.outcomes import BATCH_CODES, ErrorCode


def status_of(code: ErrorCode) -> HTTPStatus:
    """Return the status of an error code."""
    match code:
        case ErrorCode.UNAUTHORIZED:
            return HTTPStatus.UNAUTHORIZED
        case ErrorCode.FORBIDDEN:
            return HTTPStatus.FORBIDDEN
        case ErrorCode.RATE_LIMITED:
            return HTTPStatus.TOO_MANY_REQUESTS
        case ErrorCode.INVALID_INPUT | ErrorCode.IDEMPOTENCY_KEY_REUSED:
            return HTTPStatus.UNPROCESSABLE_ENTITY
        case ErrorCode.NOT_FOUND:
            return HTTPStatus.NOT_FOUND
        case ErrorCode.CONFLICT:
            return HTTPStatus.CONFLICT
        case ErrorCode.OUTCOME_UNKNOWN:
            return HTTPStatus.GATEWAY_TIMEOUT
        case ErrorCode.SERVICE_UNAVAILABLE:
            return HTTPStatus.SERVICE_UNAVAILABLE
        case ErrorCode.NOT_TRIED:
            return HTTPStatus.FAILED_DEPENDENCY
        case _:
            assert_never(code)


CODES: Final[Mapping[int, ErrorCode]] = {
    status_of(code): code for code in reversed(ErrorCode) if code not in BATCH_CODES
}
"""The refusal of each status. 422 is `INVALID_INPUT`, the first of its two codes."""
