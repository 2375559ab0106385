"""The one writer: many creations to a commit, and an answer to each."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from anyio.lowlevel import checkpoint
from sqlalchemy import Connection, Engine, event, func, select, update

from contact_gateway.access.principals import Principal
from contact_gateway.contacts.contact import NewContact
from contact_gateway.contacts.outcomes import (
    Conflict,
    CreateContactOutcome,
    Created,
    NotFound,
    Previewed,
)
from contact_gateway.contacts.source import Creation, SourceUnavailable
from contact_gateway.store import group_commit as writers
from contact_gateway.store import retention
from contact_gateway.store.group_commit import MAX_BATCH, ContactGroupCommit
from contact_gateway.store.sqlite import Database
from contact_gateway.store.tables import contacts, idempotency_records

pytestmark = pytest.mark.anyio

GUILTY = "guilty@example.com"
WITHIN_SECONDS = 10


@pytest.fixture
async def writer(database: Database) -> AsyncIterator[ContactGroupCommit]:
    writer = ContactGroupCommit(database)
    yield writer
    await writer.close()


@pytest.fixture
async def database_with_a_fault(database: Database) -> Database:
    """Return a database that refuses one address, by a mistake in no submission."""
    await _write(
        database,
        "CREATE TRIGGER fault BEFORE INSERT ON contacts WHEN NEW.email = 'guilty@example.com' "
        "BEGIN SELECT RAISE(ABORT, 'a fault'); END",
    )
    return database


@pytest.fixture
async def impatient_database(database: Database) -> Database:
    """Return a database whose writer does not wait for locks."""
    await _write(database, "PRAGMA busy_timeout=0")
    return database


@pytest.fixture
def commits() -> Iterator[list[object]]:
    """Count the transactions that are committed."""
    committed: list[object] = []

    def count(connection: Connection) -> None:
        committed.append(connection)

    event.listen(Engine, "commit", count)
    yield committed
    event.remove(Engine, "commit", count)


def _creation(
    admin: Principal,
    email: str = "maya@example.com",
    *,
    advertiser_id: int = 1001,
    key: str | None = None,
    dry_run: bool = False,
) -> Creation:
    return Creation(admin, NewContact(advertiser_id=advertiser_id, email=email), key, dry_run)


async def _all(
    writer: ContactGroupCommit, creations: Sequence[Creation]
) -> list[CreateContactOutcome | BaseException]:
    """Submit all at once; return outcomes and faults, in order."""
    return await asyncio.gather(
        *(writer.write(creation) for creation in creations), return_exceptions=True
    )


async def _write(database: Database, statement: str) -> None:
    await database.write(lambda connection: connection.exec_driver_sql(statement))


async def _emails(database: Database) -> list[str]:
    query = select(contacts.c.email).order_by(contacts.c.id)
    return await database.read(lambda connection: list(connection.scalars(query)))


def _addresses(count: int) -> list[str]:
    return [f"c{number}@example.com" for number in range(count)]


async def test_a_lone_creation_is_answered(
    writer: ContactGroupCommit, database: Database, admin: Principal
) -> None:
    outcome = await writer.write(_creation(admin))

    assert isinstance(outcome, Created)
    assert await _emails(database) == ["maya@example.com"]


async def test_creations_one_after_the_other_are_answered(
    writer: ContactGroupCommit, admin: Principal
) -> None:
    first = await writer.write(_creation(admin))
    again = await writer.write(_creation(admin))

    assert isinstance(first, Created)
    assert again == Conflict(first.contact)


async def test_each_gets_the_answer_to_its_own_creation(
    writer: ContactGroupCommit, admin: Principal
) -> None:
    created, not_found, previewed = await _all(
        writer,
        [
            _creation(admin, "a@example.com"),
            _creation(admin, "b@example.com", advertiser_id=404),
            _creation(admin, "c@example.com", dry_run=True),
        ],
    )

    assert isinstance(created, Created)
    assert created.contact.email == "a@example.com"
    assert not_found == NotFound()
    assert isinstance(previewed, Previewed)
    assert previewed.preview.email == "c@example.com"


async def test_many_at_once_with_one_address_create_one_contact(
    writer: ContactGroupCommit, database: Database, admin: Principal
) -> None:
    outcomes = await _all(
        writer,
        [
            _creation(admin, email, advertiser_id=advertiser_id)
            for email in ("maya@example.com", "Maya@example.com", "MAYA@example.com")
            for advertiser_id in (1001, 2001, 2002)
            for _ in range(10)
        ],
    )

    (created,) = [outcome for outcome in outcomes if isinstance(outcome, Created)]
    assert outcomes.count(Conflict(created.contact)) == 89
    assert len(await _emails(database)) == 1


async def test_many_at_once_with_one_idempotency_key_all_get_one_contact(
    writer: ContactGroupCommit, database: Database, admin: Principal
) -> None:
    outcomes = await _all(writer, [_creation(admin, key="k")] * 50)

    created = [outcome for outcome in outcomes if isinstance(outcome, Created)]
    assert len(created) == 50
    assert len({outcome.contact for outcome in created}) == 1
    assert [outcome.replayed for outcome in created].count(False) == 1
    assert await _emails(database) == ["maya@example.com"]


async def test_two_writers_of_one_file_create_one_contact_too(
    database: Database, admin: Principal
) -> None:
    other_database = Database(database.url)
    writers = (ContactGroupCommit(database), ContactGroupCommit(other_database))

    outcomes = [
        outcome
        for some in await asyncio.gather(
            *(_all(writer, [_creation(admin, key="k")] * 10) for writer in writers)
        )
        for outcome in some
    ]
    for writer in writers:
        await writer.close()
    await other_database.close()

    created = [outcome for outcome in outcomes if isinstance(outcome, Created)]
    assert len(created) == 20
    assert [outcome.replayed for outcome in created].count(False) == 1
    assert await _emails(database) == ["maya@example.com"]


async def test_creations_that_come_in_together_share_a_commit(
    writer: ContactGroupCommit, database: Database, admin: Principal, commits: list[object]
) -> None:
    outcomes = await _all(writer, [_creation(admin, email) for email in _addresses(MAX_BATCH)])
    await writer.close()

    assert len(commits) <= 2  # one of them to forget old idempotency keys
    assert all(isinstance(outcome, Created) for outcome in outcomes)
    assert await _emails(database) == _addresses(MAX_BATCH)


async def test_more_than_a_batch_are_all_answered(
    writer: ContactGroupCommit, database: Database, admin: Principal
) -> None:
    outcomes = await _all(writer, [_creation(admin, email) for email in _addresses(MAX_BATCH + 1)])

    assert all(isinstance(outcome, Created) for outcome in outcomes)
    assert await _emails(database) == _addresses(MAX_BATCH + 1)


async def test_a_creation_at_which_the_database_fails_fails_alone(
    database_with_a_fault: Database, writer: ContactGroupCommit, admin: Principal
) -> None:
    before, guilty, after = await _all(
        writer,
        [_creation(admin, email) for email in ("a@example.com", GUILTY, "b@example.com")],
    )

    assert isinstance(before, Created)
    assert isinstance(guilty, sqlite3.IntegrityError)
    assert isinstance(after, Created)
    assert await _emails(database_with_a_fault) == ["a@example.com", "b@example.com"]


async def test_a_creation_that_failed_may_be_repeated_with_its_key(
    database_with_a_fault: Database, writer: ContactGroupCommit, admin: Principal
) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        await writer.write(_creation(admin, GUILTY, key="k"))

    await _write(database_with_a_fault, "DROP TRIGGER fault")
    outcome = await writer.write(_creation(admin, GUILTY, key="k"))

    assert isinstance(outcome, Created)
    assert not outcome.replayed


async def test_a_locked_database_is_unavailable_to_all_that_wait_and_then_works_again(
    impatient_database: Database, writer: ContactGroupCommit, admin: Principal
) -> None:
    creations = [_creation(admin, email, key=email) for email in _addresses(3)]
    with closing(
        sqlite3.connect(str(impatient_database.url.database), isolation_level=None)
    ) as somebody_else:
        somebody_else.execute("BEGIN IMMEDIATE")
        refused = await _all(writer, creations)
        await writer.close()

    assert all(isinstance(outcome, SourceUnavailable) for outcome in refused)
    assert await _emails(impatient_database) == []
    assert all(isinstance(outcome, Created) for outcome in await _all(writer, creations))


class _Noting:
    """Notes what the writer tells of itself."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.commits: list[int] = []

    def begun(self, waiting: int) -> None:
        del waiting

    def committed(self, jobs: int, seconds: float) -> None:
        del seconds
        self.commits.append(jobs)

    def failed(self, kind: str) -> None:
        self.failures.append(kind)


class _CountingTidies(ContactGroupCommit):
    tidies = 0

    def tidy(self, connection: Connection) -> bool:
        self.tidies += 1
        return super().tidy(connection)


async def test_all_behind_a_batch_that_met_a_lock_are_answered_with_it(
    impatient_database: Database, admin: Principal
) -> None:
    """Each batch would wait for the lock as long again, and so would tidying up."""
    noting = _Noting()
    writer = _CountingTidies(impatient_database, noting)
    creations = [_creation(admin, email) for email in _addresses(3 * MAX_BATCH)]
    with closing(
        sqlite3.connect(str(impatient_database.url.database), isolation_level=None)
    ) as somebody_else:
        somebody_else.execute("BEGIN IMMEDIATE")
        refused = await _all(writer, creations)
        assert writer.tidies == 0
    created = await _all(writer, creations)
    await writer.close()

    assert all(isinstance(outcome, SourceUnavailable) for outcome in refused)
    assert all(isinstance(outcome, Created) for outcome in created)
    assert noting.failures == ["unavailable"]
    assert sum(noting.commits) == 3 * MAX_BATCH
    assert writer.tidies == 1


async def test_when_too_many_wait_the_next_is_turned_away(
    database: Database, admin: Principal
) -> None:
    writer = ContactGroupCommit(database, max_waiting=2)
    first, second, third = await _all(writer, [_creation(admin, email) for email in _addresses(3)])
    later = await writer.write(_creation(admin, "later@example.com"))

    assert isinstance(first, Created)
    assert isinstance(second, Created)
    await writer.close()

    assert isinstance(third, SourceUnavailable)
    assert isinstance(later, Created)
    assert await _emails(database) == [*_addresses(2), "later@example.com"]


async def test_a_caller_that_goes_away_does_not_stop_its_creation(
    writer: ContactGroupCommit, database: Database, admin: Principal
) -> None:
    caller = asyncio.create_task(writer.write(_creation(admin, key="k")))
    neighbour = asyncio.create_task(writer.write(_creation(admin, "b@example.com")))
    await checkpoint()

    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    outcome = await neighbour
    repeated = await writer.write(_creation(admin, key="k"))

    assert isinstance(outcome, Created)
    assert isinstance(repeated, Created)
    assert repeated.replayed
    assert await _emails(database) == ["maya@example.com", "b@example.com"]


async def test_a_fault_after_its_caller_went_away_harms_nobody(
    database_with_a_fault: Database, writer: ContactGroupCommit, admin: Principal
) -> None:
    caller = asyncio.create_task(writer.write(_creation(admin, GUILTY)))
    neighbour = asyncio.create_task(writer.write(_creation(admin, "b@example.com")))
    await checkpoint()

    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller

    assert isinstance(await neighbour, Created)
    assert await _emails(database_with_a_fault) == ["b@example.com"]


class _Held(ContactGroupCommit):
    """Carries out nothing before it is let go."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.may_go_on = threading.Event()

    def carry_out(
        self, connection: Connection, jobs: Sequence[Creation]
    ) -> Sequence[CreateContactOutcome]:
        assert self.may_go_on.wait(WITHIN_SECONDS)
        return super().carry_out(connection, jobs)


async def test_closing_waits_for_all_that_was_accepted(
    database: Database, admin: Principal
) -> None:
    writer = _Held(database)
    callers = [
        asyncio.create_task(writer.write(_creation(admin, email)))
        for email in _addresses(MAX_BATCH + 1)
    ]
    await checkpoint()
    closing = asyncio.create_task(writer.close())
    assert await _emails(database) == []
    assert not closing.done()

    writer.may_go_on.set()
    await closing

    assert await _emails(database) == _addresses(MAX_BATCH + 1)
    assert all(isinstance(outcome, Created) for outcome in await asyncio.gather(*callers))


async def test_closing_does_not_wait_for_a_disk_that_hangs(
    database: Database, admin: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "ANSWER_TIMEOUT_SECONDS", 0.05)
    writer = _Held(database)
    caller = asyncio.create_task(writer.write(_creation(admin)))
    await checkpoint()

    await writer.close()
    with pytest.raises(SourceUnavailable):
        await caller
    writer.may_go_on.set()
    await writer.close()


class _NotingItsContext(_Noting):
    """Notes what its log lines would hold."""

    context: Mapping[str, object] | None = None

    def begun(self, waiting: int) -> None:
        del waiting
        self.context = structlog.contextvars.get_contextvars()


async def test_nothing_is_logged_in_the_name_of_who_came_first(
    database: Database, admin: Principal
) -> None:
    noting = _NotingItsContext()
    writer = ContactGroupCommit(database, noting)
    with structlog.contextvars.bound_contextvars(request_id="the first one's"):
        await writer.write(_creation(admin))
    await writer.close()

    assert noting.context == {}


async def test_a_writer_that_did_nothing_closes(database: Database) -> None:
    await ContactGroupCommit(database).close()

    assert await _emails(database) == []


async def _records(database: Database) -> int:
    query = select(func.count()).select_from(idempotency_records)
    return await database.read(lambda connection: connection.execute(query).scalar_one())


async def _create_with_an_old_key(database: Database, admin: Principal) -> None:
    writer = ContactGroupCommit(database)
    await writer.write(_creation(admin, key="old"))
    await writer.close()
    await _age_idempotency_keys(database)


async def _age_idempotency_keys(database: Database) -> None:
    then = datetime.now(UTC) - timedelta(days=3)
    ageing = update(idempotency_records).values(created_at=then)
    await database.write(lambda connection: connection.execute(ageing))


async def test_old_idempotency_keys_are_forgotten_a_few_behind_each_batch(
    database: Database, admin: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them at once would hold up who waits."""
    monkeypatch.setattr(retention, "FORGOTTEN_AT_ONCE", 2)
    early = ContactGroupCommit(database)
    await _all(early, [_creation(admin, email, key=email) for email in _addresses(5)])
    await early.close()
    await _age_idempotency_keys(database)

    writer = _CountingTidies(database)
    for number in range(4):
        await writer.write(_creation(admin, f"later-{number}@example.com"))
    await writer.close()

    assert await _records(database) == 0
    assert writer.tidies == 3


async def test_old_idempotency_keys_are_forgotten_by_the_way(
    database: Database, admin: Principal
) -> None:
    await _create_with_an_old_key(database, admin)

    later_writer = ContactGroupCommit(database)
    await later_writer.write(_creation(admin, "b@example.com"))
    await later_writer.close()

    assert await _records(database) == 0
    assert await _emails(database) == ["maya@example.com", "b@example.com"]


async def test_a_fault_in_forgetting_old_keys_stops_nothing(
    database: Database, admin: Principal
) -> None:
    await _create_with_an_old_key(database, admin)
    await _write(
        database,
        "CREATE TRIGGER fault BEFORE DELETE ON idempotency_records "
        "BEGIN SELECT RAISE(ABORT, 'a fault'); END",
    )

    later_writer = ContactGroupCommit(database)
    outcome = await later_writer.write(_creation(admin, "b@example.com"))
    await later_writer.close()

    assert isinstance(outcome, Created)
