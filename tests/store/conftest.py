"""A real SQLite file for each test, with a small catalogue and two admins."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from contact_gateway.access.api_keys import mint
from contact_gateway.access.principals import ApiKeyOwner, Role
from contact_gateway.contacts.advertiser import HIENERGY_NETWORK, Advertiser
from contact_gateway.store import advertisers, api_keys
from contact_gateway.store.database import Database
from contact_gateway.store.source import SqlSource
from support.databases import Engine, Template, copy_of, database_at, new_database

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


async def _fill(database: Database) -> None:
    await database.write(lambda connection: advertisers.upsert(connection, CATALOGUE))


_TEMPLATE: Final = Template(_fill)


@pytest.fixture
async def empty_database(
    tmp_path: Path,
    engine: Engine,  # noqa: ARG001 - of this engine
) -> AsyncIterator[Database]:
    """Return a database without tables."""
    database = database_at(new_database(tmp_path, "store.db"))
    yield database
    await database.close()


@pytest.fixture
async def database(
    tmp_path: Path,
    engine: Engine,  # noqa: ARG001 - of this engine
) -> AsyncIterator[Database]:
    """Return a prepared database with the catalogue."""
    database = database_at(copy_of(_TEMPLATE, tmp_path, "store.db"))
    yield database
    await database.close()


@pytest.fixture
async def unreachable_database(tmp_path: Path, engine: Engine) -> AsyncIterator[Database]:
    """Return a database whose folder does not exist, or whose server does not."""
    where = tmp_path / "nowhere"
    url = (
        f"sqlite:///{where / 'store.db'}"
        if engine is Engine.SQLITE
        else f"postgresql:///gateway?host={where}"
    )
    database = database_at(url)
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
