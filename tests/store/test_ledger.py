"""The ledger in SQL: durable, one claim at a time, small."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from contact_gateway.contacts.ledger import Attempt
from contact_gateway.contacts.source import SourceUnavailable
from contact_gateway.contacts.timestamps import timestamp
from contact_gateway.store import retention
from contact_gateway.store.database import Database
from contact_gateway.store.ledger import SqlLedger, open_attempts, settle
from contact_gateway.store.retention import IDEMPOTENCY_RETENTION, OPEN_ATTEMPT_RETENTION
from contact_gateway.store.tables import attempts
from support.contacts import stored, submitted
from support.databases import Engine, database_at

pytestmark = pytest.mark.anyio

KEY = b"k" * 32
NOW = datetime.now(UTC)
HELD = timedelta(seconds=12)
ATTEMPT = Attempt(
    scope=b"s" * 32,
    fingerprint=b"f" * 32,
    advertiser_id=2**53 + 1,
    email="maya@exämple.com",
    sent_at=NOW,
    holder="first",
    held_until=NOW + HELD,
)
CONTACT = stored(
    submitted(advertiser_id=2**53 + 1, email="maya@exämple.com", name="Maya \ud800"),
    NOW,
    id_=2**63 - 1,
    advertiser_name="Meridian \N{SNOWMAN}",
)._replace(updated_at=timestamp(NOW + HELD))


def _later(attempt: Attempt, seconds: float, holder: str = "later") -> Attempt:
    """Return the attempt of somebody who comes later."""
    now = attempt.sent_at + timedelta(seconds=seconds)
    return attempt._replace(holder=holder, sent_at=now, held_until=now + HELD)


@pytest.fixture
async def ledger(database: Database) -> AsyncIterator[SqlLedger]:
    ledger = SqlLedger(database)
    yield ledger
    await ledger.close()


async def _rows(database: Database) -> int:
    query = select(func.count()).select_from(attempts)
    return await database.read(lambda connection: connection.execute(query).scalar_one())


async def test_a_claimed_attempt_is_found(ledger: SqlLedger) -> None:
    assert await ledger.find(KEY) is None
    assert await ledger.claim(KEY, ATTEMPT) == ATTEMPT
    assert await ledger.find(KEY) == ATTEMPT
    assert await ledger.find(b"o" * 32) is None


async def test_a_response_is_stored_with_the_whole_contact(
    ledger: SqlLedger, database: Database
) -> None:
    await ledger.claim(KEY, ATTEMPT)
    answered = ATTEMPT._replace(contact=CONTACT)

    assert await ledger.put(KEY, "first", answered)
    assert await SqlLedger(database).find(KEY) == answered
    assert await ledger.claim(KEY, _later(ATTEMPT, 3600)) == answered


async def test_the_times_of_an_earlier_version_are_read(
    ledger: SqlLedger, database: Database
) -> None:
    await ledger.claim(KEY, ATTEMPT)
    await ledger.put(KEY, "first", ATTEMPT._replace(contact=CONTACT))
    older = update(attempts).values(contact=func.replace(attempts.c.contact, 'Z"', '456+00:00"'))

    await database.write(lambda connection: connection.execute(older).rowcount)

    assert await SqlLedger(database).find(KEY) == ATTEMPT._replace(contact=CONTACT)


async def test_only_its_holder_replaces_or_deletes_an_attempt(ledger: SqlLedger) -> None:
    await ledger.claim(KEY, ATTEMPT)

    assert not await ledger.put(KEY, "somebody", ATTEMPT._replace(contact=CONTACT))
    assert not await ledger.put(KEY, "somebody", None)
    assert await ledger.find(KEY) == ATTEMPT
    assert await ledger.put(KEY, "first", None)
    assert await ledger.find(KEY) is None


async def test_a_deleted_attempt_is_not_put_back(ledger: SqlLedger) -> None:
    """The operator may settle it while its call is in flight."""
    assert not await ledger.put(KEY, "first", ATTEMPT._replace(contact=CONTACT))
    assert await ledger.put(KEY, "first", None)
    assert await ledger.find(KEY) is None


async def test_a_takeover_ends_the_lease_of_the_first_holder(ledger: SqlLedger) -> None:
    await ledger.claim(KEY, ATTEMPT)
    taken = await ledger.claim(KEY, _later(ATTEMPT, 12))

    assert taken.holder == "later"
    assert not await ledger.put(KEY, "first", ATTEMPT._replace(contact=CONTACT))
    assert await ledger.put(KEY, "later", taken._replace(contact=CONTACT))


async def test_of_concurrent_claims_of_one_key_one_is_granted(database: Database) -> None:
    """Some of one process, in one commit, and some of another."""
    other_database = database_at(database.address)
    ledgers = SqlLedger(database), SqlLedger(other_database)
    claims = await asyncio.gather(
        *(
            ledger.claim(KEY, _later(ATTEMPT, 0, f"{number}-{which}"))
            for which, ledger in enumerate(ledgers)
            for number in range(20)
        )
    )

    assert len({claim.holder for claim in claims}) == 1
    for ledger in ledgers:
        await ledger.close()
    await other_database.close()


async def test_expired_attempts_are_deleted(database: Database) -> None:
    old = _later(ATTEMPT, -IDEMPOTENCY_RETENTION.total_seconds() - 3600)
    recent = _later(ATTEMPT, -IDEMPOTENCY_RETENTION.total_seconds() + 3600)
    before = SqlLedger(database)
    await before.claim(b"o" * 32, old._replace(contact=CONTACT))
    much_older = _later(ATTEMPT, -OPEN_ATTEMPT_RETENTION.total_seconds() - 3600)
    await before.claim(b"u" * 32, old)
    await before.claim(b"v" * 32, much_older)
    await before.claim(b"r" * 32, recent._replace(contact=CONTACT))
    await before.close()

    # Purging is done at the first write of a process, and then once an hour.
    after = SqlLedger(database)
    await after.claim(KEY, ATTEMPT)
    await after.close()

    assert await _rows(database) == 3
    assert await after.find(b"r" * 32) is not None
    # Its outcome is still unknown.
    assert await after.find(b"u" * 32) is not None


@pytest.mark.parametrize(
    ("closed", "unknown"), [(3, 1), (1, 3)], ids=["many closed ones", "many unknown ones"]
)
async def test_expired_attempts_of_both_kinds_are_deleted_in_parts(
    database: Database, monkeypatch: pytest.MonkeyPatch, closed: int, unknown: int
) -> None:
    monkeypatch.setattr(retention, "PURGE_BATCH_SIZE", 2)
    much_older = _later(ATTEMPT, -2 * OPEN_ATTEMPT_RETENTION.total_seconds())
    before = SqlLedger(database)
    await before.claim(KEY, ATTEMPT)
    for number in range(closed):
        await before.claim(b"c%d" % number, much_older._replace(contact=CONTACT))
    for number in range(unknown):
        await before.claim(b"u%d" % number, much_older)
    await before.close()

    after = SqlLedger(database)
    for number in range(3):
        await after.claim(b"a%d" % number, ATTEMPT)
    await after.close()

    assert await _rows(database) == 4


async def test_a_contact_is_found_by_its_id_and_the_person_that_created_it(
    ledger: SqlLedger,
) -> None:
    await ledger.claim(KEY, ATTEMPT._replace(contact=CONTACT))

    assert await ledger.contact(ATTEMPT.scope, CONTACT.id) == CONTACT
    assert await ledger.contact(b"another person", CONTACT.id) is None
    assert await ledger.contact(ATTEMPT.scope, 1) is None
    assert await ledger.has_contact(CONTACT.id)
    assert not await ledger.has_contact(1)


async def test_open_attempts_are_listed_and_settled(ledger: SqlLedger, database: Database) -> None:
    await ledger.claim(b"c" * 32, ATTEMPT._replace(contact=CONTACT))
    await ledger.claim(b"n" * 32, _later(ATTEMPT, 1))
    await ledger.claim(KEY, ATTEMPT)
    first, second = await database.read(open_attempts)
    await database.write(lambda connection: settle(connection, first, 77))
    await database.write(lambda connection: settle(connection, second, None))
    settled = await ledger.find(KEY)

    assert (first, second) == ((KEY, ATTEMPT), (b"n" * 32, _later(ATTEMPT, 1)))
    assert settled is not None
    assert settled.contact is not None
    assert (settled.contact.id, settled.contact.email) == (77, ATTEMPT.email)
    assert await ledger.find(b"n" * 32) is None
    assert await database.read(open_attempts) == ()


@pytest.mark.parametrize("contact_id", [77, None], ids=["as another contact", "as none"])
async def test_an_attempt_that_has_changed_since_it_was_listed_is_not_settled(
    ledger: SqlLedger, database: Database, contact_id: int | None
) -> None:
    await ledger.claim(KEY, ATTEMPT)
    (opened,) = await database.read(open_attempts)
    closed = ATTEMPT._replace(contact=CONTACT)
    await ledger.put(KEY, "first", closed)

    with pytest.raises(SourceUnavailable):
        await database.write(lambda connection: settle(connection, opened, contact_id))
    assert await ledger.find(KEY) == closed


async def test_a_closed_attempt_is_neither_replaced_nor_deleted(ledger: SqlLedger) -> None:
    closed = ATTEMPT._replace(contact=CONTACT)
    await ledger.claim(KEY, ATTEMPT)
    await ledger.put(KEY, "first", closed)

    assert not await ledger.put(KEY, "first", closed._replace(contact=CONTACT._replace(id=1)))
    assert not await ledger.put(KEY, "first", None)
    assert await ledger.put(KEY, "first", closed)
    assert await ledger.find(KEY) == closed


async def test_an_old_attempt_is_stored_after_it_is_settled(database: Database) -> None:
    """Its key would create a second contact."""
    before = SqlLedger(database)
    await before.claim(KEY, _later(ATTEMPT, -2 * IDEMPOTENCY_RETENTION.total_seconds()))
    (opened,) = await database.read(open_attempts)
    await database.write(lambda connection: settle(connection, opened, 77))
    await before.close()

    # Purging is done at the first write of a process.
    after = SqlLedger(database)
    await after.claim(b"n" * 32, ATTEMPT)
    await after.close()
    found = await after.find(KEY)

    assert found is not None
    assert found.contact is not None


async def test_an_unreachable_ledger_is_unavailable(unreachable_database: Database) -> None:
    ledger = SqlLedger(unreachable_database)

    with pytest.raises(SourceUnavailable):
        await ledger.claim(KEY, ATTEMPT)
    with pytest.raises(SourceUnavailable):
        await ledger.find(KEY)


async def test_an_attempt_is_stored_before_the_claim_returns(
    ledger: SqlLedger, database: Database, engine: Engine, tmp_path: Path
) -> None:
    """What a process that dies leaves behind holds it: the files as they are, or the server."""
    await ledger.claim(KEY, ATTEMPT)
    left_behind = database_at(
        f"sqlite:///{_copy(tmp_path)}" if engine is Engine.SQLITE else database.address
    )

    assert await SqlLedger(left_behind).find(KEY) == ATTEMPT
    await left_behind.close()


def _copy(folder: Path) -> str:
    copy = folder / "copy"
    copy.mkdir()
    for file in folder.glob("store.db*"):
        (copy / file.name).write_bytes(file.read_bytes())
    return str(copy / "store.db")
