"""The gateway in this process, over a real database and without a socket."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import httpx
from sqlalchemy import Connection, delete, func, select

from contact_gateway.access.api_keys import mint
from contact_gateway.access.principals import Role
from contact_gateway.app import create_app
from contact_gateway.contacts.advertiser import HIENERGY_NETWORK, Advertiser
from contact_gateway.database_url import DatabaseAddress, SqliteFile, parse_database_url
from contact_gateway.settings import Settings
from contact_gateway.store import advertisers, api_keys, schema_version
from contact_gateway.store.database import Database
from contact_gateway.store.tables import attempts, contacts, idempotency_records
from support.databases import PREPARES_STATEMENTS, Template, copy_of, database_at

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
class Store:
    """A database, the folder of its gateway, and API keys by the kind of caller."""

    folder: Path
    url: str
    keys: Mapping[str, str]

    @property
    def address(self) -> DatabaseAddress:
        """Where the database is."""
        return parse_database_url(self.url)

    @property
    def file(self) -> Path:
        """The SQLite file."""
        address = self.address
        assert isinstance(address, SqliteFile)
        return Path(address.path)


def filled_store(folder: Path) -> Store:
    """Make a database with the catalogue and a key for every kind of caller."""
    return Store(folder, copy_of(_FILLED, folder), _KEYS)


async def filled_store_at(url: str, folder: Path) -> Store:
    """Fill a database without tables, as that of `filled_store` is."""
    database = database_at(url)
    await schema_version.prepare(database)
    await _fill_all(database)
    await database.close()
    return Store(folder, url, _KEYS)


def empty_store(folder: Path, keys: Mapping[str, str]) -> Store:
    """Make a database without records, unless the folder has one; the keys are of elsewhere."""
    made = folder / "database-url"
    if not made.exists():
        made.write_text(copy_of(_EMPTY, folder), encoding="utf-8")
    return Store(folder, made.read_text(encoding="utf-8"), keys)


def ledger_address(folder: Path) -> DatabaseAddress:
    """Return where the database that `empty_store` made for a folder is."""
    return parse_database_url((folder / "database-url").read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class Gateway:
    """A client of a running gateway, the database of its contacts, and API keys.

    In front of an upstream API, `database` is that of upstream, and `ledger` the gateway's own.
    """

    client: httpx.AsyncClient
    database: Database
    ledger: Database | None
    admin: str
    other_admin: str
    third_admin: str
    member: str
    expired: str
    revoked: str
    unknown: str

    async def contact_rows(self) -> int:
        """Count the stored contacts."""
        query = select(func.count()).select_from(contacts)
        return await self.database.read(lambda connection: connection.execute(query).scalar_one())

    async def delete_contacts(self) -> None:
        """Delete the stored contacts, and what is remembered of their submissions."""
        await self.database.write(_delete_contacts)
        if self.ledger is not None:
            await self.ledger.write(_delete_contacts)

    async def rest(self, path: str, key: str | None = None, **query: str | int) -> httpx.Response:
        """Send a GET request to the REST face."""
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

    async def mcp(self, tool: str, key: str | None = None, **arguments: object) -> httpx.Response:
        """Call a tool of the MCP face."""
        return await self.mcp_message("tools/call", key, name=tool, arguments=arguments)

    async def mcp_message(
        self, method: str, key: str | None = None, **params: object
    ) -> httpx.Response:
        """Send a request to the MCP face, without the handshake: no session needs it."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return await self.post_json("/mcp", body, credentials(key))

    async def post_json(
        self,
        path: str,
        body: object,
        headers: Mapping[str, str],
        params: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Post JSON in ASCII: escapes can carry a lone surrogate, UTF-8 cannot."""
        return await self.client.post(
            path,
            content=json.dumps(body),
            headers={**headers, "Content-Type": "application/json"},
            params=params,
        )


def credentials(key: str | None) -> dict[str, str]:
    """Return the header that presents an API key."""
    return {} if key is None else {"X-Api-Key": key}


@asynccontextmanager
async def running_gateway(
    folder: Path, upstream: Store | None = None, /, **settings: object
) -> AsyncIterator[Gateway]:
    """Run a gateway on a database in a folder.

    Args:
        folder: Holds the contacts, or the ledger of a gateway in front of an upstream API.
        upstream: The upstream API's store, where there is an `upstream_url`.
        settings: Changes to the default settings.
    """
    own = filled_store(folder) if upstream is None else empty_store(folder, upstream.keys)
    # Upstream answers even if the machine stalls for seconds.
    values = {
        "database_url": own.url,
        "database_prepared_statements": PREPARES_STATEMENTS,
        "upstream_timeout_seconds": 60,
        **settings,
    }
    app = create_app(Settings.model_validate(values))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://gateway") as client,
            gateway_of(client, upstream or own, None if upstream is None else own) as gateway,
        ):
            yield gateway


@asynccontextmanager
async def gateway_of(
    client: httpx.AsyncClient, store: Store, own: Store | None = None
) -> AsyncIterator[Gateway]:
    """Return a gateway that a client reaches, with the contacts and keys of a store.

    In front of an upstream API, the store is that of upstream, and the gateway has its `own`.
    """
    database = database_at(store.url)
    ledger = None if own is None else database_at(own.url)
    yield Gateway(client=client, database=database, ledger=ledger, **store.keys)
    await database.close()
    if ledger is not None:
        await ledger.close()


def _delete_contacts(connection: Connection) -> None:
    connection.execute(delete(idempotency_records))
    connection.execute(delete(contacts))
    connection.execute(delete(attempts))


def _fill(connection: Connection) -> None:
    now = datetime.now(UTC)
    advertisers.upsert(connection, CATALOGUE)
    for name, minted in _MINTED.items():
        key_id = api_keys.add(
            connection,
            minted,
            role=Role.MEMBER if name == "member" else Role.ADMIN,
            label=name,
            expires_at=now - timedelta(seconds=1) if name == "expired" else None,
        )
        if name == "revoked":
            api_keys.revoke(connection, key_id)


async def _fill_all(database: Database) -> None:
    await database.write(_fill)


async def _fill_nothing(_: Database) -> None: ...


_MINTED: Final = {
    name: mint() for name in ("admin", "other_admin", "third_admin", "member", "expired", "revoked")
}
_KEYS: Final = {name: minted.text for name, minted in _MINTED.items()} | {"unknown": mint().text}
_FILLED: Final = Template(_fill_all)
_EMPTY: Final = Template(_fill_nothing)
