"""A gateway process on a filled database, as the tests of both faces know a gateway."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from contact_gateway.store.sqlite import Database, sqlite_url
from support.gateway_process import GatewayProcess, gateway_process
from support.running_gateway import Gateway, database_url, filled_database


@dataclass(frozen=True, slots=True)
class Store:
    """A database with the catalogue, in a file that outlives its servers."""

    folder: Path
    url: str
    keys: Mapping[str, str]

    @classmethod
    def filled(cls, folder: Path) -> "Store":
        """Make one in a folder."""
        url = database_url(folder)
        return cls(folder, url, asyncio.run(filled_database(url)))

    @property
    def file(self) -> Path:
        """Return the database's file."""
        return self.folder / "gateway.sqlite3"

    @contextmanager
    def served(self, *options: str, **environment: str) -> Iterator[GatewayProcess]:
        """Serve it by a process."""
        settings = {"CONTACT_GATEWAY_DATABASE_URL": self.url, **environment}
        with gateway_process(self.folder, *options, environment=settings) as process:
            yield process

    @asynccontextmanager
    async def gateway(
        self, process: GatewayProcess, *, keep_alive: bool = True
    ) -> AsyncIterator[Gateway]:
        """Return what callers have of a process that serves it."""
        async with gateway_of(process, self.url, self.keys, keep_alive=keep_alive) as gateway:
            yield gateway


@asynccontextmanager
async def gateway_of(
    process: GatewayProcess, database_url: str, keys: Mapping[str, str], *, keep_alive: bool = True
) -> AsyncIterator[Gateway]:
    """Return what callers have of a process; contacts are counted in a database."""
    database = Database(sqlite_url(database_url))
    limits = httpx.Limits(max_keepalive_connections=None if keep_alive else 0)
    async with httpx.AsyncClient(
        base_url=process.address, timeout=60, trust_env=False, limits=limits
    ) as client:
        yield Gateway(client=client, database=database, **keys)
    await database.close()
