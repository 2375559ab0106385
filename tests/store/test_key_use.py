"""The use of API keys: one write a day for each, and warnings before they end."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta

import pytest
import structlog
from sqlalchemy import Connection, Engine, event

from contact_gateway.access.api_keys import KeyRecord, MintedKey, Rotation, mint, rotate
from contact_gateway.access.principals import ApiKeyOwner, Credential, KeyRefusal, Role
from contact_gateway.store import api_keys
from contact_gateway.store.batched_reads import BatchedReader
from contact_gateway.store.caches import CACHE_SECONDS, ApiKeyCache
from contact_gateway.store.database import Database
from contact_gateway.store.key_use import RETRY_SECONDS, KeyUse
from support.clock import ManualClock
from support.databases import break_writes, locked

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


class Process:
    """What a gateway process has for API keys, at a time that a test moves."""

    def __init__(self, database: Database) -> None:
        self.now = NOON
        self._database = database
        self._clock = ManualClock()
        self.use = KeyUse(database, self._clock)
        self._keys = ApiKeyCache(
            BatchedReader(database, api_keys.by_lookup),
            self._clock,
            lambda: self.now,
            self.use.record,
        )

    def advance(self, period: timedelta) -> None:
        self.now += period
        self._clock.seconds += period.total_seconds()

    async def authenticate(self, *keys: MintedKey) -> Sequence[ApiKeyOwner | KeyRefusal]:
        """Authenticate keys at the same time, and wait for what is written."""
        owners = await asyncio.gather(
            *(self._keys.authenticate(Credential.of(key.text)) for key in keys)
        )
        await self.use.close()
        return owners

    async def last_used_on(self) -> list[date | None]:
        """Return the last days of all keys."""
        return [key.last_used_on for key in await self._database.read(api_keys.all_keys)]


@pytest.fixture
async def process(database: Database) -> AsyncIterator[Process]:
    process = Process(database)
    yield process
    await process.use.close()


@pytest.fixture
def writes() -> Iterator[list[object]]:
    """Record the transactions that have changed the last use of keys."""
    changed: list[object] = []

    def count(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("UPDATE api_keys SET last_used_on"):
            changed.append(statement)

    event.listen(Engine, "before_cursor_execute", count)
    yield changed
    event.remove(Engine, "before_cursor_execute", count)


async def _add(
    database: Database,
    expires_at: datetime | None = None,
    role: Role = Role.MEMBER,
    *,
    is_demo: bool = False,
) -> MintedKey:
    minted = mint()
    await database.write(
        lambda connection: api_keys.add(
            connection,
            minted,
            role=role,
            label="of Maya",
            expires_at=expires_at,
            is_demo=is_demo,
        )
    )
    return minted


async def _change(database: Database, change: Callable[[KeyRecord], KeyRecord]) -> None:
    """Replace the secrets and the expiry of the first key."""

    def work(connection: Connection) -> None:
        api_keys.replace_secret(connection, change(api_keys.all_keys(connection)[0]))

    await database.write(work)


async def test_the_day_of_a_use_is_stored(process: Process, database: Database) -> None:
    used = await _add(database)
    await _add(database)
    assert await process.last_used_on() == [None, None]

    await process.authenticate(used)

    assert await process.last_used_on() == [NOON.date(), None]


async def test_a_key_is_written_once_a_day(
    process: Process, database: Database, writes: list[object]
) -> None:
    key = await _add(database)
    for _ in range(3):
        await process.authenticate(key)
        process.advance(timedelta(seconds=CACHE_SECONDS))
    assert len(writes) == 1

    process.advance(DAY)
    await process.authenticate(key)

    assert len(writes) == 2
    assert await process.last_used_on() == [process.now.date()]


async def test_a_day_that_another_process_has_stored_is_not_written(
    process: Process, database: Database, writes: list[object]
) -> None:
    key = await _add(database)
    await process.authenticate(key)
    other = Process(database)

    await other.authenticate(key)

    assert len(writes) == 1


async def test_a_process_with_a_slow_clock_does_not_set_a_day_back(
    process: Process, database: Database
) -> None:
    key = await _add(database)
    await process.authenticate(key)
    slow = Process(database)
    slow.advance(-DAY)

    await slow.authenticate(key)

    assert await process.last_used_on() == [NOON.date()]


async def test_keys_that_are_used_together_share_a_write(
    process: Process, database: Database, writes: list[object]
) -> None:
    keys = [await _add(database) for _ in range(20)]

    await process.authenticate(*keys)

    assert await process.last_used_on() == [NOON.date()] * 20
    assert len(writes) < 20


async def test_only_an_accepted_key_is_used(process: Process, database: Database) -> None:
    expired = await _add(database, NOON - HOUR)
    revoked = await _add(database)
    await database.write(lambda connection: api_keys.revoke(connection, 2))

    await process.authenticate(expired, revoked, mint())

    assert await process.last_used_on() == [None, None]


@pytest.mark.usefixtures("impatient_store")
async def test_a_use_that_cannot_be_stored_fails_no_request_and_is_stored_later(
    process: Process, database: Database
) -> None:
    key = await _add(database)
    with locked(database.address), structlog.testing.capture_logs() as lines:
        for _ in range(2):
            (owner,) = await process.authenticate(key)
            assert isinstance(owner, ApiKeyOwner)
            process.advance(timedelta(seconds=CACHE_SECONDS))

    assert [line["event"] for line in lines] == [
        "last use of API keys not stored; retrying in a minute"
    ]
    # "SQLITE_BUSY", or "canceling statement due to lock timeout".
    assert "BUSY" in lines[0]["cause"] or "lock" in lines[0]["cause"]
    assert await process.last_used_on() == [None]

    process.advance(timedelta(seconds=RETRY_SECONDS))
    await process.authenticate(key)

    assert await process.last_used_on() == [NOON.date()]


async def test_a_fault_of_the_write_is_logged_and_fails_no_request(
    process: Process, database: Database
) -> None:
    key = await _add(database)
    await database.write(lambda connection: break_writes(connection, "UPDATE", "api_keys"))

    with structlog.testing.capture_logs() as lines:
        (owner,) = await process.authenticate(key)

    assert isinstance(owner, ApiKeyOwner)
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("expires_in", "days_left"),
    [
        pytest.param(7 * DAY + timedelta(seconds=1), None, id="in more than a week"),
        pytest.param(7 * DAY, 7, id="in a week"),
        pytest.param(3 * DAY + HOUR, 3, id="in three days"),
        pytest.param(HOUR, 0, id="in an hour"),
    ],
)
async def test_a_key_in_use_is_logged_from_a_week_before_it_expires(
    process: Process, database: Database, expires_in: timedelta, days_left: int | None
) -> None:
    key = await _add(database, NOON + expires_in)

    with structlog.testing.capture_logs() as lines:
        await process.authenticate(key)

    if days_left is None:
        assert lines == []
    else:
        assert lines == [
            {
                "event": "API key expires soon",
                "log_level": "warning",
                "key_id": 1,
                "expires_at": (NOON + expires_in).isoformat(),
                "days_left": days_left,
            }
        ]


async def test_a_key_is_logged_once_a_day(process: Process, database: Database) -> None:
    key = await _add(database, NOON + 2 * DAY + HOUR)
    with structlog.testing.capture_logs() as lines:
        for _ in range(6):
            await process.authenticate(key)
            process.advance(DAY / 2)

    assert [line["days_left"] for line in lines] == [2, 1, 0]


async def test_the_start_logs_the_keys_that_expire_soon(
    process: Process, database: Database
) -> None:
    """Also those that are not used. Their first use on that day is not logged again."""
    ends_in = (None, -HOUR, HOUR, 8 * DAY, 2 * DAY, DAY)
    keys = [await _add(database, None if each is None else NOON + each) for each in ends_in]
    await database.write(lambda connection: api_keys.revoke(connection, 6))
    await _add(database, NOON + DAY, is_demo=True)

    with structlog.testing.capture_logs() as lines:
        await process.use.warn_of_expiring_keys(process.now)
        await process.authenticate(*keys)

    assert [line["key_id"] for line in lines] == [3, 5]


async def test_an_old_secret_in_use_is_logged_once_a_day(
    process: Process, database: Database
) -> None:
    old = await _add(database)
    rotations: list[Rotation] = []

    def rotated(record: KeyRecord) -> KeyRecord:
        rotation = rotate(record, 2 * DAY, NOON)
        assert isinstance(rotation, Rotation)
        rotations.append(rotation)
        return rotation.record

    await _change(database, rotated)
    with structlog.testing.capture_logs() as lines:
        await process.authenticate(old, old, rotations[0].minted)
        process.advance(DAY)
        await process.authenticate(old, rotations[0].minted)

    assert [(line["event"], line["key_id"], line["days_left"]) for line in lines] == [
        ("old secret of an API key in use", 1, 2),
        ("old secret of an API key in use", 1, 1),
    ]


async def test_no_line_has_a_label_or_a_part_of_a_key(process: Process, database: Database) -> None:
    key = await _add(database, NOON + HOUR)

    with structlog.testing.capture_logs() as lines:
        await process.authenticate(key)

    assert "Maya" not in repr(lines)
    assert key.lookup not in repr(lines)
