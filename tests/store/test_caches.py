"""What is at hand: for five seconds at the most, and only what there is."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

import pytest
from sqlalchemy import Connection

from contact_gateway.access import api_keys as api_key
from contact_gateway.access.api_keys import KeyRecord, MintedKey, Rotation, mint
from contact_gateway.access.principals import ApiKeyOwner, Credential, KeyRefusal, Role
from contact_gateway.contacts.advertiser import HIENERGY_NETWORK, Advertiser
from contact_gateway.contacts.source import SourceUnavailable
from contact_gateway.store import advertisers, api_keys, caches
from contact_gateway.store.batched_reads import BatchedReader
from contact_gateway.store.caches import AdvertiserCache, ApiKeyCache
from contact_gateway.store.database import Database
from support.clock import ManualClock

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
TERN = Advertiser(id=7, name="Tern", network_name=HIENERGY_NETWORK, hienergy_id=7)
Key = TypeVar("Key")
Record = TypeVar("Record")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


class Reading(Generic[Key, Record]):
    """Reads records, and notes which; it takes some time by a clock."""

    def __init__(
        self,
        clock: ManualClock,
        read: Callable[[Connection, Collection[Key]], Mapping[Key, Record]],
    ) -> None:
        self._clock = clock
        self._read = read
        self.takes_seconds = 0.0
        self.asked: list[Key] = []

    def __call__(self, connection: Connection, keys: Collection[Key]) -> Mapping[Key, Record]:
        self.asked += keys
        found = self._read(connection, keys)
        self._clock.seconds += self.takes_seconds
        return found


@pytest.fixture
def reading(clock: ManualClock) -> Reading[str, KeyRecord]:
    return Reading(clock, api_keys.by_lookup)


@pytest.fixture
def keys(database: Database, reading: Reading[str, KeyRecord], clock: ManualClock) -> ApiKeyCache:
    return ApiKeyCache(BatchedReader(database, reading), clock, _at_noon)


def _at_noon() -> datetime:
    return NOON


async def _add(database: Database, minted: MintedKey, expires_at: datetime | None = None) -> int:
    return await database.write(
        lambda connection: api_keys.add(
            connection, minted, role=Role.ADMIN, label="ci", expires_at=expires_at
        )
    )


async def _made(database: Database, count: int) -> list[MintedKey]:
    minted = [mint() for _ in range(count)]
    for each in minted:
        await _add(database, each)
    return minted


async def _owner(keys: ApiKeyCache, key: MintedKey) -> ApiKeyOwner | KeyRefusal:
    return await keys.authenticate(Credential.of(key.text))


async def test_a_key_authenticates_its_owner_each_time(
    keys: ApiKeyCache, database: Database
) -> None:
    minted = mint()
    key_id = await _add(database, minted)

    for _ in range(2):
        owner = ApiKeyOwner(key_id, "ci", Role.ADMIN, minted.secret_hash)
        assert await _owner(keys, minted) == owner


async def test_a_cached_key_costs_no_lookup(
    keys: ApiKeyCache,
    database: Database,
    reading: Reading[str, KeyRecord],
    clock: ManualClock,
) -> None:
    (key,) = await _made(database, 1)

    first = await _owner(keys, key)
    clock.seconds += 4.9

    assert await _owner(keys, key) == first
    assert reading.asked == [key.lookup]


async def test_using_a_key_does_not_extend_its_caching(
    keys: ApiKeyCache,
    database: Database,
    reading: Reading[str, KeyRecord],
    clock: ManualClock,
) -> None:
    (key,) = await _made(database, 1)
    for _ in range(6):
        await _owner(keys, key)
        clock.seconds += 1

    assert reading.asked == [key.lookup, key.lookup]


@pytest.mark.parametrize(
    "reading_takes_seconds",
    [
        pytest.param(0, id="a quick reading"),
        pytest.param(3, id="revoked during the reading"),
        pytest.param(5, id="a reading as long as a key is kept"),
        pytest.param(7, id="a longer reading"),
    ],
)
async def test_a_revoked_key_is_refused_within_five_seconds(
    keys: ApiKeyCache,
    database: Database,
    reading: Reading[str, KeyRecord],
    clock: ManualClock,
    reading_takes_seconds: float,
) -> None:
    """Counted from before the reading: once it has read the key, the key may be revoked."""
    minted = mint()
    key_id = await _add(database, minted)
    revocable_from = clock.seconds
    reading.takes_seconds = reading_takes_seconds
    assert isinstance(await _owner(keys, minted), ApiKeyOwner)

    await database.write(lambda connection: api_keys.revoke(connection, key_id))
    clock.seconds = max(clock.seconds, revocable_from + 5)

    assert await _owner(keys, minted) is KeyRefusal.REVOKED


async def test_a_key_is_not_cached_beyond_its_expiry(
    keys: ApiKeyCache,
    database: Database,
    reading: Reading[str, KeyRecord],
    clock: ManualClock,
) -> None:
    minted = mint()
    await _add(database, minted, NOON + timedelta(seconds=3))
    assert isinstance(await _owner(keys, minted), ApiKeyOwner)

    clock.seconds += 3
    await _owner(keys, minted)

    assert reading.asked == [minted.lookup] * 2


async def test_a_key_is_not_cached_beyond_the_day(
    database: Database, reading: Reading[str, KeyRecord], clock: ManualClock
) -> None:
    """So it is read on each day on which it is used."""
    almost_midnight = NOON + timedelta(hours=11, minutes=59, seconds=58)
    keys = ApiKeyCache(BatchedReader(database, reading), clock, lambda: almost_midnight)
    (key,) = await _made(database, 1)
    await _owner(keys, key)
    clock.seconds += 1.5
    await _owner(keys, key)
    assert reading.asked == [key.lookup]

    clock.seconds += 0.5
    await _owner(keys, key)

    assert reading.asked == [key.lookup] * 2


async def _rotate(database: Database, key_id: int, overlap: timedelta) -> MintedKey:
    def replaced(connection: Connection) -> MintedKey:
        rotation = api_key.rotate(api_keys.by_id(connection, [key_id])[key_id], overlap, NOON)
        assert isinstance(rotation, Rotation)
        api_keys.replace_secret(connection, rotation.record)
        return rotation.minted

    return await database.write(replaced)


async def test_an_old_secret_is_not_cached_beyond_the_overlap(
    keys: ApiKeyCache,
    database: Database,
    reading: Reading[str, KeyRecord],
    clock: ManualClock,
) -> None:
    old = mint()
    key_id = await _add(database, old)
    new = await _rotate(database, key_id, timedelta(seconds=3))
    before, after = await _owner(keys, old), await _owner(keys, new)

    clock.seconds += 3
    for key in (old, new):
        await _owner(keys, key)

    assert isinstance(before, ApiKeyOwner)
    assert isinstance(after, ApiKeyOwner)
    assert before.key_id == after.key_id == key_id
    assert reading.asked == [old.lookup] * 3, "the new secret is cached, the old one is not"


async def test_a_secret_without_overlap_is_refused_within_five_seconds(
    keys: ApiKeyCache, database: Database, clock: ManualClock
) -> None:
    old = mint()
    key_id = await _add(database, old)
    assert isinstance(await _owner(keys, old), ApiKeyOwner)

    new = await _rotate(database, key_id, timedelta())
    clock.seconds += 5

    assert await _owner(keys, old) is KeyRefusal.ROTATED
    assert isinstance(await _owner(keys, new), ApiKeyOwner)


async def test_a_new_key_works_at_once(
    keys: ApiKeyCache, database: Database, reading: Reading[str, KeyRecord]
) -> None:
    minted = mint()
    for _ in range(2):
        assert await _owner(keys, minted) is KeyRefusal.UNKNOWN

    await _add(database, minted)

    assert isinstance(await _owner(keys, minted), ApiKeyOwner)
    assert reading.asked == [minted.lookup] * 3


async def test_another_secret_is_refused_while_the_right_key_is_cached(
    keys: ApiKeyCache, database: Database
) -> None:
    (key,) = await _made(database, 1)
    await _owner(keys, key)
    other = mint()
    forged = replace(other, text=_with_lookup(other, key.lookup))

    assert await _owner(keys, forged) in {KeyRefusal.UNKNOWN, KeyRefusal.MALFORMED}


def _with_lookup(key: MintedKey, lookup: str) -> str:
    return key.text.replace(key.lookup, lookup)


@pytest.fixture
def room_for_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caches, "_MAX_ENTRIES", 2)


@pytest.mark.usefixtures("room_for_two")
async def test_the_key_that_was_read_first_is_evicted(
    database: Database, reading: Reading[str, KeyRecord], clock: ManualClock
) -> None:
    keys = ApiKeyCache(BatchedReader(database, reading), clock, _at_noon)
    one, two, three = await _made(database, 3)
    for key in (one, two, three):
        await _owner(keys, key)
    reading.asked.clear()

    for key in (two, three, one):
        await _owner(keys, key)

    assert reading.asked == [one.lookup]


@pytest.mark.usefixtures("room_for_two")
async def test_guessed_keys_evict_nothing(
    database: Database, reading: Reading[str, KeyRecord], clock: ManualClock
) -> None:
    keys = ApiKeyCache(BatchedReader(database, reading), clock, _at_noon)
    known = await _made(database, 2)
    for key in known:
        await _owner(keys, key)
    for _ in range(5):
        await _owner(keys, mint())
    reading.asked.clear()

    for key in known:
        await _owner(keys, key)

    assert reading.asked == []


async def test_an_unreachable_store_is_unavailable_each_time(
    unreachable_database: Database, reading: Reading[str, KeyRecord]
) -> None:
    keys = ApiKeyCache(BatchedReader(unreachable_database, reading))

    for _ in range(2):
        with pytest.raises(SourceUnavailable):
            await _owner(keys, mint())


@pytest.fixture
def reading_advertisers(clock: ManualClock) -> Reading[int, Advertiser]:
    return Reading(clock, advertisers.by_id)


@pytest.fixture
def shown(
    database: Database, reading_advertisers: Reading[int, Advertiser], clock: ManualClock
) -> AdvertiserCache:
    return AdvertiserCache(BatchedReader(database, reading_advertisers), clock)


async def _import(database: Database, *records: Advertiser) -> None:
    await database.write(lambda connection: advertisers.upsert(connection, records))


async def test_advertisers_are_read_together_and_cached_ones_not_again(
    shown: AdvertiserCache, reading_advertisers: Reading[int, Advertiser]
) -> None:
    assert (await shown.by_id([1001])).keys() == {1001}
    assert (await shown.by_id([1001, 2001, 404])).keys() == {1001, 2001}
    assert (await shown.by_id([1001, 2001])).keys() == {1001, 2001}
    assert (await shown.by_id([])).keys() == set()
    assert reading_advertisers.asked[:1] == [1001]
    assert sorted(reading_advertisers.asked[1:]) == [404, 2001]


async def test_an_imported_advertiser_is_found_at_once(
    shown: AdvertiserCache, database: Database
) -> None:
    assert await shown.by_id([TERN.id]) == {}

    await _import(database, TERN)

    assert await shown.by_id([TERN.id]) == {TERN.id: TERN}


async def test_a_changed_advertiser_is_shown_within_five_seconds(
    shown: AdvertiserCache, database: Database, clock: ManualClock
) -> None:
    await _import(database, TERN)
    await shown.by_id([TERN.id])
    changed = TERN._replace(name="Arctic Tern")

    await _import(database, changed)
    clock.seconds += 5

    assert await shown.by_id([TERN.id]) == {TERN.id: changed}
