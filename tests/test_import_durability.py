"""An import that is killed again and again has the contacts of an undisturbed one."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import func, select
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

from contact_gateway.store.tables import contacts
from support.clock import WATCHDOG_SECONDS
from support.databases import Engine, current_engine, database_at
from support.gateway import Store, filled_store
from support.process import clean_environment

KILLS: Final = int(os.environ.get("KILLS", "3"))
ROWS: Final = int(os.environ.get("ROWS", "5000"))


def _write(folder: Path) -> None:
    lines = (f"{1001 + number % 2},{number}@example.com,N{number}" for number in range(ROWS))
    text = "\n".join(["advertiser_id,email,name", *lines, ""])
    (folder / "contacts.csv").write_text(text, encoding="utf-8")


def _started(folder: Path, store: Store) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        (
            *(sys.executable, "-m", "contact_gateway", "contacts", "import", "contacts.csv"),
            *("--report", "report.csv"),
        ),
        cwd=folder,
        env={
            **clean_environment(),
            "CONTACT_GATEWAY_DATABASE_URL": store.url,
            # A killed process writes no coverage data, and measuring slows it down.
            "COVERAGE_PROCESS_CONFIG": "",
        },
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _count(store: Store) -> int:
    async def count() -> int:
        database = database_at(store.url)
        try:
            query = select(func.count()).select_from(contacts)
            return await database.read(lambda connection: connection.execute(query).scalar_one())
        finally:
            await database.close()

    return asyncio.run(count())


def _rows(store: Store, *, with_ids: bool) -> list[tuple[object, ...]]:
    """Return what an import decides of the contacts, in the order of their ids."""
    columns = contacts.c
    chosen = (columns.advertiser_id, columns.email, columns.name, columns.created_by_request_id)
    query = select(*((columns.id, *chosen) if with_ids else chosen)).order_by(columns.id)

    async def read() -> list[tuple[object, ...]]:
        database = database_at(store.url)
        try:
            return await database.read(
                lambda connection: [tuple(row) for row in connection.execute(query)]
            )
        finally:
            await database.close()

    return asyncio.run(read())


def _kill_after(store: Store, process: subprocess.Popen[bytes], wanted: int) -> None:
    """Kill an import once so many contacts are stored, unless it ends before."""
    retry(
        stop=stop_after_delay(WATCHDOG_SECONDS),
        wait=wait_fixed(0.01),
        retry=retry_if_result(lambda is_time: not is_time),
    )(lambda: process.poll() is not None or _count(store) >= wanted)()
    process.send_signal(signal.SIGKILL)
    process.wait(WATCHDOG_SECONDS)


@pytest.mark.usefixtures("engine")
def test_a_killed_import_is_continued_by_the_same_command(tmp_path: Path) -> None:
    disturbed, undisturbed = (tmp_path / name for name in ("disturbed", "undisturbed"))
    stores = []
    for folder in (disturbed, undisturbed):
        folder.mkdir()
        _write(folder)
        stores.append(filled_store(folder))
    moments = random.Random(1)  # noqa: S311 - no secret
    wanted = sorted(moments.randrange(ROWS) for _ in range(KILLS))

    for count in wanted:
        _kill_after(stores[0], _started(disturbed, stores[0]), count)
    statuses = [
        _started(folder, store).wait(WATCHDOG_SECONDS)
        for folder, store in zip((disturbed, undisturbed), stores, strict=True)
    ]

    assert statuses == [0, 0]
    # A rolled-back transaction leaves a gap in PostgreSQL's sequences.
    with_ids = current_engine() is Engine.SQLITE
    first, second = (_rows(store, with_ids=with_ids) for store in stores)
    assert len(first) == ROWS
    assert first == second
