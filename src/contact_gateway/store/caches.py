"""What is kept at hand for a moment, since it is asked for again and again: keys and advertisers.

What is not there is looked up each time: a key works as soon as it is made, an advertiser is found
as soon as it is imported, and who guesses displaces nothing.
"""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Generic, TypeAlias, TypeVar

from cachetools import TLRUCache

from contact_gateway.access import api_keys
from contact_gateway.access.api_keys import KeyRecord
from contact_gateway.access.principals import Credential, KeyRefusal, Principal
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.store.batched_reads import BatchedReader

CACHE_SECONDS: Final = 5.0
"""How long after a key is revoked, or an advertiser changed, by whatever process, it may go on."""

_MAX_KEPT: Final = 4096

Key = TypeVar("Key")
Value = TypeVar("Value")
Clock: TypeAlias = Callable[[], float]


class ApiKeyCache:
    """Tells whom keys speak for; a good one is not looked up and proved anew each time."""

    def __init__(self, keys: BatchedReader[str, KeyRecord], clock: Clock = time.monotonic) -> None:
        self._keys: Final = keys
        # By a digest: the keys themselves are kept nowhere.
        self._kept: Final = _Kept[bytes, Principal](clock)

    async def authenticate(self, credential: Credential) -> Principal | KeyRefusal:
        """Return whom a key speaks for; a malformed one costs no look-up.

        Raises:
            SourceUnavailable: the database does not answer.
        """
        digest = credential.digest
        kept = self._kept.get(digest)
        if kept is not None:
            return kept
        presented = api_keys.parse(credential.secret)
        if presented is None:
            return KeyRefusal.MALFORMED
        read_at = self._kept.clock()
        record = await self._keys.get(presented.lookup)
        now = datetime.now(UTC)
        principal = api_keys.verify(presented, record, now)
        if record is not None and isinstance(principal, Principal):
            expires_at = record.expires_at
            lasts = CACHE_SECONDS if expires_at is None else (expires_at - now).total_seconds()
            self._kept.keep(digest, principal, read_at, lasts)
        return principal


class AdvertiserCache:
    """Reads advertisers by their ids, for showing them.

    Which record a new contact goes to is never told from here: that is read where it is written.
    """

    def __init__(
        self, advertisers: BatchedReader[int, Advertiser], clock: Clock = time.monotonic
    ) -> None:
        self._advertisers: Final = advertisers
        self._kept: Final = _Kept[int, Advertiser](clock)

    async def by_id(self, ids: Collection[int]) -> Mapping[int, Advertiser]:
        """Return those of the advertisers that there are.

        Raises:
            SourceUnavailable: the database does not answer.
        """
        kept = {an_id: self._kept.get(an_id) for an_id in ids}
        found = {an_id: record for an_id, record in kept.items() if record is not None}
        missing = kept.keys() - found.keys()
        if not missing:
            return found
        read_at = self._kept.clock()
        read = await self._advertisers.get_all(missing)
        for an_id, record in read.items():
            self._kept.keep(an_id, record, read_at, CACHE_SECONDS)
        return {**found, **read}


@dataclass(frozen=True, slots=True)
class _Entry(Generic[Value]):
    value: Value
    until: float


class _Kept(Generic[Key, Value]):
    """Values, for a few seconds from before they were read: they may change while they are."""

    def __init__(self, clock: Clock) -> None:
        self.clock: Final = clock
        self._entries: Final[TLRUCache[Key, _Entry[Value]]] = TLRUCache(
            _MAX_KEPT, lambda _key, entry, _now: entry.until, timer=clock
        )

    def get(self, key: Key) -> Value | None:
        """Return a value that is kept."""
        entry = self._entries.get(key)
        return None if entry is None else entry.value

    def keep(self, key: Key, value: Value, read_at: float, seconds: float) -> None:
        """Keep a value for some seconds, but not for longer than any is kept."""
        self._entries[key] = _Entry(value, read_at + min(seconds, CACHE_SECONDS))
