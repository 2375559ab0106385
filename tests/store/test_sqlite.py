import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from anyio.lowlevel import checkpoint
from sqlalchemy import URL, Connection, func, insert, select, text
from sqlalchemy.exc import IntegrityError, OperationalError

from contact_gateway.contacts.source import SourceUnavailable
from contact_gateway.store import sqlite
from contact_gateway.store.sqlite import (
    Database,
    UnsupportedDatabaseError,
    has_wal_reset_bug,
    sqlite_url,
)
from contact_gateway.store.tables import advertisers

pytestmark = pytest.mark.anyio

WITHIN_SECONDS = 10
COUNT = select(func.count()).select_from(advertisers)
ROW = {"id": 7, "name": "Tern", "network_name": "CJ", "folded_names": "tern"}


@pytest.fixture
def file(url: URL) -> Path:
    return Path(str(url.database))


@pytest.fixture
def text_file(file: Path) -> Path:
    file.write_text("This is no database, however long it may be. " * 100, encoding="utf-8")
    return file


def _files(file: Path) -> list[str]:
    return sorted(other.name for other in file.parent.iterdir())


@pytest.fixture
def somebody_else(url: URL) -> Iterator[sqlite3.Connection]:
    """Connect as another process would."""
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


async def _do_not_wait_for_locks(database: Database) -> None:
    await database.write(lambda connection: connection.exec_driver_sql("PRAGMA busy_timeout=0"))


@pytest.mark.parametrize(
    ("given", "file"),
    [
        ("sqlite+aiosqlite:///gw.db", "gw.db"),
        ("sqlite:///gw.db", "gw.db"),
        ("sqlite+aiosqlite:////var/lib/gw.db", "/var/lib/gw.db"),
    ],
)
async def test_an_sqlite_file_is_taken(given: str, file: str) -> None:
    url = sqlite_url(given)

    assert (url.drivername, url.database) == ("sqlite+aiosqlite", file)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        pytest.param("", "not a database URL", id="nothing"),
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
async def test_any_other_database_is_refused_with_a_reason(given: str, reason: str) -> None:
    with pytest.raises(UnsupportedDatabaseError, match=reason):
        sqlite_url(given)


@pytest.mark.parametrize(
    ("version", "has_it"),
    [((3, 40, 1), True), ((3, 51, 2), True), ((3, 51, 3), False), ((3, 52, 0), False)],
)
async def test_an_sqlite_before_the_mended_one_has_the_wal_reset_bug(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int], *, has_it: bool
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)

    assert has_wal_reset_bug() == has_it


async def test_nothing_is_touched_before_it_is_used(url: URL, file: Path) -> None:
    database = Database(url)

    await database.close()

    assert _files(file) == []


@pytest.mark.parametrize(
    ("pragma", "value"),
    [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", 5000)],
)
async def test_the_writer_is_durable_and_keeps_foreign_keys(
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


async def test_a_row_that_names_nothing_is_refused(database: Database) -> None:
    with pytest.raises(IntegrityError, match="FOREIGN KEY"):
        await _insert(database, hienergy_id=404)


async def test_an_exception_does_not_tell_what_callers_sent(database: Database) -> None:
    with pytest.raises(IntegrityError) as refused:
        await _insert(database, name="a secret", hienergy_id=404)

    assert "a secret" not in str(refused.value)


async def test_what_was_written_is_there_after_the_file_is_opened_again(
    url: URL, database: Database
) -> None:
    await _insert(database)
    count = await _count(database)
    await database.close()

    again = Database(url)

    assert await _count(again) == count
    await again.close()


async def test_a_transaction_that_fails_leaves_nothing_behind(database: Database) -> None:
    before = await _count(database)

    def insert_and_fail(connection: Connection) -> None:
        _insert_row(connection)
        raise LookupError

    with pytest.raises(LookupError):
        await database.write(insert_and_fail)

    assert await _count(database) == before


async def test_readers_see_nothing_before_the_commit(database: Database) -> None:
    before = await _count(database)

    loop = asyncio.get_running_loop()

    def insert_and_ask_a_reader(connection: Connection) -> int:
        _insert_row(connection)
        return asyncio.run_coroutine_threadsafe(_count(database), loop).result(WITHIN_SECONDS)

    assert await database.write(insert_and_ask_a_reader) == before
    assert await _count(database) == before + 1


async def test_a_reading_is_of_one_moment_whatever_is_written_meanwhile(
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


async def test_as_many_as_want_to_read_at_once_take_turns(database: Database) -> None:
    counts = await asyncio.gather(*(_count(database) for _ in range(50)))

    assert counts == [await _count(database)] * 50


@pytest.fixture
def impatient_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_SECONDS", 0.05)


@pytest.mark.usefixtures("impatient_callers")
async def test_who_finds_all_connections_in_use_for_too_long_is_told(database: Database) -> None:
    may_end = threading.Event()
    long_writing = asyncio.create_task(database.write(lambda _: may_end.wait(WITHIN_SECONDS)))
    await checkpoint()

    with pytest.raises(SourceUnavailable, match="in use"):
        await _insert(database)
    may_end.set()
    await long_writing
    await _insert(database)


@pytest.mark.usefixtures("impatient_callers")
async def test_who_looks_up_a_record_does_not_wait_for_who_searches(database: Database) -> None:
    may_end = threading.Event()
    searches = [
        asyncio.create_task(database.read(lambda _: may_end.wait(WITHIN_SECONDS)))
        for _ in range(10)
    ]
    await checkpoint()

    assert await database.look_up(lambda connection: connection.scalar(text("SELECT 1"))) == 1
    may_end.set()
    await asyncio.gather(*searches, return_exceptions=True)


async def test_a_transaction_that_writes_locks_others_out_from_its_start(
    database: Database, somebody_else: sqlite3.Connection
) -> None:
    somebody_else.execute("PRAGMA busy_timeout=0")

    def let_somebody_else_try(_: Connection) -> None:
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            somebody_else.execute("BEGIN IMMEDIATE")

    await database.write(let_somebody_else_try)


async def test_closing_tidies_up_the_log(database: Database, file: Path) -> None:
    await _insert(database)
    assert f"{file.name}-wal" in _files(file)

    await database.close()

    assert _files(file) == [file.name]


async def test_what_nobody_waits_for_any_more_is_not_committed(database: Database) -> None:
    """As an import that is broken off: all of it or nothing."""
    before = await _count(database)
    has_begun, may_go_on = threading.Event(), threading.Event()

    def insert_slowly(connection: Connection) -> None:
        _insert_row(connection)
        has_begun.set()
        assert may_go_on.wait(10)

    writing = asyncio.create_task(database.write(insert_slowly))
    assert await asyncio.to_thread(has_begun.wait, 10)
    writing.cancel()
    await asyncio.wait({writing})
    may_go_on.set()

    assert writing.cancelled()
    assert await database.write(lambda connection: connection.scalar(COUNT)) == before


async def test_what_nobody_waits_for_any_more_ends_before_its_next_statement(
    database: Database,
) -> None:
    has_begun, may_go_on = threading.Event(), threading.Event()
    has_gone_on = threading.Event()

    def write_slowly(connection: Connection) -> None:
        has_begun.set()
        assert may_go_on.wait(10)
        _insert_row(connection)
        has_gone_on.set()

    writing = asyncio.create_task(database.write(write_slowly))
    assert await asyncio.to_thread(has_begun.wait, 10)
    writing.cancel()
    await asyncio.wait({writing})
    may_go_on.set()
    await database.write(lambda connection: connection.scalar(COUNT))

    assert not has_gone_on.is_set()


async def test_a_commit_that_fails_is_rolled_back(database: Database) -> None:
    """Here by a constraint that is checked at the commit."""

    def defer_and_break(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
        connection.execute(insert(advertisers).values({**ROW, "hienergy_id": 404}))

    before = await _count(database)
    with pytest.raises(IntegrityError):
        await database.write(defer_and_break)

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
        assert may_end.wait(10)
        return int(count or 0)

    reading = asyncio.create_task(database.read(read_slowly))
    assert await asyncio.to_thread(has_begun.wait, 10)
    closing = asyncio.create_task(database.close())
    await checkpoint()
    may_end.set()
    await closing

    assert await reading > 0
    assert _files(file) == [file.name]


async def test_what_hangs_is_left_alone_when_the_database_is_closed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_SECONDS", 0.01)
    has_begun, may_end = threading.Event(), threading.Event()

    def hang(_: Connection) -> None:
        has_begun.set()
        assert may_end.wait(10)

    reading = asyncio.create_task(database.read(hang))
    assert await asyncio.to_thread(has_begun.wait, 10)

    await database.close()

    assert not reading.done()
    may_end.set()
    await reading


async def test_a_locked_database_is_unavailable_to_writers(
    database: Database, somebody_else: sqlite3.Connection
) -> None:
    await _do_not_wait_for_locks(database)
    somebody_else.execute("BEGIN IMMEDIATE")

    with pytest.raises(SourceUnavailable) as refused:
        await _insert(database)

    assert isinstance(refused.value.__cause__, OperationalError)
    assert "locked" in str(refused.value.__cause__)
    assert refused.value.retry_after_seconds >= 1


async def test_a_locked_database_still_answers_readers(
    database: Database, somebody_else: sqlite3.Connection
) -> None:
    before = await _count(database)
    somebody_else.execute("BEGIN IMMEDIATE")
    somebody_else.execute("DELETE FROM advertisers WHERE id = 3001")

    assert await _count(database) == before


async def test_writing_goes_on_when_the_lock_is_gone(
    database: Database, somebody_else: sqlite3.Connection
) -> None:
    await _do_not_wait_for_locks(database)
    before = await _count(database)
    somebody_else.execute("BEGIN IMMEDIATE")
    with pytest.raises(SourceUnavailable):
        await _insert(database)

    somebody_else.execute("ROLLBACK")
    await _insert(database)

    assert await _count(database) == before + 1


async def test_a_database_whose_folder_is_not_there_is_unavailable(
    unreachable_database: Database,
) -> None:
    with pytest.raises(SourceUnavailable):
        await _count(unreachable_database)


async def test_a_check_of_a_file_that_cannot_be_made_says_why(
    unreachable_database: Database,
) -> None:
    with pytest.raises(SourceUnavailable) as refused:
        unreachable_database.check()

    assert "unable to open" in str(refused.value.__cause__)


async def test_a_check_of_a_file_that_is_no_database_says_why(
    empty_database: Database, text_file: Path
) -> None:
    with pytest.raises(SourceUnavailable) as refused:
        empty_database.check()

    assert "not a database" in str(refused.value.__cause__)
    assert _files(text_file) == [text_file.name]


async def test_a_check_of_a_database_passes(database: Database) -> None:
    database.check()

    assert await _count(database) > 0
