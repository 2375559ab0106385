"""Two gateways: a process on its own store is the upstream of one in front of it."""

import sqlite3
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from contact_gateway.settings import Settings
from support.running_gateway import Gateway, database_url, serving
from support.served_gateway import Store


@dataclass(frozen=True, slots=True)
class UpstreamGateway:
    """A gateway process whose REST face is upstream, with the catalogue and its keys."""

    url: str
    database_url: str
    keys: Mapping[str, str]
    file: Path

    def forget_contacts(self) -> None:
        """Have it as it was at the start."""
        with closing(sqlite3.connect(self.file, timeout=30)) as connection, connection:
            connection.execute("DELETE FROM idempotency_records")
            connection.execute("DELETE FROM contacts")

    def contacts(self) -> int:
        """Count the contacts that are stored."""
        with closing(sqlite3.connect(self.file, timeout=30)) as connection:
            count: int = connection.execute("SELECT count(*) FROM contacts").fetchone()[0]
            return count


@contextmanager
def upstream_gateway(folder: Path, **environment: str) -> Iterator[UpstreamGateway]:
    """Start the upstream in a folder."""
    store = Store.filled(folder)
    # All callers come from the one address of the gateway in front of it.
    settings = {"CONTACT_GATEWAY_KEY_GUESSES_PER_MINUTE": "0", **environment}
    with store.served(**settings) as process:
        yield UpstreamGateway(f"{process.address}/api/v1", store.url, store.keys, store.file)


@asynccontextmanager
async def gateway_in_front(
    folder: Path, upstream: UpstreamGateway, url: str | None = None, **settings: object
) -> AsyncIterator[Gateway]:
    """Serve in this process in front of an upstream, by a proxy's `url` if there is one."""
    own = {"database_url": database_url(folder), "upstream_url": url or upstream.url, **settings}
    async with serving(
        Settings.model_validate(own), upstream.database_url, upstream.keys
    ) as gateway:
        yield gateway
