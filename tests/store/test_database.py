"""The connections to the database: transactions, timeouts, locks, closing."""

import asyncio
import threading
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import pytest
from anyio.lowlevel import checkpoint
from sqlalchemy import Connection, Table, event, func, select, text
from sqlalchemy import Engine as SqlalchemyEngine

from contact_gateway.contacts.source import SourceUnavailable
from contact_gateway.store import connection_threads
from contact_gateway.store import database as database_module
from contact_gateway.store.connection_threads import DatabaseFault, LostRaceError
from contact_gateway.store.database import Database, open_database
from contact_gateway.store.tables import attempts
from support.advertiser_rows import COUNT, count_advertisers, count_rows, insert_one, insert_row
from support.clock import ManualClock
from support.databases import PREPARES_STATEMENTS, database_at, locked

pytestmark = pytest.mark.anyio

WITHIN_SECONDS = 60


async def test_a_row_that_refers_to_a_missing_row_is_refused(database: Database) -> None:
    with pytest.raises(DatabaseFault, match=r"(?i)foreign key"):
        await insert_one(database, hienergy_id=404)


async def test_an_exception_does_not_contain_what_callers_sent(database: Database) -> None:
    with pytest.raises(DatabaseFault) as refused:
        await insert_one(database, name="a secret", hienergy_id=404)

    assert "a secret" not in str(refused.value)


async def test_committed_rows_survive_a_restart(database: Database) -> None:
    await insert_one(database)
    rows = await count_advertisers(database)
    await database.close()

    again = database_at(database.address)

    assert await count_advertisers(again) == rows
    await again.close()


async def test_a_transaction_that_fails_is_rolled_back(database: Database) -> None:
    before = await count_advertisers(database)

    def insert_and_fail(connection: Connection) -> None:
        insert_row(connection)
        raise LookupError

    with pytest.raises(LookupError):
        await database.write(insert_and_fail)

    assert await count_advertisers(database) == before


async def test_readers_do_not_see_uncommitted_rows(database: Database) -> None:
    before = await count_advertisers(database)

    loop = asyncio.get_running_loop()

    def insert_and_count(connection: Connection) -> int:
        insert_row(connection)
        return asyncio.run_coroutine_threadsafe(count_advertisers(database), loop).result(
            WITHIN_SECONDS
        )

    assert await database.write(insert_and_count) == before
    assert await count_advertisers(database) == before + 1


async def test_a_read_sees_one_snapshot_in_spite_of_a_commit_meanwhile(
    database: Database,
) -> None:
    loop = asyncio.get_running_loop()

    def read_twice(connection: Connection) -> tuple[int, int]:
        before = count_rows(connection)
        asyncio.run_coroutine_threadsafe(insert_one(database), loop).result(WITHIN_SECONDS)
        return before, count_rows(connection)

    before, after = await database.read(read_twice)

    assert before == after
    assert await count_advertisers(database) == before + 1


async def test_more_readers_than_connections_take_turns(database: Database) -> None:
    counts = await asyncio.gather(*(count_advertisers(database) for _ in range(50)))

    assert counts == [await count_advertisers(database)] * 50


@pytest.fixture
def short_busy_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_threads, "CONNECTION_TIMEOUT_SECONDS", 0.05)


@pytest.mark.usefixtures("short_busy_timeout")
async def test_a_caller_waits_for_a_free_connection_up_to_the_busy_timeout(
    database: Database,
) -> None:
    may_end = threading.Event()
    long_writing = [
        asyncio.create_task(database.write(lambda _: may_end.wait(WITHIN_SECONDS)))
        for _ in range(database.concurrent_writes)
    ]
    await checkpoint()

    with pytest.raises(SourceUnavailable, match="in use"):
        await insert_one(database)
    may_end.set()
    await asyncio.gather(*long_writing)
    await insert_one(database)


@pytest.mark.usefixtures("short_busy_timeout")
async def test_a_lookup_does_not_wait_for_searches(database: Database) -> None:
    may_end = threading.Event()
    searches = [
        asyncio.create_task(database.read(lambda _: may_end.wait(WITHIN_SECONDS)))
        for _ in range(10)
    ]
    await checkpoint()

    assert await database.look_up(lambda connection: connection.scalar(text("SELECT 1"))) == 1
    may_end.set()
    await asyncio.gather(*searches, return_exceptions=True)


async def test_a_cancelled_write_is_rolled_back(database: Database) -> None:
    """Such as an import that is interrupted."""
    before = await count_advertisers(database)
    has_begun, may_go_on = threading.Event(), threading.Event()

    def insert_slowly(connection: Connection) -> None:
        insert_row(connection)
        has_begun.set()
        assert may_go_on.wait(WITHIN_SECONDS)

    writing = asyncio.create_task(database.write(insert_slowly))
    assert await asyncio.to_thread(has_begun.wait, WITHIN_SECONDS)
    writing.cancel()
    await asyncio.wait({writing})
    may_go_on.set()

    assert writing.cancelled()
    assert await database.write(lambda connection: connection.scalar(COUNT)) == before


async def test_a_cancelled_write_stops_before_its_next_statement(
    database: Database,
) -> None:
    has_begun, may_go_on = threading.Event(), threading.Event()
    has_gone_on = threading.Event()

    def write_slowly(connection: Connection) -> None:
        has_begun.set()
        assert may_go_on.wait(WITHIN_SECONDS)
        insert_row(connection)
        has_gone_on.set()

    writing = asyncio.create_task(database.write(write_slowly))
    assert await asyncio.to_thread(has_begun.wait, WITHIN_SECONDS)
    writing.cancel()
    await asyncio.wait({writing})
    may_go_on.set()
    await database.write(lambda connection: connection.scalar(COUNT))

    assert not has_gone_on.is_set()


@pytest.mark.usefixtures("short_busy_timeout")
async def test_a_cancelled_write_occupies_its_connection_until_it_ends(database: Database) -> None:
    begun, may_end = threading.Semaphore(0), threading.Event()

    def write_slowly(_: Connection) -> None:
        begun.release()
        assert may_end.wait(WITHIN_SECONDS)

    cancelled = [
        asyncio.create_task(database.write(write_slowly)) for _ in range(database.concurrent_writes)
    ]
    for _ in cancelled:
        assert await asyncio.to_thread(begun.acquire, timeout=WITHIN_SECONDS)
    for writing in cancelled:
        writing.cancel()
    await asyncio.wait(cancelled)

    with pytest.raises(SourceUnavailable, match="in use"):
        await insert_one(database)
    may_end.set()


async def test_a_read_that_times_out_is_unavailable(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "ANSWER_TIMEOUT_SECONDS", 0.01)
    may_end = threading.Event()

    for read in (database.read, database.look_up):
        with pytest.raises(SourceUnavailable, match="timed out"):
            await read(lambda _: may_end.wait(WITHIN_SECONDS))
    may_end.set()


def test_an_answer_to_a_closed_event_loop_is_dropped(tmp_path: Path) -> None:
    database = database_at(f"sqlite:///{tmp_path / 'store.db'}")
    may_end = threading.Event()

    async def start_a_read() -> None:
        reading = asyncio.create_task(database.read(lambda _: may_end.wait(WITHIN_SECONDS)))
        await checkpoint()
        assert not reading.done()

    asyncio.run(start_a_read())
    may_end.set()

    # The thread raises nothing, which would fail this test, and closes its connection.
    asyncio.run(database.close())


async def test_closing_does_not_wait_for_a_connection_that_hangs(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_threads, "CONNECTION_TIMEOUT_SECONDS", 0.01)
    has_begun, may_end = threading.Event(), threading.Event()

    def hang(_: Connection) -> None:
        has_begun.set()
        assert may_end.wait(WITHIN_SECONDS)

    reading = asyncio.create_task(database.read(hang))
    assert await asyncio.to_thread(has_begun.wait, WITHIN_SECONDS)

    await database.close()

    assert not reading.done()
    may_end.set()
    await reading


async def test_a_connection_that_hangs_does_not_keep_the_process_from_ending(
    database: Database,
) -> None:
    await count_advertisers(database)

    threads = [
        thread for thread in threading.enumerate() if thread.name.endswith(database.address.label)
    ]
    assert threads
    assert all(thread.daemon for thread in threads)


class _Recorder:
    """Records the events of connections."""

    def __init__(self) -> None:
        self.most_in_use: dict[str, int] = {}
        self.repeated: list[str] = []

    def connections_changed(self, pool: str, in_use: int) -> None:
        self.most_in_use[pool] = max(in_use, self.most_in_use.get(pool, 0))

    def transaction_repeated(self, cause: str) -> None:
        self.repeated.append(cause)


@pytest.fixture
async def recorder(database: Database) -> AsyncIterator[tuple[Database, _Recorder]]:
    """Return the database, and a recorder of its events."""
    recorder = _Recorder()
    observed = open_database(database.address, recorder, prepares_statements=PREPARES_STATEMENTS)
    yield observed, recorder
    await observed.close()


async def test_the_connections_in_use_are_reported(recorder: tuple[Database, _Recorder]) -> None:
    database, recorded = recorder

    await asyncio.gather(*(count_advertisers(database) for _ in range(20)), insert_one(database))

    assert recorded.most_in_use.keys() == {"read", "write"}
    assert recorded.most_in_use["read"] > 1
    assert recorded.most_in_use["write"] == 1


async def test_a_lost_race_is_rolled_back_and_run_again(
    recorder: tuple[Database, _Recorder],
) -> None:
    database, recorded = recorder
    before = await count_advertisers(database)
    runs = count()

    def lose_twice(connection: Connection) -> None:
        insert_row(connection)
        if next(runs) < 2:
            raise LostRaceError

    await database.write(lose_twice)

    assert await count_advertisers(database) == before + 1
    assert recorded.repeated == ["lost race", "lost race"]


async def test_a_transaction_that_loses_every_race_is_unavailable(database: Database) -> None:
    before = await count_advertisers(database)

    def lose(connection: Connection) -> None:
        insert_row(connection)
        raise LostRaceError

    with pytest.raises(SourceUnavailable, match="won every race"):
        await database.write(lose)

    assert await count_advertisers(database) == before


async def test_whether_writes_are_committed_is_tried_unless_one_was_just_now(
    database: Database, stopped_clock: ManualClock
) -> None:
    writes: list[str] = []

    def record(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        writes.append(statement)

    await insert_one(database)
    event.listen(SqlalchemyEngine, "after_cursor_execute", record)
    assert await database.can_write()
    assert writes == []

    stopped_clock.seconds += 10
    assert await database.can_write()
    event.remove(SqlalchemyEngine, "after_cursor_execute", record)
    assert writes
    assert await database.read(lambda connection: _rows_of(connection, attempts)) == 0


@pytest.mark.usefixtures("impatient_store")
async def test_a_locked_database_cannot_be_written(database: Database) -> None:
    with locked(database.address):
        assert not await database.can_write()

    assert await database.can_write()


def _rows_of(connection: Connection, table: Table) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()
