"""The gateway in this process, over a real SQLite file, without a socket in between."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from sqlalchemy import Connection, func, select

from contact_gateway.access.api_keys import MintedKey, mint
from contact_gateway.access.principals import Role
from contact_gateway.app import create_app
from contact_gateway.contacts.advertiser import HIENERGY_NETWORK, Advertiser
from contact_gateway.settings import Settings
from contact_gateway.store import advertisers, api_keys, schema_version
from contact_gateway.store.sqlite import Database, sqlite_url
from contact_gateway.store.tables import contacts

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
    Advertiser(id=1002, name="Kestrel", network_name=HIENERGY_NETWORK, hienergy_id=1002),
    Advertiser(id=BIG_ID, name="Meridian", network_name=HIENERGY_NETWORK, hienergy_id=BIG_ID),
    Advertiser(id=2001, name="Northwind US", network_name="CJ", hienergy_id=1001),
    Advertiser(id=2002, name="Northwind UK", network_name="Awin", hienergy_id=1001),
    Advertiser(id=2006, name="Meridian EU", network_name="Impact", hienergy_id=BIG_ID),
    Advertiser(id=3001, name="Unlisted", network_name="ShareASale", hienergy_id=None),
)


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway, the database beneath it, and a key for every kind of caller."""

    client: httpx.AsyncClient
    database: Database
    admin: str
    other_admin: str
    member: str
    expired: str
    revoked: str
    unknown: str

    async def contact_rows(self) -> int:
        """Count the contacts that are stored."""
        query = select(func.count()).select_from(contacts)
        return await self.database.read(lambda connection: connection.execute(query).scalar_one())

    async def rest(self, path: str, key: str | None = None, **query: str | int) -> httpx.Response:
        """Read from the REST face."""
        return await self.client.get(f"/api/v1{path}", params=query, headers=credentials(key))

    async def graphql(
        self,
        query: str,
        key: str | None = None,
        variables: Mapping[str, object] | None = None,
        **headers: str,
    ) -> httpx.Response:
        """Send a document to the GraphQL face."""
        body = {"query": query, "variables": dict(variables or {})}
        return await self.post_json("/graphql", body, credentials(key) | headers)

    async def post_json(
        self,
        path: str,
        body: object,
        headers: Mapping[str, str],
        params: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Post a body, all but ASCII escaped: JSON can spell a lone surrogate, UTF-8 cannot."""
        return await self.client.post(
            path,
            content=json.dumps(body),
            headers={**headers, "Content-Type": "application/json"},
            params=params,
        )


def credentials(key: str | None) -> dict[str, str]:
    """Return the headers that present a key."""
    return {} if key is None else {"X-Api-Key": key}


@asynccontextmanager
async def running_gateway(folder: Path, **settings: object) -> AsyncIterator[Gateway]:
    """Start a gateway on a new database in a folder."""
    url = database_url(folder)
    keys = await filled_database(url)
    async with serving(Settings.model_validate({"database_url": url, **settings}), url, keys) as it:
        yield it


@asynccontextmanager
async def serving(settings: Settings, url: str, keys: Mapping[str, str]) -> AsyncIterator[Gateway]:
    """Serve in this process; contacts are counted in the database at `url`."""
    app = create_app(settings)
    database = Database(sqlite_url(url))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            yield Gateway(client=client, database=database, **keys)
    await database.close()


def database_url(folder: Path) -> str:
    """Name the database of a folder."""
    return f"sqlite+aiosqlite:///{folder / 'gateway.sqlite3'}"


async def filled_database(url: str) -> dict[str, str]:
    """Make a database with the catalogue and a key for every kind of caller; return the keys."""
    database = Database(sqlite_url(url))
    await schema_version.prepare(database)
    keys = {name: mint() for name in ("admin", "other_admin", "member", "expired", "revoked")}
    await database.write(lambda connection: _fill(connection, keys))
    await database.close()
    return {name: minted.text for name, minted in keys.items()} | {"unknown": mint().text}


def _fill(connection: Connection, keys: Mapping[str, MintedKey]) -> None:
    now = datetime.now(UTC)
    advertisers.upsert(connection, CATALOGUE)
    for name, minted in keys.items():
        key_id = api_keys.add(
            connection,
            minted,
            role=Role.MEMBER if name == "member" else Role.ADMIN,
            label=name,
            expires_at=now - timedelta(seconds=1) if name == "expired" else None,
        )
        if name == "revoked":
            api_keys.revoke(connection, key_id)
