"""Databases as older versions left them, such as that before the folded columns (revision 0004)."""

import sqlite3
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from contact_gateway.store import migrations

OLDER_REVISION = "0004"
NOW = "2026-01-31 12:00:00.000000"

_ADVERTISERS = (
    (1, "Cafe\u0301", "cafe\u0301", "b\u00fccher.example", "HiEnergy", 1, "cafe\u0301"),
    (2, "Tern", None, None, "HiEnergy", 2, "tern"),
    (3, "Auk", None, None, "hienergy", None, "auk"),
)


def create_tables(connection: Connection, revision: str = OLDER_REVISION) -> None:
    """Create the tables of an older version, or migrate to them."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__path__[0])))
    config.attributes["connection"] = connection
    config.attributes["report"] = []
    command.upgrade(config, revision)


def add_advertisers(plain: sqlite3.Connection) -> None:
    """Add two brands, and a record of a network that is HiEnergy in another case."""
    plain.executemany(
        "INSERT INTO advertisers (id, name, slug, domain, network_name, hienergy_id, folded_names)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        _ADVERTISERS,
    )


def add_contact(plain: sqlite3.Connection, email: str, advertiser_id: int = 1) -> None:
    """Add a contact, with the keys of the older version."""
    local_part, _, domain = email.rpartition("@")
    email_key = f"{local_part.lower()}@{domain.lower()}"
    text = f"{email.casefold()}\njose\u0301"
    plain.execute(
        "INSERT INTO contacts (advertiser_id, email, email_key, name, folded_text, created_at,"
        " updated_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (advertiser_id, email, email_key, "Jose\u0301", text, NOW, NOW),
    )
