"""The HTTP statuses and media types of GraphQL answers, in one table.

Source: the GraphQL-over-HTTP specification, working draft of 2025 (section 6.4, Response), which
the public audit `graphql-http` 1.x checks: 400 for a document that does not parse, validate or
coerce. The draft of 2026 moves validation and coercion to 422, and data beside errors to 294.
"""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

GRAPHQL_RESPONSE: Final = "application/graphql-response+json"
JSON: Final = "application/json"


class Result(Enum):
    """What became of a well-formed GraphQL request."""

    REQUEST_ERROR = auto()  # the document did not parse, validate or coerce: nothing was executed
    EXECUTED = auto()  # it was executed, with field errors or without


_STATUSES: Final[Mapping[tuple[Result, str], int]] = {
    (Result.REQUEST_ERROR, GRAPHQL_RESPONSE): 400,
    # Section 6.4.1 recommends 200 here; the audit takes 400 as well, and old clients, which send
    # `Accept: application/json` for want of knowing better, notice it.
    (Result.REQUEST_ERROR, JSON): 400,
    (Result.EXECUTED, GRAPHQL_RESPONSE): 200,
    (Result.EXECUTED, JSON): 200,
}


def status_of(result: Result, media_type: str) -> int:
    """Return the status of an answer."""
    return _STATUSES[result, media_type]


def negotiate(accept: str) -> str | None:
    """Choose the media type of an answer by the `Accept` header; None where none will do.

    An absent header gets `application/json`, as the specification has it for clients older than
    2025. Of ranges of equal quality the more specific, then the newer media type wins.
    """
    if not accept.strip():
        return JSON
    best: tuple[float, int, int] | None = None
    chosen: str | None = None
    for position, member in enumerate(accept.split(",")):
        media_range, *parameters = (part.strip().lower() for part in member.split(";"))
        media_type = _RANGES.get(media_range)
        quality = _quality(parameters)
        if media_type is None or quality <= 0:
            continue
        rank = (quality, media_range in {GRAPHQL_RESPONSE, JSON}, -position)
        if best is None or rank > best:
            best, chosen = rank, media_type
    return chosen


_RANGES: Final[Mapping[str, str]] = {
    GRAPHQL_RESPONSE: GRAPHQL_RESPONSE,
    JSON: JSON,
    "application/*": JSON,
    "*/*": JSON,
}


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
