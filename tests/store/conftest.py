"""A real SQLite file for each test, with a small catalogue and two admins."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import URL

from contact_gateway.access.api_keys import mint
from contact_gateway.access.principals import ApiKeyOwner, Role
from contact_gateway.contacts.advertiser import HIENERGY_NETWORK, Advertiser
from contact_gateway.settings import sqlite_url
from contact_gateway.store import advertisers, api_keys, schema_version
from contact_gateway.store.source import SqlSource
from contact_gateway.store.sqlite import Database

BIG_ID = 2**53 + 1
CATALOGUE = (
    Advertiser(
        id=1001,
        name="Northwind",
        display_name="Northwind Outfitters",
        slug="northwind",
        domain="northwind.example",
        network_name=HIENERGY_NETWORK,
        hienergy_id=1001,
    ),
    Advertiser(
        id=1002,
        name="Kestrel 100%",
        slug="kestrel",
        domain="kestrel.example",
        network_name=HIENERGY_NETWORK,
        hienergy_id=1002,
    ),
    Advertiser(id=BIG_ID, name="Meridian", network_name=HIENERGY_NETWORK, hienergy_id=BIG_ID),
    Advertiser(id=2001, name="Northwind US", slug="n-us", network_name="CJ", hienergy_id=1001),
    Advertiser(id=2002, name="Northwind UK", network_name="Awin", hienergy_id=1001),
    Advertiser(id=2003, name="Kestrel_US", slug="kestrel", network_name="CJ", hienergy_id=1002),
    Advertiser(id=3001, name="Unlisted CAF\xc9", network_name="ShareASale", hienergy_id=None),
)


@pytest.fixture(scope="session")
def prepared_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with the tables and the catalogue, for tests to copy."""
    file = tmp_path_factory.mktemp("prepared") / "store.db"

    async def prepare() -> None:
        database = Database(sqlite_url(f"sqlite:///{file}"))
        await schema_version.prepare(database)
        await database.write(lambda connection: advertisers.upsert(connection, CATALOGUE))
        await database.close()

    asyncio.run(prepare())
    return file


@pytest.fixture
def url(tmp_path: Path) -> URL:
    """Return the URL of a file that does not exist."""
    return sqlite_url(f"sqlite+aiosqlite:///{tmp_path / 'store.db'}")


@pytest.fixture
async def empty_database(url: URL) -> AsyncIterator[Database]:
    """Return a database without tables."""
    database = Database(url)
    yield database
    await database.close()


@pytest.fixture
def database(empty_database: Database, prepared_file: Path) -> Database:
    """Return a prepared database with the catalogue."""
    shutil.copy(prepared_file, str(empty_database.url.database))
    return empty_database


@pytest.fixture
async def unreachable_database(tmp_path: Path) -> AsyncIterator[Database]:
    """Return a database whose folder does not exist."""
    database = Database(sqlite_url(f"sqlite:///{tmp_path / 'nowhere' / 'store.db'}"))
    yield database
    await database.close()


@pytest.fixture
async def admin(database: Database) -> ApiKeyOwner:
    return await _admin(database, "ci")


@pytest.fixture
async def other_admin(database: Database) -> ApiKeyOwner:
    return await _admin(database, "laptop")


@pytest.fixture
async def source(database: Database) -> AsyncIterator[SqlSource]:
    source = SqlSource(database)
    yield source
    await source.close()


async def _admin(database: Database, label: str) -> ApiKeyOwner:
    minted = mint()
    key_id = await database.write(
        lambda connection: api_keys.add(connection, minted, role=Role.ADMIN, label=label)
    )
    return ApiKeyOwner(key_id, label, Role.ADMIN, minted.secret_hash)
