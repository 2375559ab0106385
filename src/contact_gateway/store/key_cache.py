"""API keys at hand: one that is used again and again is not looked up each time."""

import time
from dataclasses import dataclass
from typing import Final

from cachetools import TLRUCache

from contact_gateway.access.api_keys import KeyRecord
from contact_gateway.store.reader import GroupReader

REVOKED_WITHIN_SECONDS: Final = 5.0
"""How long after a key is revoked, by whatever process, it may still be taken."""

_MAX_KEPT: Final = 4096


@dataclass(frozen=True, slots=True)
class _Kept:
    key: KeyRecord
    until: float


def _until(_lookup: str, kept: _Kept, _now: float) -> float:
    return kept.until


class KeyCache:
    """Keeps the keys that there are, for a moment. What is no key is looked up each time.

    So a key can be used as soon as it is made, and who guesses displaces nobody's.
    """

    def __init__(self, keys: GroupReader[str, KeyRecord]) -> None:
        self._keys: Final = keys
        self._kept: Final[TLRUCache[str, _Kept]] = TLRUCache(_MAX_KEPT, _until)

    async def get(self, lookup: str) -> KeyRecord | None:
        """Return the key of a look-up, as it is or was a moment ago; None where there is none.

        Raises:
            SourceUnavailable: the database does not answer.
        """
        kept = self._kept.get(lookup)
        if kept is not None:
            return kept.key
        # Counted from before it is read: it may be revoked while it is.
        until = time.monotonic() + REVOKED_WITHIN_SECONDS
        found = await self._keys.get(lookup)
        if found is not None:
            self._kept[lookup] = _Kept(found, until)
        return found
