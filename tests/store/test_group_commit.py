"""Group commit: creations share a commit, and each is answered."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TypeAlias

import pytest
import structlog
from anyio.lowlevel import checkpoint
from sqlalchemy import Connection, Engine, event, func, select, update

from contact_gateway.access.principals import ApiKeyOwner
from contact_gateway.contacts.outcomes import (
    CreateContactOutcome,
    Created,
    Previewed,
)
from contact_gateway.contacts.source import Creation, SourceUnavailable
from contact_gateway.store import contacts, group_commit, idempotency, retention
from contact_gateway.store.connection_threads import DatabaseFault
from contact_gateway.store.contacts import Submitted
from contact_gateway.store.database import ANSWER_TIMEOUT_SECONDS, Database
from contact_gateway.store.group_commit import (
    MAX_BATCH_SIZE,
    MAX_QUEUED,
    CommitObserver,
    GroupCommit,
)
from contact_gateway.store.tables import contacts as contacts_table
from contact_gateway.store.tables import idempotency_records
from support.clock import ManualClock
from support.contacts import NOT_FOUND, conflict, submitted
from support.databases import break_writes, database_at, locked, mend_writes

pytestmark = pytest.mark.anyio

FAULTY = "faulty@example.com"
WITHIN_SECONDS = 60

Writer: TypeAlias = GroupCommit[Submitted, CreateContactOutcome]
Apply: TypeAlias = Callable[[Connection, Sequence[Submitted]], Sequence[CreateContactOutcome]]


def _writer(
    database: Database,
    *,
    apply: Apply = contacts.create,
    purge: Callable[[Connection], bool] = idempotency.purge,
    observer: CommitObserver | None = None,
    max_queued: int = MAX_QUEUED,
) -> Writer:
    return GroupCommit(database, apply, purge, observer, max_queued)


@pytest.fixture
async def writer(database: Database) -> AsyncIterator[Writer]:
    writer = _writer(database)
    yield writer
    await writer.close()


@pytest.fixture
async def faulty_database(database: Database) -> Database:
    """Return a database that raises an error at one valid email address."""
    condition = f"NEW.email = '{FAULTY}'"
    await database.write(
        lambda connection: break_writes(connection, "INSERT", "contacts", condition)
    )
    return database


@pytest.fixture
def commits() -> Iterator[list[object]]:
    """Record the committed transactions."""
    committed: list[object] = []

    def count(connection: Connection) -> None:
        committed.append(connection)

    event.listen(Engine, "commit", count)
    yield committed
    event.remove(Engine, "commit", count)


def _creation(
    admin: ApiKeyOwner,
    email: str = "maya@example.com",
    *,
    advertiser_id: int = 1001,
    key: str | None = None,
    dry_run: bool = False,
) -> Submitted:
    contact = submitted(advertiser_id=advertiser_id, email=email)
    return Submitted(admin.key_id, admin.secret_hash, Creation(contact, key, dry_run))


async def _all(
    writer: Writer, creations: Sequence[Submitted]
) -> list[CreateContactOutcome | BaseException]:
    """Submit all concurrently; return their outcomes and errors, in order."""
    return await asyncio.gather(
        *(writer.write(creation) for creation in creations), return_exceptions=True
    )


async def _emails(database: Database) -> list[str]:
    query = select(contacts_table.c.email).order_by(contacts_table.c.id)
    return await database.read(lambda connection: list(connection.scalars(query)))


def _addresses(count: int) -> list[str]:
    return [f"c{number}@example.com" for number in range(count)]


async def test_a_lone_creation_is_answered(
    writer: Writer, database: Database, admin: ApiKeyOwner
) -> None:
    outcome = await writer.write(_creation(admin))

    assert isinstance(outcome, Created)
    assert await _emails(database) == ["maya@example.com"]


async def test_sequential_creations_are_answered(writer: Writer, admin: ApiKeyOwner) -> None:
    first = await writer.write(_creation(admin))
    again = await writer.write(_creation(admin))

    assert isinstance(first, Created)
    assert again == conflict(first.contact)


async def test_each_caller_gets_the_outcome_of_its_own_creation(
    writer: Writer, admin: ApiKeyOwner
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
    assert not_found == NOT_FOUND
    assert isinstance(previewed, Previewed)
    assert previewed.preview.details.email == "c@example.com"


async def test_concurrent_creations_with_one_email_create_one_contact(
    writer: Writer, database: Database, admin: ApiKeyOwner
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
    assert outcomes.count(conflict(created.contact)) == 89
    assert len(await _emails(database)) == 1


async def test_concurrent_creations_with_one_idempotency_key_get_one_contact(
    writer: Writer, database: Database, admin: ApiKeyOwner
) -> None:
    outcomes = await _all(writer, [_creation(admin, key="k")] * 50)

    created = [outcome for outcome in outcomes if isinstance(outcome, Created)]
    assert len(created) == 50
    assert len({outcome.contact for outcome in created}) == 1
    assert [outcome.replayed for outcome in created].count(False) == 1
    assert await _emails(database) == ["maya@example.com"]


async def test_two_writers_of_one_database_create_one_contact(
    database: Database, admin: ApiKeyOwner
) -> None:
    other_database = database_at(database.address)
    writers = (_writer(database), _writer(other_database))

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


async def test_concurrent_creations_share_a_commit(
    writer: Writer, database: Database, admin: ApiKeyOwner, commits: list[object]
) -> None:
    outcomes = await _all(writer, [_creation(admin, email) for email in _addresses(MAX_BATCH_SIZE)])
    await writer.close()

    assert len(commits) <= 2  # one of them is the purge
    assert all(isinstance(outcome, Created) for outcome in outcomes)
    assert await _emails(database) == _addresses(MAX_BATCH_SIZE)


@pytest.mark.usefixtures("stopped_clock")
async def test_a_batch_takes_the_creations_that_arrive_right_after_its_first(
    database: Database, admin: ApiKeyOwner
) -> None:
    recorder = _Recorder()
    writer = _writer(database, observer=recorder)
    callers = []
    for email in _addresses(3):
        callers.append(asyncio.create_task(writer.write(_creation(admin, email))))
        await checkpoint()
    outcomes = await asyncio.gather(*callers)
    await writer.close()

    assert all(isinstance(outcome, Created) for outcome in outcomes)
    assert recorder.commits == [3]


async def test_more_creations_than_a_batch_are_all_answered(
    writer: Writer, database: Database, admin: ApiKeyOwner
) -> None:
    outcomes = await _all(
        writer, [_creation(admin, email) for email in _addresses(MAX_BATCH_SIZE + 1)]
    )

    assert all(isinstance(outcome, Created) for outcome in outcomes)
    assert sorted(await _emails(database)) == sorted(_addresses(MAX_BATCH_SIZE + 1))


async def test_a_creation_that_raises_fails_alone(
    faulty_database: Database, writer: Writer, admin: ApiKeyOwner
) -> None:
    before, faulty, after = await _all(
        writer,
        [_creation(admin, email) for email in ("a@example.com", FAULTY, "b@example.com")],
    )

    assert isinstance(before, Created)
    assert isinstance(faulty, DatabaseFault)
    assert isinstance(after, Created)
    assert await _emails(faulty_database) == ["a@example.com", "b@example.com"]


async def test_an_outage_while_a_batch_is_repeated_one_by_one_fails_the_rest(
    database: Database, admin: ApiKeyOwner
) -> None:
    commits = count()

    def fail_with_others_then_alone(
        connection: Connection, jobs: Sequence[Submitted]
    ) -> Sequence[CreateContactOutcome]:
        number = next(commits)
        if number == 0:
            raise RuntimeError("the batch")
        if number == 2:
            raise SourceUnavailable("the server")
        return contacts.create(connection, jobs)

    writer = _writer(database, apply=fail_with_others_then_alone)
    first, *others = await _all(writer, [_creation(admin, email) for email in _addresses(4)])
    await writer.close()

    assert isinstance(first, Created)
    assert [type(outcome) for outcome in others] == [SourceUnavailable] * 3
    assert await _emails(database) == _addresses(1)


async def test_a_failed_creation_can_be_retried_with_its_idempotency_key(
    faulty_database: Database, writer: Writer, admin: ApiKeyOwner
) -> None:
    with pytest.raises(DatabaseFault):
        await writer.write(_creation(admin, FAULTY, key="k"))

    await faulty_database.write(lambda connection: mend_writes(connection, "contacts"))
    outcome = await writer.write(_creation(admin, FAULTY, key="k"))

    assert isinstance(outcome, Created)
    assert not outcome.replayed


@pytest.mark.usefixtures("impatient_store")
async def test_a_locked_database_is_unavailable_to_the_batch_until_it_is_released(
    database: Database, writer: Writer, admin: ApiKeyOwner
) -> None:
    creations = [_creation(admin, email, key=email) for email in _addresses(3)]
    with locked(database.address):
        refused = await _all(writer, creations)
        await writer.close()

    assert all(isinstance(outcome, SourceUnavailable) for outcome in refused)
    assert await _emails(database) == []
    assert all(isinstance(outcome, Created) for outcome in await _all(writer, creations))


class _Recorder:
    """Records the sizes of commits and the kinds of failures."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.commits: list[int] = []
        self.started: list[int] = []

    def batch_started(self, queued: int) -> None:
        self.started.append(queued)

    def committed(self, jobs: int, seconds: float) -> None:
        del seconds
        self.commits.append(jobs)

    def failed(self, kind: str) -> None:
        self.failures.append(kind)


class _CountedPurge:
    """Purges idempotency keys, and counts how often."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, connection: Connection) -> bool:
        self.count += 1
        return idempotency.purge(connection)


@pytest.mark.usefixtures("impatient_store")
async def test_a_lock_fails_the_whole_queue_at_once(database: Database, admin: ApiKeyOwner) -> None:
    """Each further batch would wait for the lock as long, and so would the purge."""
    recorder, purge = _Recorder(), _CountedPurge()
    writer = _writer(database, purge=purge, observer=recorder)
    creations = [_creation(admin, email) for email in _addresses(3 * MAX_BATCH_SIZE)]
    with locked(database.address):
        refused = await _all(writer, creations)
        assert purge.count == 0
    created = await _all(writer, creations)
    await writer.close()

    assert all(isinstance(outcome, SourceUnavailable) for outcome in refused)
    assert all(isinstance(outcome, Created) for outcome in created)
    # As many batches as can be in flight at once have met the lock, and no further ones.
    in_flight = min(3, database.concurrent_writes)
    assert recorder.failures == ["unavailable"] * in_flight
    assert sum(recorder.commits) == 3 * MAX_BATCH_SIZE
    assert purge.count == 1


async def test_a_full_queue_refuses_further_creations(
    database: Database, admin: ApiKeyOwner
) -> None:
    recorder = _Recorder()
    writer = _writer(database, observer=recorder, max_queued=2)
    first, second, third = await _all(writer, [_creation(admin, email) for email in _addresses(3)])
    later = await writer.write(_creation(admin, "later@example.com"))

    assert isinstance(first, Created)
    assert isinstance(second, Created)
    await writer.close()

    assert isinstance(third, SourceUnavailable)
    assert third.reason == "the write queue is full"
    assert recorder.failures == ["turned away"]
    assert isinstance(later, Created)
    assert await _emails(database) == [*_addresses(2), "later@example.com"]


async def test_a_cancelled_caller_does_not_stop_its_creation(
    writer: Writer, database: Database, admin: ApiKeyOwner
) -> None:
    caller = asyncio.create_task(writer.write(_creation(admin, key="k")))
    other = asyncio.create_task(writer.write(_creation(admin, "b@example.com")))
    await checkpoint()

    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    outcome = await other
    repeated = await writer.write(_creation(admin, key="k"))

    assert isinstance(outcome, Created)
    assert isinstance(repeated, Created)
    assert repeated.replayed
    assert await _emails(database) == ["maya@example.com", "b@example.com"]


async def test_an_error_after_its_caller_was_cancelled_fails_no_other_creation(
    faulty_database: Database, writer: Writer, admin: ApiKeyOwner
) -> None:
    caller = asyncio.create_task(writer.write(_creation(admin, FAULTY)))
    other = asyncio.create_task(writer.write(_creation(admin, "b@example.com")))
    await checkpoint()

    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller

    assert isinstance(await other, Created)
    assert await _emails(faulty_database) == ["b@example.com"]


class _PausedCreate:
    """Creates contacts once it may continue."""

    def __init__(self) -> None:
        self.may_continue = threading.Event()

    def __call__(
        self, connection: Connection, jobs: Sequence[Submitted]
    ) -> Sequence[CreateContactOutcome]:
        assert self.may_continue.wait(WITHIN_SECONDS)
        return contacts.create(connection, jobs)


class _PausedOnce(_PausedCreate):
    """Creates contacts, but those of the first batch only once it may continue."""

    def __init__(self) -> None:
        super().__init__()
        self.has_begun = threading.Event()

    def __call__(
        self, connection: Connection, jobs: Sequence[Submitted]
    ) -> Sequence[CreateContactOutcome]:
        if self.has_begun.is_set():
            return contacts.create(connection, jobs)
        self.has_begun.set()
        return super().__call__(connection, jobs)


async def test_a_slow_batch_delays_the_next_only_if_one_connection_writes(
    database: Database, admin: ApiKeyOwner
) -> None:
    create = _PausedOnce()
    writer = _writer(database, apply=create)
    slow = asyncio.create_task(writer.write(_creation(admin, "a@example.com")))
    assert await asyncio.to_thread(create.has_begun.wait, WITHIN_SECONDS)
    next_one = asyncio.create_task(writer.write(_creation(admin, "b@example.com")))
    is_alone = database.concurrent_writes == 1
    if is_alone:
        create.may_continue.set()

    assert isinstance(await next_one, Created)
    assert slow.done() == is_alone
    create.may_continue.set()
    assert isinstance(await slow, Created)
    await writer.close()


async def test_closing_waits_until_the_queue_is_empty(
    database: Database, admin: ApiKeyOwner
) -> None:
    create = _PausedCreate()
    writer = _writer(database, apply=create)
    callers = [
        asyncio.create_task(writer.write(_creation(admin, email)))
        for email in _addresses(MAX_BATCH_SIZE + 1)
    ]
    await checkpoint()
    closing = asyncio.create_task(writer.close())
    assert await _emails(database) == []
    assert not closing.done()

    create.may_continue.set()
    await closing

    assert sorted(await _emails(database)) == sorted(_addresses(MAX_BATCH_SIZE + 1))
    assert all(isinstance(outcome, Created) for outcome in await asyncio.gather(*callers))


async def test_closing_does_not_wait_for_a_disk_that_hangs(
    database: Database, admin: ApiKeyOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "ANSWER_TIMEOUT_SECONDS", 0.05)
    create = _PausedCreate()
    writer = _writer(database, apply=create)
    caller = asyncio.create_task(writer.write(_creation(admin)))
    await checkpoint()

    await writer.close()
    with pytest.raises(SourceUnavailable):
        await caller
    create.may_continue.set()
    await writer.close()


class _PausedEach(_PausedCreate):
    """Creates contacts once it may continue, and counts the batches that have begun."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = threading.Semaphore(0)

    def __call__(
        self, connection: Connection, jobs: Sequence[Submitted]
    ) -> Sequence[CreateContactOutcome]:
        self._begun.release()
        return super().__call__(connection, jobs)

    async def wait_until_begun(self) -> None:
        assert await asyncio.to_thread(self._begun.acquire, timeout=WITHIN_SECONDS)


@pytest.mark.parametrize(
    ("queued", "seconds", "begins"),
    [
        pytest.param(15, 0.01, False, id="few creations and little time"),
        pytest.param(16, 0, True, id="many creations"),
        pytest.param(1, 0.02, True, id="a long time"),
    ],
)
async def test_a_batch_begins_beside_another_if_it_is_worth_it(
    database: Database,
    admin: ApiKeyOwner,
    stopped_clock: ManualClock,
    queued: int,
    seconds: float,
    *,
    begins: bool,
) -> None:
    create, recorder = _PausedEach(), _Recorder()
    writer = _writer(database, apply=create, observer=recorder)
    first, *others = _addresses(1 + queued)
    callers = [asyncio.create_task(writer.write(_creation(admin, first)))]
    await create.wait_until_begun()
    callers += [asyncio.create_task(writer.write(_creation(admin, email))) for email in others]
    await checkpoint()
    await stopped_clock.advance(seconds)
    # More event loop turns than it takes to fill a batch.
    for _ in range(20):
        await checkpoint()

    has_connection = database.concurrent_writes > 1
    assert recorder.started == ([1, queued] if begins and has_connection else [1])
    create.may_continue.set()
    assert all(isinstance(outcome, Created) for outcome in await asyncio.gather(*callers))
    await writer.close()


async def test_while_all_batches_in_flight_are_too_slow_no_creation_waits(
    database: Database, admin: ApiKeyOwner, stopped_clock: ManualClock
) -> None:
    create, recorder = _PausedEach(), _Recorder()
    writer = _writer(database, apply=create, observer=recorder)
    in_flight = _addresses(database.concurrent_writes)
    callers = []
    for email in in_flight:
        callers.append(asyncio.create_task(writer.write(_creation(admin, email))))
        await create.wait_until_begun()
        # After this time, the next batch begins beside those in flight.
        await stopped_clock.advance(0.05)
    callers.append(asyncio.create_task(writer.write(_creation(admin, "queued@example.com"))))
    await checkpoint()

    await stopped_clock.advance(ANSWER_TIMEOUT_SECONDS)
    errors = await asyncio.gather(*callers, return_exceptions=True)
    new = _creation(admin, "new@example.com")
    errors += await _all(writer, [new])
    (together,) = await asyncio.gather(writer.write_together([new]), return_exceptions=True)

    shown = {str(error).partition(": ")[2] for error in (*errors, together)}
    assert shown == {"the store timed out"}
    assert recorder.failures == ["too slow"] * len(in_flight) + ["turned away"] * 2
    create.may_continue.set()
    await writer.close()
    assert isinstance(await writer.write(new), Created)
    await writer.close()
    assert sorted(await _emails(database)) == [*in_flight, "new@example.com"]


async def test_creations_of_one_transaction_are_answered_in_time(
    database: Database, admin: ApiKeyOwner, stopped_clock: ManualClock
) -> None:
    create, recorder = _PausedEach(), _Recorder()
    writer = _writer(database, apply=create, observer=recorder)
    caller = asyncio.create_task(writer.write_together([_creation(admin)]))
    await create.wait_until_begun()

    await stopped_clock.advance(ANSWER_TIMEOUT_SECONDS)
    with pytest.raises(SourceUnavailable, match="the store timed out"):
        await caller
    create.may_continue.set()
    assert recorder.failures == ["too slow"]


class _ContextRecorder(_Recorder):
    """Records the context variables that a log line would have."""

    context: Mapping[str, object] | None = None

    def batch_started(self, queued: int) -> None:
        del queued
        self.context = structlog.contextvars.get_contextvars()


async def test_batches_in_time_do_not_count_as_too_slow_later(
    database: Database, writer: Writer, admin: ApiKeyOwner, stopped_clock: ManualClock
) -> None:
    for email in _addresses(1 + database.concurrent_writes):
        assert isinstance(await writer.write(_creation(admin, email)), Created)
        # It also purges after its first batch.
        await writer.close()
        await stopped_clock.advance(ANSWER_TIMEOUT_SECONDS)

    assert isinstance(await writer.write(_creation(admin, "last@example.com")), Created)


async def test_a_lone_creation_that_raises_is_not_repeated(
    database: Database, admin: ApiKeyOwner
) -> None:
    applied: list[Submitted] = []

    def fail(_: Connection, jobs: Sequence[Submitted]) -> Sequence[CreateContactOutcome]:
        applied.extend(jobs)
        raise LookupError

    recorder = _Recorder()
    writer = _writer(database, apply=fail, observer=recorder)
    with pytest.raises(LookupError):
        await writer.write(_creation(admin))

    assert len(applied) == 1
    assert recorder.failures == ["fault"]


async def test_log_lines_do_not_carry_the_first_callers_request_id(
    database: Database, admin: ApiKeyOwner
) -> None:
    recorder = _ContextRecorder()
    writer = _writer(database, observer=recorder)
    with structlog.contextvars.bound_contextvars(request_id="first"):
        await writer.write(_creation(admin))
    await writer.close()

    assert recorder.context == {}


async def test_an_unused_writer_can_be_closed(database: Database) -> None:
    await _writer(database).close()

    assert await _emails(database) == []


async def _count_idempotency_keys(database: Database) -> int:
    query = select(func.count()).select_from(idempotency_records)
    return await database.read(lambda connection: connection.execute(query).scalar_one())


async def _create_with_an_expired_key(database: Database, admin: ApiKeyOwner) -> None:
    writer = _writer(database)
    await writer.write(_creation(admin, key="old"))
    await writer.close()
    await _expire_idempotency_keys(database)


async def _expire_idempotency_keys(database: Database) -> None:
    then = datetime.now(UTC) - timedelta(days=3)
    expire = update(idempotency_records).values(created_at=then)
    await database.write(lambda connection: connection.execute(expire))


async def test_expired_keys_are_purged_in_parts_after_each_batch(
    database: Database, admin: ApiKeyOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A purge of all at once would delay the queue."""
    monkeypatch.setattr(retention, "PURGE_BATCH_SIZE", 2)
    earlier = _writer(database)
    await _all(earlier, [_creation(admin, email, key=email) for email in _addresses(5)])
    await earlier.close()
    await _expire_idempotency_keys(database)

    purge = _CountedPurge()
    writer = _writer(database, purge=purge)
    for number in range(4):
        await writer.write(_creation(admin, f"later-{number}@example.com"))
    await writer.close()

    assert await _count_idempotency_keys(database) == 0
    assert purge.count == 3


async def test_expired_keys_are_purged_after_a_batch(
    database: Database, admin: ApiKeyOwner
) -> None:
    await _create_with_an_expired_key(database, admin)

    later_writer = _writer(database)
    await later_writer.write(_creation(admin, "b@example.com"))
    await later_writer.close()

    assert await _count_idempotency_keys(database) == 0
    assert await _emails(database) == ["maya@example.com", "b@example.com"]


async def test_a_purge_that_fails_does_not_fail_the_creations(
    database: Database, admin: ApiKeyOwner
) -> None:
    await _create_with_an_expired_key(database, admin)
    await database.write(
        lambda connection: break_writes(connection, "DELETE", "idempotency_records")
    )

    later_writer = _writer(database)
    outcome = await later_writer.write(_creation(admin, "b@example.com"))
    await later_writer.close()

    assert isinstance(outcome, Created)


async def test_a_purge_that_fails_is_not_repeated_after_each_batch(
    database: Database, admin: ApiKeyOwner
) -> None:
    purges: list[Connection] = []

    def fail(connection: Connection) -> bool:
        purges.append(connection)
        raise LookupError

    writer = _writer(database, purge=fail)
    with structlog.testing.capture_logs() as logs:
        for email in _addresses(3):
            await writer.write(_creation(admin, email))
        await writer.close()

    assert len(purges) == 1
    assert [line["event"] for line in logs] == ["purge of expired rows failed; retrying in an hour"]
