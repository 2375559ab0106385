"""The copy of a database to another one of any engine."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from itertools import permutations, product
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pytest
from sqlalchemy import Connection, Insert, column, delete, insert, select, table, update

from contact_gateway.contacts.advertiser import HIENERGY_NETWORK, Advertiser
from contact_gateway.database_url import DatabaseAddress, SqliteFile
from contact_gateway.store import advertisers, copying, schema_version, tables
from contact_gateway.store.copying import CopyError, copy_database
from contact_gateway.store.database import Database, open_database
from support.databases import Engine, database_at, databases_on, new_database

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
TERN = Advertiser(id=5, name="Tern", slug="tern", network_name=HIENERGY_NETWORK, hienergy_id=5)
# A record may be older than the HiEnergy record that it names.
TERN_US = Advertiser(id=2, name="Térn ☃ 'US'", network_name="CJ", hienergy_id=5)
TERN_US_ALONE = TERN_US._replace(hienergy_id=None)
UNLISTED = Advertiser(id=2**63 - 1, name="Skua", network_name="CJ", hienergy_id=None)

Rows: TypeAlias = Mapping[str, set[tuple[Any, ...]]]  # a Table does not type its columns


class Pair(NamedTuple):
    """A filled database, and one without tables."""

    source: Database
    target: Database


@pytest.fixture(params=[*permutations(Engine)], ids="-to-".join)
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Return the URLs of two databases without tables: from one engine to the other, and back."""
    with ExitStack() as stack:
        urls = []
        for name, engine in zip(("from.db", "to.db"), request.param, strict=True):
            stack.enter_context(databases_on(engine))
            urls.append(new_database(tmp_path, name))
        yield urls[0], urls[1]


@pytest.fixture
async def pair(urls: tuple[str, str]) -> AsyncIterator[Pair]:
    source, target = map(database_at, urls)
    await schema_version.prepare(source)
    await source.write(_fill)
    yield Pair(source, target)
    await source.close()
    await target.close()


def _fill(connection: Connection) -> None:
    advertisers.upsert(connection, [TERN, TERN_US, UNLISTED])
    key = {
        "id": 3,
        "lookup": "a" * 12,
        "secret_hash": bytes(range(32)),
        "role": "admin",
        "label": "é",
        "created_at": NOW,
    }
    ended = {
        "id": 4,
        "lookup": "b" * 12,
        "expires_at": NOW,
        "revoked_at": NOW,
        "old_secret_hash": bytes(32),
        "old_secret_expires_at": NOW,
        "last_used_on": date(2026, 1, 31),
        "is_demo": True,
    }
    connection.execute(insert(tables.api_keys), key)
    connection.execute(insert(tables.api_keys), key | ended)
    for name in ("maya", "kai", "noor"):
        connection.execute(_contact(name))
    for number, name in enumerate(("b", "B", "a-", "a")):
        connection.execute(
            insert(tables.idempotency_records).values(
                api_key_id=3 + number % 2,
                idempotency_key=name,
                fingerprint=bytes(32),
                contact_id=1,
                created_at=NOW + timedelta(seconds=number),
            )
        )
    for byte in (0, 200):
        connection.execute(
            insert(tables.attempts).values(
                key=bytes([byte] * 32),
                fingerprint=bytes(32),
                advertiser_id=1,
                email="kai@example.com",
                sent_at=NOW,
                holder="h",
                held_until=NOW,
                contact_id=1 if byte else None,
                is_unnamed=bool(byte),
            )
        )


def _contact(name: str) -> Insert:
    """Return the statement that inserts a contact, whose id the database generates."""
    address = f"{name}@example.com"
    return insert(tables.contacts).values(
        advertiser_id=5,
        email=address,
        email_key=address,
        folded_text="",
        created_at=NOW,
        updated_at=NOW,
    )


async def _rows(database: Database) -> Rows:
    def read(connection: Connection) -> Rows:
        return {
            each.name: set(map(tuple, connection.execute(select(each))))
            for each in tables.metadata.sorted_tables
        }

    return await database.read(read)


def _ignore(_phase: str, _completed: int, _total: int) -> None: ...


@pytest.mark.parametrize("urls", [*product(Engine, Engine)], ids="-to-".join, indirect=True)
async def test_all_rows_are_copied_with_all_columns(pair: Pair) -> None:
    counts = await copy_database(pair.source, pair.target, _ignore)

    rows = await _rows(pair.source)
    assert all(rows.values())
    assert await _rows(pair.target) == rows
    assert counts == {name: len(each) for name, each in rows.items()}


async def _create(database: Database, name: str) -> int:
    return await database.write(
        lambda connection: connection.execute(
            _contact(name).returning(tables.contacts.c.id)
        ).scalar_one()
    )


async def test_the_id_of_a_deleted_row_is_not_generated_again(pair: Pair) -> None:
    deleted = await _create(pair.source, "robin")
    await pair.source.write(
        lambda connection: connection.execute(
            delete(tables.contacts).where(tables.contacts.c.id == deleted)
        )
    )

    await copy_database(pair.source, pair.target, _ignore)

    assert await _create(pair.target, "robin") == deleted + 1


async def test_ids_that_were_given_are_not_generated_again(pair: Pair) -> None:
    await pair.source.write(lambda connection: connection.execute(_contact("robin").values(id=99)))

    await copy_database(pair.source, pair.target, _ignore)

    assert await _create(pair.target, "wren") == 100


class InterruptionError(Exception):
    """A copy is interrupted."""


@pytest.mark.parametrize("rows", [1, 2, 4, 7, 9, 13], ids="after {}".format)
async def test_an_interrupted_copy_is_continued(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(copying, "_ROWS_AT_A_TIME", 1)
    expected = await _rows(pair.source)
    assert sum(map(len, expected.values())) == 14

    def interrupt(phase: str, completed: int, _: int) -> None:
        if (phase, completed) == ("Copying", rows):
            raise InterruptionError

    with pytest.raises(InterruptionError):
        await copy_database(pair.source, pair.target, interrupt)
    assert sum(map(len, (await _rows(pair.target)).values())) == rows

    phases: list[tuple[str, int, int]] = []
    await copy_database(pair.source, pair.target, lambda *phase: phases.append(phase))

    assert phases[rows - 1] == ("Comparing", rows, rows)
    assert phases[-1] == ("Verifying", 28, 28)
    assert await _rows(pair.target) == expected


async def test_a_complete_copy_may_be_verified_again(pair: Pair) -> None:
    await copy_database(pair.source, pair.target, _ignore)

    assert sum((await copy_database(pair.source, pair.target, _ignore)).values()) == 14


async def test_a_database_with_other_rows_is_left_alone(pair: Pair) -> None:
    await schema_version.prepare(pair.target)
    await pair.target.write(lambda connection: advertisers.upsert(connection, [TERN_US_ALONE]))
    before = await _rows(pair.target)

    with pytest.raises(CopyError, match=r"^TO has rows of advertisers that FROM does not have"):
        await copy_database(pair.source, pair.target, _ignore)

    assert await _rows(pair.target) == before


async def test_a_row_that_the_copy_has_lost_is_noticed(pair: Pair) -> None:
    await copy_database(pair.source, pair.target, _ignore)
    await pair.target.write(
        lambda connection: connection.execute(
            delete(tables.contacts).where(tables.contacts.c.email == "kai@example.com")
        )
    )

    with pytest.raises(CopyError, match=r"^FROM has 3 rows of contacts, and TO has 2. Stop all"):
        await copy_database(pair.source, pair.target, _ignore)


async def test_a_row_that_changes_during_the_copy_is_noticed(pair: Pair) -> None:
    def change(phase: str, completed: int, total: int) -> None:
        if phase == "Copying" and completed == total:
            with ThreadPoolExecutor(1) as thread:
                thread.submit(asyncio.run, _rename(pair.source.address)).result()

    with pytest.raises(CopyError, match=r"^FROM and TO have different rows of api_keys"):
        await copy_database(pair.source, pair.target, change)


async def _rename(address: DatabaseAddress) -> None:
    database = open_database(address, prepares_statements=False)
    await database.write(
        lambda connection: connection.execute(
            update(tables.api_keys).where(tables.api_keys.c.id == 3).values(label="other")
        )
    )
    await database.close()


async def test_a_database_is_not_copied_to_itself(pair: Pair) -> None:
    with pytest.raises(CopyError, match=r"^FROM and TO are the same database"):
        await copy_database(pair.source, pair.source, _ignore)


async def test_a_database_is_not_copied_to_itself_under_another_name(
    pair: Pair, tmp_path: Path
) -> None:
    address = pair.source.address
    if isinstance(address, SqliteFile):
        link = tmp_path / "link.db"
        link.symlink_to(address.path)
        other = database_at(f"sqlite:///{link}")
    else:
        other = database_at(f"{address.uri}&application_name=other")

    assert other.address != address
    with pytest.raises(CopyError, match=r"^FROM and TO are the same database"):
        await copy_database(pair.source, other, _ignore)
    await other.close()


async def test_a_system_that_does_not_know_its_databases_is_copied(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one that only speaks PostgreSQL's protocol."""
    monkeypatch.setattr(copying, "_OWN", "SELECT no_such_function()")

    assert (await copy_database(pair.source, pair.target, _ignore))["advertisers"] == 3


async def test_an_empty_database_is_no_source(pair: Pair) -> None:
    pair.target.check()

    with pytest.raises(CopyError, match=r"^FROM: .* is not a database of the gateway"):
        await copy_database(pair.target, pair.source, _ignore)


@pytest.mark.parametrize(
    ("revision", "reason"),
    [("0001", "is at revision 0001, and this version needs"), ("9999", "Upgrade contact-gateway")],
    ids=["older", "newer"],
)
async def test_databases_of_other_versions_are_refused(
    pair: Pair, revision: str, reason: str
) -> None:
    await schema_version.prepare(pair.target)
    set_revision = update(table("alembic_version", column("version_num")))

    await pair.target.write(
        lambda connection: connection.execute(set_revision.values(version_num=revision))
    )

    with pytest.raises(CopyError, match=f"^TO: .*{reason}"):
        await copy_database(pair.source, pair.target, _ignore)
    with pytest.raises(CopyError, match=f"^FROM: .*{reason}"):
        await copy_database(pair.target, pair.source, _ignore)


async def test_a_missing_file_is_not_created(tmp_path: Path, pair: Pair) -> None:
    missing = tmp_path / "missing.db"

    with pytest.raises(CopyError, match=r"^FROM: .*missing.db does not exist"):
        await copy_database(database_at(f"sqlite:///{missing}"), pair.target, _ignore)

    assert not missing.exists()


@pytest.mark.parametrize(
    "urls", [(Engine.SQLITE, Engine.POSTGRESQL)], ids="-to-".join, indirect=True
)
async def test_a_text_that_postgresql_cannot_store_is_an_error(pair: Pair) -> None:
    await pair.source.write(
        lambda connection: connection.execute(update(tables.api_keys).values(label="a\0b"))
    )

    with pytest.raises(CopyError, match=r"^TO: .*NUL"):
        await copy_database(pair.source, pair.target, _ignore)


async def test_no_error_has_a_password(pair: Pair, tmp_path: Path) -> None:
    target = database_at(f"postgresql://someone:s3cret@/gateway?host={tmp_path}")

    with pytest.raises(CopyError, match=r"^TO: the database does not answer") as raised:
        await copy_database(pair.source, target, _ignore)

    assert "s3cret" not in str(raised.value)
    await target.close()
