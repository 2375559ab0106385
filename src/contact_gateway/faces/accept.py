"""The media types that a client prefers: the header `Accept`.

Source: RFC 9110, sections 12.4.2 and 12.5.1.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple

CACHED_HEADERS: Final = 64
"""How many headers are cached with their results: a client sends the same one each time."""

_QUALITY: Final = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")


class Preference(NamedTuple):
    """How much a client prefers a media type. Greater is more."""

    quality: float
    is_named: bool
    earliness: int


@lru_cache(maxsize=CACHED_HEADERS)
def accepts(accept: str, media_type: str) -> bool:
    """Return whether an `Accept` header accepts a media type. Without it, any is accepted."""
    return not accept.strip() or preference(media_type, media_ranges(accept)).quality > 0


def media_ranges(accept: str) -> Mapping[str, Preference]:
    """Parse the header. If it repeats a media range, the first counts."""
    ranges: dict[str, Preference] = {}
    for position, member in enumerate(accept.split(",")):
        name, *parameters = (part.strip().lower() for part in member.split(";"))
        quality = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                quality = float(value) if _QUALITY.fullmatch(value) else 0.0
                break
        ranges.setdefault(name, Preference(quality, is_named="*" not in name, earliness=-position))
    return ranges


def preference(media_type: str, ranges: Mapping[str, Preference]) -> Preference:
    """Return the preference for a media type, by its most specific range."""
    kind = media_type.partition("/")[0]
    found = (ranges.get(name) for name in (media_type, f"{kind}/*", "*/*"))
    return next(
        (preference for preference in found if preference is not None),
        Preference(0.0, is_named=False, earliness=0),
    )
