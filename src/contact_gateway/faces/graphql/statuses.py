"""The media types and HTTP statuses of GraphQL answers, in one table.

Source: the GraphQL-over-HTTP specification, working draft of 2025 (sections 5.2 and 6.4), which
the public audit `graphql-http` 1.x checks: 400 for a document that does not parse, validate or
coerce. The draft of 2026 moves validation and coercion to 422, and data beside errors to 294.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final


class Result(Enum):
    """What became of a well-formed GraphQL request."""

    REQUEST_ERROR = auto()
    """The document did not parse, validate or coerce: nothing was executed."""

    EXECUTED = auto()
    """The document was executed, with field errors or without."""

    UNAVAILABLE = auto()
    """Nothing can be answered now: the source does not answer."""

    FAULT = auto()
    """A fault of the gateway itself, before anything was executed."""


@dataclass(frozen=True, slots=True)
class Representation:
    """How an answer is written: its media type, and the status of each kind of result."""

    media_type: str
    statuses: Mapping[Result, int]


_TOLD_BY_STATUS: Final = {
    Result.REQUEST_ERROR: 400,
    Result.EXECUTED: 200,
    # Also proxies and clients that try again by the status alone are to know.
    Result.UNAVAILABLE: 503,
    Result.FAULT: 500,
}
GRAPHQL_RESPONSE: Final = Representation("application/graphql-response+json", _TOLD_BY_STATUS)
# A client that asks for application/json by name may take any other status than 200 for a failure
# of the transport, and never show the errors (section 6.4.1).
JSON: Final = Representation("application/json", {**_TOLD_BY_STATUS, Result.REQUEST_ERROR: 200})
# A client that takes anything, such as curl, gets JSON, and is told by the status.
JSON_BY_DEFAULT: Final = Representation("application/json", _TOLD_BY_STATUS)

_HTML: Final = "text/html"
# RFC 9110, section 12.4.2.
_QUALITY: Final = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")


@dataclass(frozen=True, slots=True, order=True)
class _Rank:
    """How much a client wants a media type: the more, the higher."""

    quality: float
    is_named: bool
    earliness: int


def negotiate(accept: str) -> Representation | None:
    """Choose how to answer by the `Accept` header; None where nothing will do.

    The highest quality wins; of equal ones a media type wins over a range, then the first does.
    """
    if not accept.strip():
        return JSON_BY_DEFAULT
    rank, wanted = _most_wanted(_ranges(accept))
    if not rank.quality:
        return None
    return JSON_BY_DEFAULT if wanted is JSON and not rank.is_named else wanted


def prefers_html(accept: str) -> bool:
    """Tell whether a client asks for a page by name, and for no answer of ours more than for it."""
    ranges = _ranges(accept)
    html = _rank(_HTML, ranges)
    rank, _ = _most_wanted(ranges)
    return html.is_named and html.quality > 0 and html >= rank


def _most_wanted(ranges: Mapping[str, _Rank]) -> tuple[_Rank, Representation]:
    ranked = ((_rank(each.media_type, ranges), each) for each in (JSON, GRAPHQL_RESPONSE))
    return max(ranked, key=lambda pair: pair[0])


def _ranges(accept: str) -> Mapping[str, _Rank]:
    """Return the media ranges of the header, each as it first stands there."""
    ranges: dict[str, _Rank] = {}
    for position, member in enumerate(accept.split(",")):
        name, *parameters = (part.strip().lower() for part in member.split(";"))
        ranges.setdefault(
            name, _Rank(_quality(parameters), is_named="*" not in name, earliness=-position)
        )
    return ranges


def _rank(media_type: str, ranges: Mapping[str, _Rank]) -> _Rank:
    """Return how much a media type is wanted: the most specific range says so (section 12.5.1)."""
    kind = media_type.partition("/")[0]
    found = (ranges.get(name) for name in (media_type, f"{kind}/*", "*/*"))
    return next(
        (rank for rank in found if rank is not None), _Rank(0.0, is_named=False, earliness=0)
    )


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            return float(value) if _QUALITY.fullmatch(value) else 0.0
    return 1.0
