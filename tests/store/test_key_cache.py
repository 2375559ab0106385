"""Keys at hand: for five seconds at the most, and only those that there are."""

from collections.abc import Collection, Mapping

import pytest
from sqlalchemy import Connection

from contact_gateway.access.api_keys import KeyRecord, MintedKey, mint
from contact_gateway.access.principals import Role
from contact_gateway.contacts.source import SourceUnavailable
from contact_gateway.store import api_keys, key_cache
from contact_gateway.store.engine import Database
from contact_gateway.store.key_cache import KeyCache
from contact_gateway.store.reader import GroupReader
from stopped_clock import StoppedClock

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


class Reading:
    """Reads keys, and notes which; it takes some time by a clock."""

    def __init__(self, clock: StoppedClock) -> None:
        self._clock = clock
        self.takes_seconds = 0.0
        self.lookups: list[str] = []

    def __call__(self, connection: Connection, lookups: Collection[str]) -> Mapping[str, KeyRecord]:
        self.lookups += lookups
        found = api_keys.by_lookup(connection, lookups)
        self._clock.seconds += self.takes_seconds
        return found


@pytest.fixture
def reading(clock: StoppedClock) -> Reading:
    return Reading(clock)


@pytest.fixture
def keys(database: Database, reading: Reading, clock: StoppedClock) -> KeyCache:
    return KeyCache(GroupReader(database, reading), clock)


async def _add(database: Database, minted: MintedKey) -> int:
    return await database.write(
        lambda connection: api_keys.add(connection, minted, role=Role.ADMIN, label="ci")
    )


async def _made(database: Database, count: int) -> list[str]:
    """Make keys; return their look-ups."""
    minted = [mint() for _ in range(count)]
    for each in minted:
        await _add(database, each)
    return [each.lookup for each in minted]


async def _is_revoked(keys: KeyCache, lookup: str) -> bool:
    found = await keys.get(lookup)
    assert found is not None
    return found.revoked_at is not None


async def test_a_key_is_what_is_stored(keys: KeyCache, database: Database) -> None:
    minted = mint()
    key_id = await _add(database, minted)

    for _ in range(2):
        found = await keys.get(minted.lookup)

        assert found is not None
        assert (found.id, found.lookup, found.label) == (key_id, minted.lookup, "ci")
        assert found.secret_hash == minted.secret_hash


async def test_a_key_that_is_used_again_is_not_looked_up_again(
    keys: KeyCache, database: Database, reading: Reading, clock: StoppedClock
) -> None:
    (lookup,) = await _made(database, 1)

    first = await keys.get(lookup)
    clock.seconds += 4.9

    assert await keys.get(lookup) == first
    assert reading.lookups == [lookup]


async def test_using_a_key_does_not_keep_it_for_longer(
    keys: KeyCache, database: Database, reading: Reading, clock: StoppedClock
) -> None:
    (lookup,) = await _made(database, 1)
    for _ in range(6):
        await keys.get(lookup)
        clock.seconds += 1

    assert reading.lookups == [lookup, lookup]


@pytest.mark.parametrize(
    "reading_takes_seconds",
    [
        pytest.param(0, id="a quick reading"),
        pytest.param(3, id="revoked during the reading"),
        pytest.param(5, id="a reading as long as a key is kept"),
        pytest.param(7, id="a longer reading"),
    ],
)
async def test_a_key_ends_within_five_seconds_of_being_revoked(
    keys: KeyCache,
    database: Database,
    reading: Reading,
    clock: StoppedClock,
    reading_takes_seconds: float,
) -> None:
    """Counted from before the reading: once it has read the key, the key may be revoked."""
    minted = mint()
    key_id = await _add(database, minted)
    revocable_from = clock.seconds
    reading.takes_seconds = reading_takes_seconds
    assert not await _is_revoked(keys, minted.lookup)

    await database.write(lambda connection: api_keys.revoke(connection, key_id))
    clock.seconds = max(clock.seconds, revocable_from + 5)

    assert await _is_revoked(keys, minted.lookup)


async def test_a_key_works_as_soon_as_it_is_made(
    keys: KeyCache, database: Database, reading: Reading
) -> None:
    minted = mint()
    assert await keys.get(minted.lookup) is None
    assert await keys.get(minted.lookup) is None

    await _add(database, minted)

    assert await keys.get(minted.lookup) is not None
    assert reading.lookups == [minted.lookup] * 3


@pytest.fixture
def room_for_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_cache, "_MAX_KEPT", 2)


@pytest.mark.usefixtures("room_for_two")
async def test_of_too_many_keys_the_one_that_was_not_used_for_longest_is_given_up(
    database: Database, reading: Reading, clock: StoppedClock
) -> None:
    keys = KeyCache(GroupReader(database, reading), clock)
    one, two, three = await _made(database, 3)
    for lookup in (one, two, one, three):
        await keys.get(lookup)
    reading.lookups.clear()

    for lookup in (one, three, two):
        await keys.get(lookup)

    assert reading.lookups == [two]


@pytest.mark.usefixtures("room_for_two")
async def test_who_guesses_displaces_nobodys_key(
    database: Database, reading: Reading, clock: StoppedClock
) -> None:
    keys = KeyCache(GroupReader(database, reading), clock)
    known = await _made(database, 2)
    for lookup in known:
        await keys.get(lookup)
    for _ in range(5):
        await keys.get(mint().lookup)
    reading.lookups.clear()

    for lookup in known:
        await keys.get(lookup)

    assert reading.lookups == []


async def test_a_store_that_does_not_answer_says_so_each_time(
    unreachable_database: Database, reading: Reading
) -> None:
    keys = KeyCache(GroupReader(unreachable_database, reading))

    for _ in range(2):
        with pytest.raises(SourceUnavailable):
            await keys.get(mint().lookup)
