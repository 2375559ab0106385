"""Five-second caches of API keys and advertisers.

Misses are not cached: a new key works at once, an imported advertiser is found at once, and guessed
keys evict nothing.
"""

import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, Generic, NamedTuple, TypeAlias, TypeVar

from contact_gateway.access import api_keys
from contact_gateway.access.api_keys import KeyRecord
from contact_gateway.access.bounded_dict import BoundedDict
from contact_gateway.access.principals import ApiKeyOwner, Credential, KeyRefusal
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.store.batched_reads import BatchedReader

CACHE_SECONDS: Final = 5.0
"""How long a revoked key may still read, and a changed advertiser may be shown as it was."""

_MAX_ENTRIES: Final = 4096

Value = TypeVar("Value")
Clock: TypeAlias = Callable[[], float]
UtcClock: TypeAlias = Callable[[], datetime]


class _Entry(NamedTuple, Generic[Value]):
    value: Value
    expires_at: float


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


class ApiKeyCache:
    """Authenticates API keys, and caches those that are valid.

    `on_read` receives each key that was read and accepted. A key in use is read at least every five
    seconds, and on each day in UTC. So its use is recorded without work for a hit.
    """

    def __init__(
        self,
        keys: BatchedReader[str, KeyRecord],
        clock: Clock = time.monotonic,
        now: UtcClock = utc_now,
        on_read: Callable[[KeyRecord, ApiKeyOwner, datetime], None] = lambda *_: None,
    ) -> None:
        self._keys: Final = keys
        self._clock: Final = clock
        self._now: Final = now
        self._on_read: Final = on_read
        # By digest, so that no key is held in memory.
        self._owners: Final = BoundedDict[bytes, _Entry[ApiKeyOwner]](_MAX_ENTRIES)

    async def authenticate(self, credential: Credential) -> ApiKeyOwner | KeyRefusal:
        """Return the owner of a key; a malformed one costs no lookup.

        Raises:
            SourceUnavailable: the database does not respond.
        """
        digest = credential.digest
        cached = self._owners.get(digest)
        if cached is not None and self._clock() < cached.expires_at:
            return cached.value
        presented = api_keys.parse(credential.secret)
        if presented is None:
            return KeyRefusal.MALFORMED
        read_at = self._clock()
        record = await self._keys.get(presented.lookup)
        now = self._now()
        owner = api_keys.verify(presented, record, now)
        if record is not None and isinstance(owner, ApiKeyOwner):
            ends_at = api_keys.end_of(record, owner.secret_hash)
            stale_at = _next_day(now) if ends_at is None else min(ends_at, _next_day(now))
            seconds = min((stale_at - now).total_seconds(), CACHE_SECONDS)
            self._owners[digest] = _Entry(owner, read_at + seconds)
            self._on_read(record, owner, now)
        return owner


def _next_day(now: datetime) -> datetime:
    return now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


class AdvertiserCache:
    """Reads advertisers by id, for showing them.

    Which record owns a new contact is never read from here, but in the transaction that writes it.
    """

    def __init__(
        self, advertisers: BatchedReader[int, Advertiser], clock: Clock = time.monotonic
    ) -> None:
        self._reader: Final = advertisers
        self._clock: Final = clock
        self._advertisers: Final = BoundedDict[int, _Entry[Advertiser]](_MAX_ENTRIES)

    async def by_id(self, ids: Collection[int]) -> Mapping[int, Advertiser]:
        """Return the advertisers that exist, by id.

        Raises:
            SourceUnavailable: the database does not respond.
        """
        now = self._clock()
        cached = {an_id: self._advertisers.get(an_id) for an_id in ids}
        found = {
            an_id: entry.value
            for an_id, entry in cached.items()
            if entry is not None and now < entry.expires_at
        }
        missing = cached.keys() - found.keys()
        if not missing:
            return found
        # From before the read, which takes time.
        expires_at = now + CACHE_SECONDS
        read = await self._reader.get_all(missing)
        for an_id, record in read.items():
            self._advertisers[an_id] = _Entry(record, expires_at)
        return {**found, **read}
