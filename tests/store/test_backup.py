"""Backups of SQLite files beside a writer: one snapshot, in a bounded number of steps."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from contact_gateway.store import backup
from contact_gateway.store.backup import back_up
from contact_gateway.store.database import Database
from support.databases import Engine

pytestmark = pytest.mark.anyio


@pytest.fixture
def engine() -> Engine:
    """Run these tests on SQLite alone: PostgreSQL has backups of its own."""
    return Engine.SQLITE


async def test_a_backup_is_not_started_again_by_commits_of_others(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two steps, another connection commits."""
    monkeypatch.setattr(backup, "_PAGES_PER_STEP", 1)
    file, target = Path(database.address.label), tmp_path / "copy.db"
    steps: list[tuple[int, int]] = []
    with closing(sqlite3.connect(file, isolation_level=None)) as writer:
        (before,) = writer.execute("SELECT count(*) FROM advertisers").fetchone()

        def commit(completed: int, total: int) -> None:
            steps.append((completed, total))
            assert len(steps) <= total, "the copy was started again"
            writer.execute(
                "INSERT INTO advertisers (id, name, network_name, folded_names) "
                "VALUES (?, 'Tern', 'CJ', 'tern')",
                (50_000 + len(steps),),
            )

        back_up(file, target, overwrite=False, progress=commit)

    completed, total = steps[-1]
    assert (completed, total) == (total, len(steps))
    with closing(sqlite3.connect(target)) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert copy.execute("SELECT count(*) FROM advertisers").fetchone() == (before,)
