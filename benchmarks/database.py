"""The benchmarks' database: made once, and copied for each server."""

import csv
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import psycopg

from benchmarks import servers

BRANDS: Final = 500
ADVERTISERS: Final = 2 * BRANDS
"""Each brand has a HiEnergy record and a network's. Ids go from 1 to this number."""

CONTACTS: Final = 10_000
"""Ids go from 1 to this number."""

_INSERT: Final = """
    INSERT INTO contacts (advertiser_id, email, email_key, name, given_name, family_name, phone,
        job_title, folded_text, created_at, updated_at)
    VALUES (:advertiser_id, :email, :email, 'Ida Brandt', 'Ida', 'Brandt', '+1 555 0101', 'Buyer',
        :folded_text, :now, :now)"""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A database file that no server has opened, and an admin's API key."""

    file: Path
    key: str

    def copy_to(self, url: str) -> None:
        """Copy it to an empty PostgreSQL database.

        Raises:
            BenchmarkError: the command fails.
        """
        words = ("store", "copy", _url(self.file), url)
        _run(servers.GATEWAY, url, self.file.parent, *words)

    def copy(self, name: str) -> Path:
        """Return a new copy with this name, in the same folder. It replaces an earlier copy."""
        copy = self.file.with_name(name)
        for earlier in copy.parent.glob(f"{name}*"):
            earlier.unlink()
        return Path(shutil.copy(self.file, copy))


def prepare(folder: Path, program: Path = servers.GATEWAY) -> Prepared:
    """Make a database by the gateway's own commands, and fill it with contacts.

    Raises:
        BenchmarkError: a command fails.
    """
    file = folder / "prepared.sqlite3"
    key = fill(_url(file), folder, program)
    _insert_contacts(file)
    return Prepared(file, key)


def fill(url: str, folder: Path, program: Path = servers.GATEWAY) -> str:
    """Make a database with the catalogue, and return an admin's API key.

    Raises:
        BenchmarkError: a command fails.
    """
    catalogue = folder / "catalogue.csv"
    _write_catalogue(catalogue)
    _run(program, url, folder, "migrate")
    _run(program, url, folder, "advertisers", "import", str(catalogue))
    words = ("keys", "create", "--role", "admin", "--label", "benchmark")
    return _run(program, url, folder, *words).strip()


def migrate(file: Path, program: Path) -> None:
    """Bring a database to the schema of a gateway."""
    _run(program, _url(file), file.parent, "migrate")


def counter(file: Path) -> Callable[[], int]:
    """Return a function that counts the contacts of a database."""

    def created() -> int:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            count: int = connection.execute("SELECT count(*) FROM contacts").fetchone()[0]
            return count

    return created


def postgresql_counter(url: str) -> Callable[[], int]:
    """Return a function that counts the contacts of a PostgreSQL database."""

    def created() -> int:
        with psycopg.connect(url) as connection:
            (count,) = connection.execute("SELECT count(*) FROM contacts").fetchone() or (0,)
            return int(count)

    return created


def _write_catalogue(catalogue: Path) -> None:
    columns = ("id", "name", "slug", "network_name", "status", "hienergy_id")
    with catalogue.open("w", encoding="utf-8", newline="") as lines:
        rows = csv.writer(lines)
        rows.writerow(columns)
        for brand in range(1, BRANDS + 1):
            name, slug = f"Brand {brand}", f"brand-{brand}"
            rows.writerow((brand, name, slug, "HiEnergy", "active", ""))
            rows.writerow((BRANDS + brand, name, slug, "Awin", "active", brand))


def _insert_contacts(file: Path) -> None:
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f}"
    emails = (f"seed{number}@example.com" for number in range(CONTACTS))
    contacts = (
        {
            "advertiser_id": number % BRANDS + 1,
            "email": email,
            "folded_text": f"{email}\nida brandt\nida\nbrandt\nbuyer",
            "now": now,
        }
        for number, email in enumerate(emails)
    )
    with closing(sqlite3.connect(file)) as connection:
        with connection:
            connection.executemany(_INSERT, contacts)
        # The file is copied without its write-ahead log.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _url(file: Path) -> str:
    return f"sqlite+aiosqlite:///{file}"


def _run(program: Path, url: str, folder: Path, *words: str) -> str:
    environment = {"CONTACT_GATEWAY_DATABASE_URL": url}
    return servers.output(str(program), *words, folder=folder, environment=environment)
