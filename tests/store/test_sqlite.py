"""What SQLite does in its own way: its file, its locks and its pragmas."""

import asyncio
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from anyio.lowlevel import checkpoint
from sqlalchemy import Connection, func, insert, select, text

from contact_gateway.contacts.source import SourceUnavailable
from contact_gateway.store import sqlite
from contact_gateway.store.connection_threads import DatabaseFault
from contact_gateway.store.database import Database
from contact_gateway.store.sqlite import has_wal_reset_bug
from contact_gateway.store.tables import advertisers
from support.advertiser_rows import ROW, count_advertisers, count_rows, insert_one, insert_row
from support.databases import Engine, database_at

pytestmark = pytest.mark.anyio

WITHIN_SECONDS = 60


@pytest.fixture
def engine() -> Engine:
    """Run these tests on SQLite alone."""
    return Engine.SQLITE


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def text_file(file: Path) -> Path:
    file.write_text("This is not a database, at any length. " * 100, encoding="utf-8")
    return file


def _files(file: Path) -> list[str]:
    return sorted(other.name for other in file.parent.iterdir())


@pytest.fixture
def other_process(file: Path) -> Iterator[sqlite3.Connection]:
    """Return a connection such as another process would have."""
    with closing(
        sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    ) as connection:
        yield connection


async def _pragma(database: Database, name: str, *, writer: bool) -> object:
    work = database.write if writer else database.read
    return await work(lambda connection: connection.scalar(text(f"PRAGMA {name}")))


async def _disable_lock_retries(database: Database) -> None:
    await database.write(lambda connection: connection.exec_driver_sql("PRAGMA busy_timeout=0"))


@pytest.mark.parametrize(
    ("version", "expected"),
    [((3, 40, 1), True), ((3, 51, 2), True), ((3, 51, 3), False), ((3, 52, 0), False)],
)
async def test_sqlite_before_3_51_3_has_the_wal_reset_bug(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int], *, expected: bool
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)

    assert has_wal_reset_bug() == expected


async def test_the_file_is_not_opened_before_it_is_used(file: Path) -> None:
    database = database_at(f"sqlite:///{file}")

    await database.close()

    assert _files(file) == []


async def test_a_check_keeps_the_locks_of_the_process(database: Database, file: Path) -> None:
    """Closing the file would drop them, and another process would take it for unused."""
    await insert_one(database)
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
    await count_advertisers(database)

    assert await _pragma(database, pragma, writer=False) == value


async def test_a_reader_cannot_write(database: Database) -> None:
    before = await count_advertisers(database)

    with pytest.raises(SourceUnavailable) as refused:
        await database.read(insert_row)

    assert "readonly" in str(refused.value.__cause__)
    assert await count_advertisers(database) == before


async def test_a_write_takes_the_lock_when_it_begins(
    database: Database, other_process: sqlite3.Connection
) -> None:
    other_process.execute("PRAGMA busy_timeout=0")

    def try_to_begin(_: Connection) -> None:
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other_process.execute("BEGIN IMMEDIATE")

    await database.write(try_to_begin)


async def test_closing_removes_the_wal_file(database: Database, file: Path) -> None:
    await insert_one(database)
    assert f"{file.name}-wal" in _files(file)

    await database.close()

    assert _files(file) == [file.name]


async def test_a_commit_that_fails_is_rolled_back(database: Database) -> None:
    """In this test, by a constraint that is checked at the commit."""

    def insert_a_dangling_row(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
        connection.execute(insert(advertisers).values({**ROW, "hienergy_id": 404}))

    before = await count_advertisers(database)
    with pytest.raises(DatabaseFault):
        await database.write(insert_a_dangling_row)

    await insert_one(database)

    assert await count_advertisers(database) == before + 1


async def test_closing_waits_for_a_connection_that_is_in_use(
    database: Database, file: Path
) -> None:
    await insert_one(database)
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


async def test_a_write_to_a_locked_database_is_unavailable(
    database: Database, other_process: sqlite3.Connection
) -> None:
    await _disable_lock_retries(database)
    other_process.execute("BEGIN IMMEDIATE")

    with pytest.raises(SourceUnavailable) as refused:
        await insert_one(database)

    assert isinstance(refused.value.__cause__, sqlite3.OperationalError)
    assert "locked" in str(refused.value.__cause__)
    assert refused.value.retry_after_seconds >= 1


async def test_a_locked_database_can_be_read(
    database: Database, other_process: sqlite3.Connection
) -> None:
    before = await count_advertisers(database)
    other_process.execute("BEGIN IMMEDIATE")
    other_process.execute("DELETE FROM advertisers WHERE id = 3001")

    assert await count_advertisers(database) == before


async def test_a_write_succeeds_after_the_lock_is_released(
    database: Database, other_process: sqlite3.Connection
) -> None:
    await _disable_lock_retries(database)
    before = await count_advertisers(database)
    other_process.execute("BEGIN IMMEDIATE")
    with pytest.raises(SourceUnavailable):
        await insert_one(database)

    other_process.execute("ROLLBACK")
    await insert_one(database)

    assert await count_advertisers(database) == before + 1


async def test_a_database_in_a_missing_folder_is_unavailable(
    unreachable_database: Database,
) -> None:
    with pytest.raises(SourceUnavailable, match="SQLITE_CANTOPEN"):
        await count_advertisers(unreachable_database)


async def test_a_connection_that_could_not_be_opened_is_opened_again(
    unreachable_database: Database, database: Database, file: Path
) -> None:
    with pytest.raises(SourceUnavailable):
        await unreachable_database.look_up(count_rows)

    await database.close()
    missing = Path(unreachable_database.address.label)
    missing.parent.mkdir()
    shutil.copy(file, missing)

    assert await unreachable_database.look_up(count_rows) > 0


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


class _BusyConnection(sqlite3.Connection):
    """A connection that finds others switching to WAL mode too, as often as `left` says."""

    left = 0

    def execute(self, sql: str, parameters: tuple[()] = (), /) -> sqlite3.Cursor:  # type: ignore[override] # this check has none
        if "journal_mode" in sql and _BusyConnection.left > 0:
            _BusyConnection.left -= 1
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise error
        return super().execute(sql, parameters)


@pytest.mark.parametrize(("seconds", "succeeds"), [(60, True), (0, False)], ids=str)
async def test_a_check_waits_while_other_processes_check_the_same_new_file(
    empty_database: Database, monkeypatch: pytest.MonkeyPatch, seconds: int, *, succeeds: bool
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_SECONDS", seconds)
    monkeypatch.setattr(_BusyConnection, "left", 5 if succeeds else 1)
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=_BusyConnection))

    if succeeds:
        empty_database.check()
    else:
        with pytest.raises(SourceUnavailable, match="locked"):
            empty_database.check()

    assert _BusyConnection.left == 0


async def test_a_check_of_a_database_passes(database: Database) -> None:
    database.check()

    assert await count_advertisers(database) > 0
