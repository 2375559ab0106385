"""The cost of createContact and of lists with a thousand, 100,000 and ten million contacts.

Run it with `scripts/bench size`.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple, TypeAlias
from uuid import uuid4

import psycopg
from sqlalchemy import delete

from benchmarks import large_store, operations, servers
from benchmarks.load import send
from benchmarks.measuring import started
from benchmarks.operations import CREATE
from benchmarks.postgresql_server import postgresql
from benchmarks.report import spread, table
from benchmarks.run import commit, python
from benchmarks.servers import ROOT, BenchmarkError, Server
from contact_gateway.access.api_keys import mint
from contact_gateway.access.principals import ApiKeyOwner, Role
from contact_gateway.contacts.contact import NewContact
from contact_gateway.contacts.outcomes import Created
from contact_gateway.contacts.source import AdvertiserFilter, ContactFilter, Creation, PageRequest
from contact_gateway.database_url import parse_database_url
from contact_gateway.store import api_keys, schema_version
from contact_gateway.store.database import Database, open_database
from contact_gateway.store.source import SqlSource, StoreAccess
from contact_gateway.store.tables import contacts as contacts_table

SIZES: Final = (10**3, 10**5, 10**7)
FOLDER: Final = ROOT / "benchmarks" / "large"
MOST: Final = 1.3
"""The ratio to the smallest database that no operation should exceed."""

_READS: Final = 15
_CONCURRENT: Final = 32
_CREATIONS: Final = 8 * _CONCURRENT
_WARM_UP_SECONDS: Final = 2
_ROUND_SECONDS: Final = 3
_PAGE: Final = PageRequest(1, 10)

Operation: TypeAlias = Callable[[], Awaitable[object]]


class Store(NamedTuple):
    """An open database with so many contacts."""

    contacts: int
    database: Database
    access: StoreAccess

    def reads(self) -> Mapping[str, Operation]:
        """Return the reads, by what they ask for. Each has an answer of the same length."""
        brands = large_store.brands_of(self.contacts)
        brand, contact = brands // 2 + 1, self.contacts // 2
        name = large_store.brand(brand)
        address = large_store.email(contact, brands)
        full_name = f"{large_store.given_name(contact)} {large_store.family_name(contact)}"
        listed: dict[str, ContactFilter | AdvertiserFilter] = {
            "contacts": ContactFilter(),
            "contacts, `email`": ContactFilter(email=address),
            "contacts, `advertiser_id`": ContactFilter(advertiser_id=brand),
            "contacts, `domain`": ContactFilter(domain=large_store.domain(brand)),
            "contacts, `advertiser_name` of one brand": ContactFilter(advertiser_name=name),
            "contacts, `advertiser_name` of many": ContactFilter(advertiser_name="sports"),
            "contacts, `q` that a ninth have": ContactFilter(q="buyer"),
            "contacts, `q` that one has": ContactFilter(q=full_name),
            "contacts, `q` that none has": ContactFilter(q="xyzzy"),
            "advertisers": AdvertiserFilter(),
            "advertisers, `q` that two have": AdvertiserFilter(q=name),
            "advertisers, `name` of many": AdvertiserFilter(name="sports"),
            "advertisers, `domain`": AdvertiserFilter(domain=large_store.domain(brand)),
            "advertisers, `network`": AdvertiserFilter(network="cj"),
            "advertisers, `hienergy_id`": AdvertiserFilter(hienergy_id=brand),
        }
        return {
            "contact(id)": lambda: self.access.contact(contact),
            "contacts, page 5 of a walk": lambda: self.access.contacts(
                ContactFilter(), _PAGE._replace(number=5)
            ),
            **{text: self._listing(wanted) for text, wanted in listed.items()},
        }

    def _listing(self, wanted: ContactFilter | AdvertiserFilter) -> Operation:
        if isinstance(wanted, ContactFilter):
            return lambda: self.access.contacts(wanted, _PAGE)
        return lambda: self.access.advertisers(wanted, _PAGE)

    async def create(self) -> None:
        """Create a contact."""
        number = uuid4().int
        brands = large_store.brands_of(self.contacts)
        given, family = large_store.given_name(number), large_store.family_name(number)
        contact = NewContact(
            advertiser_id=number % brands + 1,
            email=f"{given}.{family}.{number % 10**9}@example.com".lower(),
            name=f"{given} {family}",
            given_name=given,
            family_name=family,
            phone="+1 555 0101",
            job_title="Buyer",
            source=None,
            status=None,
            linkedin_profile_url=None,
        )
        outcome = await self.access.create_contact(Creation(contact, None, dry_run=False))
        if not isinstance(outcome, Created):
            raise BenchmarkError(f"A creation was answered with {outcome}.")


def main() -> None:
    """Fill the databases that are missing, measure, and print the results as markdown."""
    parser = argparse.ArgumentParser(prog="scripts/bench size", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="keeps the databases")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of contacts")
    parser.add_argument("--engine", choices=("sqlite", "postgresql"), help="only this one")
    options = parser.parse_args()
    engines = ("sqlite", "postgresql") if options.engine is None else (options.engine,)
    options.folder.mkdir(parents=True, exist_ok=True)
    sys.stdout.write(f"At {commit()} on {python()}, {options.rounds} interleaved rounds.\n")
    servers.pin_here(servers.LOAD_CORE)
    server = postgresql(servers.GATEWAY_CORE, options.folder / "server")
    try:
        with server if "postgresql" in engines else nullcontext("") as uri:
            for engine in engines:
                urls = {size: _loaded(engine, options.folder, uri, size) for size in options.sizes}
                for url in urls.values():
                    # An earlier version may have filled it.
                    asyncio.run(_migrate(url))
                results = asyncio.run(_measure(urls, options.rounds))
                results["createContact by GraphQL"] = _measure_by_graphql(urls, options.rounds)
                sys.stdout.write(f"\n### {engine}\n\n{_report(results, options.sizes)}\n")
                sys.stdout.flush()
    except BenchmarkError as error:
        sys.exit(str(error))


def _loaded(engine: str, folder: Path, uri: str, size: int) -> str:
    """Return the URL of a database with so many contacts, which is filled unless it exists."""
    if engine == "sqlite":
        file, partial = folder / f"{size}.sqlite3", folder / f"{size}.partial"
        if not file.exists():
            for earlier in folder.glob(f"{size}.partial*"):
                earlier.unlink()
            asyncio.run(_migrate(f"sqlite:///{partial}"))
            large_store.fill_sqlite(partial, size)
            partial.rename(file)
        return f"sqlite:///{file}"
    name = f"size_{size}"
    with psycopg.connect(uri, autocommit=True) as connection:
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
        if found.fetchone() is None:
            connection.execute("DROP DATABASE IF EXISTS partial")
            connection.execute("CREATE DATABASE partial")
            asyncio.run(_migrate(_named(uri, "partial")))
            large_store.fill_postgresql(_named(uri, "partial"), size)
            connection.execute(f"ALTER DATABASE partial RENAME TO {name}".encode())
    return _named(uri, name)


def _named(uri: str, database: str) -> str:
    """Return the URL of another database on a server."""
    return f"{uri.rpartition('/')[0]}/{database}"


async def _migrate(url: str) -> None:
    database = open_database(parse_database_url(url))
    await schema_version.migrate(database)
    await database.close()


Results: TypeAlias = dict[str, dict[int, list[float]]]
"""The microseconds of each round, by operation and size."""


async def _measure(urls: Mapping[int, str], rounds: int) -> Results:
    """Measure all operations, each on all databases in turn."""
    results: Results = {}
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(_opened(size, url)) for size, url in urls.items()]
        reads = {store.contacts: store.reads() for store in stores}
        for number in range(-1, rounds):
            for name in reads[stores[0].contacts]:
                for store in stores:
                    seconds = await _read(reads[store.contacts][name])
                    # The first round fills the caches.
                    if number >= 0:
                        figures = results.setdefault(name, {}).setdefault(store.contacts, [])
                        figures.append(seconds * 1e6)
        for number in range(-1, rounds):
            for store in stores:
                seconds = await _create(store)
                if number >= 0:
                    figures = results.setdefault("createContact", {}).setdefault(store.contacts, [])
                    figures.append(seconds * 1e6)
    return results


def _measure_by_graphql(urls: Mapping[int, str], rounds: int) -> dict[int, list[float]]:
    """Return the microseconds between answers of a gateway on each database, under load."""
    figures: dict[int, list[float]] = {size: [] for size in urls}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        served: dict[int, tuple[operations.Operation, Server]] = {}
        for size, url in urls.items():
            settings = {
                "CONTACT_GATEWAY_DATABASE_URL": url,
                "CONTACT_GATEWAY_RATE_LIMIT_PER_HOUR": str(servers.HIGH_RATE_LIMIT),
            }
            words = ("keys", "create", "--role", "admin", "--label", "benchmark")
            key = servers.output(
                str(servers.GATEWAY), *words, folder=folder, environment=settings
            ).strip()
            sent = replace(CREATE, key=key, ids=large_store.brands_of(size))
            starting = servers.gateway(folder / f"{size}.log", settings)
            server, _ = stack.enter_context(started(starting, sent))
            send(sent, server.port, _WARM_UP_SECONDS)
            served[size] = sent, server
        for _ in range(rounds):
            for size, (sent, server) in served.items():
                load = send(sent, server.port, _ROUND_SECONDS)
                if load.failures or not load.requests:
                    raise BenchmarkError(f"createContact failed: {load.failure}")
                figures[size].append(1e6 / load.per_second)
    return figures


@asynccontextmanager
async def _opened(size: int, url: str) -> AsyncIterator[Store]:
    """Open a database, without the contacts that an earlier run has created."""
    database = open_database(parse_database_url(url))
    later = delete(contacts_table).where(contacts_table.c.id > size)
    await database.write(lambda connection: connection.execute(later).rowcount)
    minted = mint()
    key_id = await database.write(
        lambda connection: api_keys.add(connection, minted, role=Role.ADMIN, label="benchmark")
    )
    source = SqlSource(database)
    owner = ApiKeyOwner(key_id, "benchmark", Role.ADMIN, minted.secret_hash)
    store = Store(size, database, StoreAccess(source, owner))
    # A walk, whose next page is measured.
    for number in range(1, 5):
        await store.access.contacts(ContactFilter(), _PAGE._replace(number=number))
    yield store
    await source.close()
    await database.write(lambda connection: connection.execute(later).rowcount)
    await database.close()


async def _read(operation: Operation) -> float:
    """Return the seconds of the fastest of some reads: what disturbs them only adds to it."""
    durations = []
    for _ in range(_READS):
        began = time.perf_counter()
        await operation()
        durations.append(time.perf_counter() - began)
    return min(durations)


async def _create(store: Store) -> float:
    """Return the seconds per creation, of many at once."""
    turns = asyncio.Semaphore(_CONCURRENT)

    async def create() -> None:
        async with turns:
            await store.create()

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(_CREATIONS):
            group.create_task(create())
    return (time.perf_counter() - began) / _CREATIONS


def _report(results: Results, sizes: Sequence[int]) -> str:
    head = ("", *(f"{size:,}: µs" for size in sizes), *(f"ratio {size:,}" for size in sizes[1:]))
    return table(head, _rows(results, sizes))


def _rows(results: Results, sizes: Sequence[int]) -> Iterator[Sequence[str]]:
    for name, figures in results.items():
        least = figures[sizes[0]]
        ratios = [
            [mine / its for mine, its in zip(figures[size], least, strict=True)]
            for size in sizes[1:]
        ]
        met = ("", "; missed")[max(map(median, ratios)) > MOST]
        yield (
            name,
            *(spread(figures[size]) for size in sizes),
            *(spread(each, 2) for each in ratios[:-1]),
            f"{spread(ratios[-1], 2)}{met}",
        )


if __name__ == "__main__":
    main()
