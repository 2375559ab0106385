"""The media types and HTTP statuses of GraphQL responses.

Source: the GraphQL-over-HTTP specification, working draft of 2025 (sections 5.2 and 6.4), which the
public audit `graphql-http` 1.x checks: 400 for a document that does not parse, validate or coerce.
The draft of 2026 moves validation and coercion to 422, and responses with data and errors to 294.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from typing import Final

from contact_gateway.faces.accept import CACHED_HEADERS, Preference, media_ranges, preference


class Result(Enum):
    """The kinds of results of a well-formed GraphQL request."""

    REQUEST_ERROR = auto()
    """The document did not parse, validate or coerce, so nothing was executed."""

    EXECUTED = auto()
    """The document was executed, with or without field errors."""

    UNAVAILABLE = auto()
    """Every field failed because the source of truth does not respond."""

    FAULT = auto()
    """The gateway failed before it executed anything."""


@dataclass(frozen=True, slots=True)
class Representation:
    """A media type, with the HTTP status of each kind of result in it."""

    media_type: str
    content_type: str
    statuses: Mapping[Result, int]


_STATUSES: Final = {
    Result.REQUEST_ERROR: 400,
    Result.EXECUTED: 200,
    # For proxies and clients that retry by the status alone.
    Result.UNAVAILABLE: 503,
    Result.FAULT: 500,
}
GRAPHQL_RESPONSE: Final = Representation(
    "application/graphql-response+json",
    "application/graphql-response+json; charset=utf-8",
    _STATUSES,
)
# A client that names application/json may treat any status but 200 as a transport failure, and
# ignore the errors in the body (section 6.4.1).
JSON: Final = Representation(
    "application/json", "application/json; charset=utf-8", {**_STATUSES, Result.REQUEST_ERROR: 200}
)
# A client that accepts anything, such as curl, gets JSON with the statuses of errors.
JSON_BY_DEFAULT: Final = Representation(JSON.media_type, JSON.content_type, _STATUSES)

_HTML: Final = "text/html"


# Each client sends the same header with every request.
@lru_cache(maxsize=CACHED_HEADERS)
def negotiate(accept: str) -> Representation | None:
    """Return the representation that an `Accept` header prefers, or None if it accepts none.

    The highest quality wins. Among equals, a media type wins over a range, then the first wins.
    """
    if not accept.strip():
        return JSON_BY_DEFAULT
    best, preferred = _preferred(media_ranges(accept))
    if not best.quality:
        return None
    return JSON_BY_DEFAULT if preferred is JSON and not best.is_named else preferred


def prefers_html(accept: str) -> bool:
    """Return whether an `Accept` header names HTML and prefers it to GraphQL's media types."""
    ranges = media_ranges(accept)
    html = preference(_HTML, ranges)
    best, _ = _preferred(ranges)
    return html.is_named and html.quality > 0 and html >= best


def _preferred(ranges: Mapping[str, Preference]) -> tuple[Preference, Representation]:
    candidates = ((preference(each.media_type, ranges), each) for each in (JSON, GRAPHQL_RESPONSE))
    return max(candidates, key=lambda candidate: candidate[0])
