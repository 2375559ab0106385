"""The connections to the database: transactions, timeouts, locks, closing."""

import asyncio
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from anyio.lowlevel import checkpoint
from sqlalchemy import URL, Connection, func, insert, select, text
from sqlalchemy.exc import IntegrityError, OperationalError

from contact_gateway.contacts.source import SourceUnavailable
from contact_gateway.settings import UnsupportedDatabaseError, sqlite_url
from contact_gateway.store import sqlite
from contact_gateway.store.sqlite import (
    Database,
    has_wal_reset_bug,
)
from contact_gateway.store.tables import advertisers

pytestmark = pytest.mark.anyio

WITHIN_SECONDS = 60
COUNT = select(func.count()).select_from(advertisers)
ROW = {"id": 7, "name": "Tern", "network_name": "CJ", "folded_names": "tern"}


@pytest.fixture
def file(url: URL) -> Path:
    return Path(str(url.database))


@pytest.fixture
def text_file(file: Path) -> Path:
    file.write_text("This is not a database, at any length. " * 100, encoding="utf-8")
    return file


def _files(file: Path) -> list[str]:
    return sorted(other.name for other in file.parent.iterdir())


@pytest.fixture
def other_process(url: URL) -> Iterator[sqlite3.Connection]:
    """Return a connection such as another process would have."""
    with closing(
        sqlite3.connect(str(url.database), isolation_level=None, check_same_thread=False)
    ) as connection:
        yield connection


async def _pragma(database: Database, name: str, *, writer: bool) -> object:
    work = database.write if writer else database.read
    return await work(lambda connection: connection.scalar(text(f"PRAGMA {name}")))


def _insert_row(connection: Connection, **changed: object) -> None:
    connection.execute(insert(advertisers).values(ROW | changed))


def _rows(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(advertisers)).scalar_one()


async def _insert(database: Database, **changed: object) -> None:
    await database.write(lambda connection: _insert_row(connection, **changed))


async def _count(database: Database) -> int:
    return await database.read(_rows)


async def _disable_lock_retries(database: Database) -> None:
    await database.write(lambda connection: connection.exec_driver_sql("PRAGMA busy_timeout=0"))


@pytest.mark.parametrize(
    ("given", "file"),
    [
        ("sqlite+aiosqlite:///gw.db", "gw.db"),
        ("sqlite:///gw.db", "gw.db"),
        ("sqlite+aiosqlite:////var/lib/gw.db", "/var/lib/gw.db"),
    ],
)
async def test_an_sqlite_url_names_a_file(given: str, file: str) -> None:
    assert sqlite_url(given).database == file


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        pytest.param("", "not a database URL", id="empty"),
        pytest.param("gw.db", "not a database URL", id="a path"),
        pytest.param("sqlite+aiosqlite://", "must name a file", id="no file"),
        pytest.param("sqlite://", "must name a file", id="no file, plain"),
        pytest.param("sqlite+aiosqlite:///:memory:", "must name a file", id="memory"),
        pytest.param("postgresql+asyncpg://h/db", "PostgreSQL is not supported", id="PostgreSQL"),
        pytest.param("postgresql://h/db", "PostgreSQL is not supported", id="PostgreSQL, plain"),
        pytest.param("mysql+aiomysql://h/db", "only sqlite", id="MySQL"),
        pytest.param("sqlite+pysqlcipher:///gw.db", "only sqlite", id="another driver"),
    ],
)
async def test_any_other_url_is_refused_with_a_reason(given: str, reason: str) -> None:
    with pytest.raises(UnsupportedDatabaseError, match=reason):
        sqlite_url(given)


@pytest.mark.parametrize(
    ("version", "expected"),
    [((3, 40, 1), True), ((3, 51, 2), True), ((3, 51, 3), False), ((3, 52, 0), False)],
)
async def test_sqlite_before_3_51_3_has_the_wal_reset_bug(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int], *, expected: bool
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)

    assert has_wal_reset_bug() == expected


async def test_the_file_is_not_opened_before_it_is_used(url: URL, file: Path) -> None:
    database = Database(url)

    await database.close()

    assert _files(file) == []


async def test_a_check_keeps_the_locks_of_the_process(database: Database, file: Path) -> None:
    """Closing the file would drop them, and another process would take it for unused."""
    await _insert(database)
    database.check()
    other = (
        "import sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], timeout=0)\n"
        "connection.execute('PRAGMA journal_mode=DELETE')\n"
    )
    command = (sys.executable, "-c", other, file)
    ran = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False)

    assert b"database is locked" in ran.stderr


@pytest.mark.parametrize(
    ("pragma", "value"),
    [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", 5000)],
)
async def test_the_writer_is_durable_and_enforces_foreign_keys(
    database: Database, pragma: str, value: object
) -> None:
    assert await _pragma(database, pragma, writer=True) == value


@pytest.mark.parametrize(
    ("pragma", "value"),
    [
        ("journal_mode", "wal"),
        ("query_only", 1),
        ("wal_autocheckpoint", 0),
        ("foreign_keys", 1),
        ("busy_timeout", 5000),
    ],
)
async def test_readers_neither_write_nor_checkpoint(
    database: Database, pragma: str, value: object
) -> None:
    await _count(database)

    assert await _pragma(database, pragma, writer=False) == value


async def test_a_reader_cannot_write(database: Database) -> None:
    before = await _count(database)

    with pytest.raises(SourceUnavailable) as refused:
        await database.read(_insert_row)

    assert "readonly" in str(refused.value.__cause__)
    assert await _count(database) == before


async def test_a_row_that_refers_to_a_missing_row_is_refused(database: Database) -> None:
    with pytest.raises(IntegrityError, match="FOREIGN KEY"):
        await _insert(database, hienergy_id=404)


async def test_an_exception_does_not_contain_what_callers_sent(database: Database) -> None:
    with pytest.raises(IntegrityError) as refused:
        await _insert(database, name="a secret", hienergy_id=404)

    assert "a secret" not in str(refused.value)


async def test_committed_rows_survive_a_restart(url: URL, database: Database) -> None:
    await _insert(database)
    count = await _count(database)
    await database.close()

    again = Database(url)

    assert await _count(again) == count
    await again.close()


async def test_a_transaction_that_fails_is_rolled_back(database: Database) -> None:
    before = await _count(database)

    def insert_and_fail(connection: Connection) -> None:
        _insert_row(connection)
        raise LookupError

    with pytest.raises(LookupError):
        await database.write(insert_and_fail)

    assert await _count(database) == before


async def test_readers_do_not_see_uncommitted_rows(database: Database) -> None:
    before = await _count(database)

    loop = asyncio.get_running_loop()

    def insert_and_count(connection: Connection) -> int:
        _insert_row(connection)
        return asyncio.run_coroutine_threadsafe(_count(database), loop).result(WITHIN_SECONDS)

    assert await database.write(insert_and_count) == before
    assert await _count(database) == before + 1


async def test_a_read_sees_one_snapshot_in_spite_of_a_commit_meanwhile(
    database: Database,
) -> None:
    loop = asyncio.get_running_loop()

    def read_twice(connection: Connection) -> tuple[int, int]:
        before = _rows(connection)
        asyncio.run_coroutine_threadsafe(_insert(database), loop).result(WITHIN_SECONDS)
        return before, _rows(connection)

    before, after = await database.read(read_twice)

    assert before == after
    assert await _count(database) == before + 1


async def test_more_readers_than_connections_take_turns(database: Database) -> None:
    counts = await asyncio.gather(*(_count(database) for _ in range(50)))

    assert counts == [await _count(database)] * 50


@pytest.fixture
def short_busy_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_SECONDS", 0.05)


@pytest.mark.usefixtures("short_busy_timeout")
async def test_a_caller_waits_for_a_free_connection_up_to_the_busy_timeout(
    database: Database,
) -> None:
    may_end = threading.Event()
    long_writing = asyncio.create_task(database.write(lambda _: may_end.wait(WITHIN_SECONDS)))
    await checkpoint()

    with pytest.raises(SourceUnavailable, match="in use"):
        await _insert(database)
    may_end.set()
    await long_writing
    await _insert(database)


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


async def test_a_write_takes_the_lock_when_it_begins(
    database: Database, other_process: sqlite3.Connection
) -> None:
    other_process.execute("PRAGMA busy_timeout=0")

    def try_to_begin(_: Connection) -> None:
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other_process.execute("BEGIN IMMEDIATE")

    await database.write(try_to_begin)


async def test_closing_removes_the_wal_file(database: Database, file: Path) -> None:
    await _insert(database)
    assert f"{file.name}-wal" in _files(file)

    await database.close()

    assert _files(file) == [file.name]


async def test_a_cancelled_write_is_rolled_back(database: Database) -> None:
    """Such as an import that is interrupted."""
    before = await _count(database)
    has_begun, may_go_on = threading.Event(), threading.Event()

    def insert_slowly(connection: Connection) -> None:
        _insert_row(connection)
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
        _insert_row(connection)
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
    has_begun, may_end = threading.Event(), threading.Event()

    def write_slowly(_: Connection) -> None:
        has_begun.set()
        assert may_end.wait(WITHIN_SECONDS)

    cancelled = asyncio.create_task(database.write(write_slowly))
    assert await asyncio.to_thread(has_begun.wait, WITHIN_SECONDS)
    cancelled.cancel()
    await asyncio.wait({cancelled})

    with pytest.raises(SourceUnavailable, match="in use"):
        await _insert(database)
    may_end.set()


async def test_a_read_that_times_out_is_unavailable(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "ANSWER_TIMEOUT_SECONDS", 0.01)
    may_end = threading.Event()

    for read in (database.read, database.look_up):
        with pytest.raises(SourceUnavailable, match="timed out"):
            await read(lambda _: may_end.wait(WITHIN_SECONDS))
    may_end.set()


def test_an_answer_to_a_closed_event_loop_is_dropped(url: URL) -> None:
    database = Database(url)
    may_end = threading.Event()

    async def start_a_read() -> None:
        reading = asyncio.create_task(database.read(lambda _: may_end.wait(WITHIN_SECONDS)))
        await checkpoint()
        assert not reading.done()

    asyncio.run(start_a_read())
    may_end.set()

    # The thread raises nothing, which would fail this test, and closes its connection.
    asyncio.run(database.close())


async def test_a_commit_that_fails_is_rolled_back(database: Database) -> None:
    """In this test, by a constraint that is checked at the commit."""

    def insert_a_dangling_row(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
        connection.execute(insert(advertisers).values({**ROW, "hienergy_id": 404}))

    before = await _count(database)
    with pytest.raises(IntegrityError):
        await database.write(insert_a_dangling_row)

    await _insert(database)

    assert await _count(database) == before + 1


async def test_closing_waits_for_a_connection_that_is_in_use(
    database: Database, file: Path
) -> None:
    await _insert(database)
    has_begun, may_end = threading.Event(), threading.Event()

    def read_slowly(connection: Connection) -> int:
        count = connection.scalar(select(func.count()).select_from(advertisers))
        has_begun.set()
        assert may_end.wait(WITHIN_SECONDS)
        return int(count or 0)

    reading = asyncio.create_task(database.read(read_slowly))
    assert await asyncio.to_thread(has_begun.wait, WITHIN_SECONDS)
    closing = asyncio.create_task(database.close())
    await checkpoint()
    may_end.set()
    await closing

    assert await reading > 0
    assert _files(file) == [file.name]


async def test_closing_does_not_wait_for_a_connection_that_hangs(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_SECONDS", 0.01)
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


async def test_a_write_to_a_locked_database_is_unavailable(
    database: Database, other_process: sqlite3.Connection
) -> None:
    await _disable_lock_retries(database)
    other_process.execute("BEGIN IMMEDIATE")

    with pytest.raises(SourceUnavailable) as refused:
        await _insert(database)

    assert isinstance(refused.value.__cause__, OperationalError)
    assert "locked" in str(refused.value.__cause__)
    assert refused.value.retry_after_seconds >= 1


async def test_a_connection_that_hangs_does_not_keep_the_process_from_ending(
    database: Database,
) -> None:
    await _count(database)

    threads = [thread for thread in threading.enumerate() if thread.name.startswith("sqlite")]
    assert threads
    assert all(thread.daemon for thread in threads)


async def test_a_locked_database_can_be_read(
    database: Database, other_process: sqlite3.Connection
) -> None:
    before = await _count(database)
    other_process.execute("BEGIN IMMEDIATE")
    other_process.execute("DELETE FROM advertisers WHERE id = 3001")

    assert await _count(database) == before


async def test_a_write_succeeds_after_the_lock_is_released(
    database: Database, other_process: sqlite3.Connection
) -> None:
    await _disable_lock_retries(database)
    before = await _count(database)
    other_process.execute("BEGIN IMMEDIATE")
    with pytest.raises(SourceUnavailable):
        await _insert(database)

    other_process.execute("ROLLBACK")
    await _insert(database)

    assert await _count(database) == before + 1


async def test_a_database_in_a_missing_folder_is_unavailable(
    unreachable_database: Database,
) -> None:
    with pytest.raises(SourceUnavailable, match="SQLITE_CANTOPEN"):
        await _count(unreachable_database)


async def test_a_connection_that_could_not_be_opened_is_opened_again(
    unreachable_database: Database, prepared_file: Path
) -> None:
    with pytest.raises(SourceUnavailable):
        await unreachable_database.look_up(_rows)

    file = Path(str(unreachable_database.url.database))
    file.parent.mkdir()
    shutil.copy(prepared_file, file)

    assert await unreachable_database.look_up(_rows) > 0


async def test_a_check_of_a_file_that_cannot_be_created_says_why(
    unreachable_database: Database,
) -> None:
    with pytest.raises(SourceUnavailable) as refused:
        unreachable_database.check()

    assert "unable to open" in str(refused.value.__cause__)


async def test_a_check_of_a_file_that_is_not_a_database_says_why(
    empty_database: Database, text_file: Path
) -> None:
    with pytest.raises(SourceUnavailable) as refused:
        empty_database.check()

    assert "not a database" in str(refused.value.__cause__)
    assert _files(text_file) == [text_file.name]


async def test_a_check_of_a_database_passes(database: Database) -> None:
    database.check()

    assert await _count(database) > 0
