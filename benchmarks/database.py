"""The database of the benchmarks: one is made, and every server has a copy of its own."""

import csv
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sqlalchemy import create_engine, insert

from benchmarks import servers
from benchmarks.servers import BenchmarkError
from contact_gateway.contacts.catalogue import COLUMNS
from contact_gateway.store.tables import contacts

BRANDS: Final = 500
RECORDS: Final = 2 * BRANDS
"""Ids of advertisers go from 1 to this: a HiEnergy record and a network's of each brand."""

CONTACTS: Final = 10_000
"""How many contacts there are before; their ids go from 1 to this."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A database file that no server has opened, and an admin's key to it."""

    file: Path
    key: str

    def copy(self, file: Path) -> Path:
        """Give a server a database of its own, in place of the one it had."""
        for older in file.parent.glob(f"{file.name}*"):
            older.unlink()
        return Path(shutil.copy(self.file, file))


def prepare(folder: Path) -> Prepared:
    """Make a database by the gateway's own commands, and fill it with contacts.

    Raises:
        BenchmarkError: a command fails.
    """
    file, catalogue = folder / "prepared.sqlite3", folder / "catalogue.csv"
    _write_catalogue(catalogue)
    _run(file, "migrate")
    key = _run(file, "keys", "create", "--role", "admin", "--label", "benchmark").strip()
    _run(file, "advertisers", "import", str(catalogue))
    _insert_contacts(file)
    return Prepared(file, key)


def counter(file: Path) -> Callable[[], int]:
    """Return what tells how many contacts were ever created in a database."""

    def created() -> int:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            count: int = connection.execute("SELECT count(*) FROM contacts").fetchone()[0]
            return count

    return created


def _write_catalogue(catalogue: Path) -> None:
    with catalogue.open("w", encoding="utf-8", newline="") as lines:
        rows = csv.DictWriter(lines, COLUMNS)
        rows.writeheader()
        for brand in range(1, BRANDS + 1):
            named = {"name": f"Brand {brand}", "slug": f"brand-{brand}", "status": "active"}
            rows.writerow({"id": brand, "network_name": "HiEnergy", **named})
            equivalent = {"id": BRANDS + brand, "network_name": "Awin", "hienergy_id": brand}
            rows.writerow({**equivalent, **named})


def _insert_contacts(file: Path) -> None:
    now = datetime.now(UTC)
    engine = create_engine(f"sqlite:///{file}")
    with engine.begin() as connection:
        connection.execute(
            insert(contacts),
            [
                {
                    "advertiser_id": number % BRANDS + 1,
                    "email": f"seed{number}@example.com",
                    "email_key": f"seed{number}@example.com",
                    "name": "Ida Brandt",
                    "given_name": "Ida",
                    "family_name": "Brandt",
                    "phone": "+1 555 0101",
                    "job_title": "Buyer",
                    "folded_text": f"seed{number}@example.com\nida brandt\nida\nbrandt\nbuyer",
                    "created_at": now,
                    "updated_at": now,
                }
                for number in range(CONTACTS)
            ],
        )
        # Whoever opens the file next finds all of it there, and no log beside it.
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    engine.dispose()


def _run(file: Path, *words: str) -> str:
    program = str(servers.PYTHON.with_name("contact-gateway"))
    done = subprocess.run(  # noqa: S603 - the gateway's own commands
        (program, *words),
        cwd=file.parent,
        env={"CONTACT_GATEWAY_DATABASE_URL": f"sqlite+aiosqlite:///{file}"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BenchmarkError(f"contact-gateway {words[0]} failed: {done.stderr}")
    return done.stdout
