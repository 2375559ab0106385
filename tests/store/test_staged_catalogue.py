"""Imports of catalogues: rows are compared with each other and the store, then written."""

import asyncio
import io
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from itertools import islice

import pytest
from sqlalchemy import Connection, delete, select, update

from contact_gateway.contacts.advertiser import HIENERGY_NETWORK, Advertiser
from contact_gateway.contacts.catalogue import CatalogueError, read_csv, read_jsonl, validated
from contact_gateway.store import advertisers, staged_catalogue, tables
from contact_gateway.store.database import Database
from contact_gateway.store.staged_catalogue import Counts, StagedCatalogue, StoreChangedError
from support.clock import WATCHDOG_SECONDS
from support.databases import Engine, waits_for_a_lock
from support.process import resident_bytes

pytestmark = pytest.mark.anyio

HEADER = "id,name,network_name,hienergy_id"
TERN = Advertiser(id=1, name="Tern", network_name=HIENERGY_NETWORK, hienergy_id=1)
MAYA = "INSERT INTO contacts (advertiser_id, email, email_key, folded_text, created_at, updated_at)"


@pytest.fixture
async def catalogue(database: Database) -> Database:
    """Return a database whose catalogue tests fill themselves."""
    await database.write(lambda connection: connection.execute(delete(tables.advertisers)))
    return database


async def _store(database: Database, *records: Advertiser) -> None:
    await database.write(lambda connection: advertisers.upsert(connection, records))


def _network(an_id: int, owner: int | None, name: str = "Tern US") -> Advertiser:
    return Advertiser(id=an_id, name=name, network_name="CJ", hienergy_id=owner)


async def _import(database: Database, rows: str, header: str = HEADER) -> Counts:
    with StagedCatalogue(database) as staged:
        await staged.add(read_csv(io.StringIO(f"{header}\n{rows}", newline="")))
        await staged.write(lambda _: None)
        return staged.counts


async def _stored(database: Database) -> dict[int, int | None]:
    """Return the id of each advertiser with that of its HiEnergy record."""
    columns = tables.advertisers.c
    query = select(columns.id, columns.hienergy_id).order_by(columns.id)
    return await database.read(
        lambda connection: {row[0]: row[1] for row in connection.execute(query)}
    )


async def test_a_record_may_stand_before_the_hienergy_record_that_it_names(
    catalogue: Database,
) -> None:
    rows = "2,Tern US,CJ,1\n3,Auk US,CJ,\n1,Tern,HiEnergy,\n4,Auk,HiEnergy,\n"

    assert await _import(catalogue, rows) == Counts(rows=4, new=4, changed=0)

    assert await _stored(catalogue) == {1: 1, 2: 1, 3: None, 4: 4}


async def test_a_record_may_name_a_stored_hienergy_record(catalogue: Database) -> None:
    await _store(catalogue, TERN)

    await _import(catalogue, "2,Tern US,CJ,1\n")

    assert await _stored(catalogue) == {1: 1, 2: 1}


@pytest.mark.parametrize(
    ("rows", "line", "reason"),
    [
        pytest.param(
            "1,T,CJ,\n\n1,T,CJ,\n", 4, "duplicate id 1, first on line 2", id="an id twice"
        ),
        pytest.param("1,T,CJ,9\n", 2, "hienergy_id 9 is not a HiEnergy", id="unknown owner"),
        pytest.param(
            "2,T,CJ,\n1,T,CJ,2\n", 3, "hienergy_id 2 is not a HiEnergy", id="a network's owner"
        ),
        pytest.param("1,T,CJ,1\n", 2, "hienergy_id 1 is not a HiEnergy", id="its own owner"),
        pytest.param("1,T,CJ,9\n2,T,CJ,8\n", 2, "hienergy_id 9", id="the first of two"),
    ],
)
async def test_rows_that_do_not_fit_together_are_refused(
    catalogue: Database, rows: str, line: int, reason: str
) -> None:
    with pytest.raises(CatalogueError, match=f"^line {line}: {reason}"):
        await _import(catalogue, rows)

    assert await _stored(catalogue) == {}


@pytest.mark.parametrize("batch_size", [1, 2, 500])
async def test_an_id_twice_is_found_in_any_batch(
    catalogue: Database, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    monkeypatch.setattr(staged_catalogue, "_ROWS_STAGED_AT_ONCE", batch_size)
    await _store(catalogue, _network(3, None, "T"))

    with pytest.raises(CatalogueError, match="line 5: duplicate id 3, first on line 3"):
        await _import(catalogue, "1,T,CJ,\n3,T,CJ,\n2,T,CJ,\n3,T,CJ,\n3,T,CJ,\n")


@pytest.mark.parametrize(
    ("records", "rows"),
    [
        pytest.param((TERN, _network(2, 1)), "1,T,CJ,\n", id="a stored record names it"),
        pytest.param(
            (TERN, _network(2, 1), _network(3, 1)), "1,T,CJ,\n2,U,CJ,\n", id="one of two names it"
        ),
        pytest.param(
            (TERN, _network(2, 1)), "1,T,CJ,\n2,Tern US,CJ,1\n", id="an unchanged row names it"
        ),
    ],
)
async def test_a_hienergy_record_that_others_name_must_stay_one(
    catalogue: Database, records: Sequence[Advertiser], rows: str
) -> None:
    await _store(catalogue, *records)

    with pytest.raises(CatalogueError, match=r"line 2: .* in use and must stay one"):
        await _import(catalogue, rows)


async def test_a_hienergy_record_with_contacts_must_stay_one(catalogue: Database) -> None:
    await _store(catalogue, TERN)
    await catalogue.write(_add_contact)

    with pytest.raises(CatalogueError, match=r"line 2: .* in use and must stay one"):
        await _import(catalogue, "1,T,CJ,\n")


def _add_contact(connection: Connection) -> None:
    connection.exec_driver_sql(
        f"{MAYA} VALUES (1, 'maya@example.com', 'maya@example.com', '', '2026-01-31', '2026-01-31')"
    )


@pytest.mark.parametrize(
    ("records", "rows"),
    [
        pytest.param((TERN,), "1,T,CJ,\n", id="without dependents"),
        pytest.param((TERN, _network(2, 1)), "1,T,CJ,\n2,U,CJ,\n", id="they lose it"),
        pytest.param(
            (TERN, _network(2, 1)),
            "1,T,CJ,3\n3,U,HiEnergy,\n2,U,CJ,3\n",
            id="they get another",
        ),
    ],
)
async def test_a_hienergy_record_without_dependents_may_become_a_network_record(
    catalogue: Database, records: Sequence[Advertiser], rows: str
) -> None:
    await _store(catalogue, *records)

    await _import(catalogue, rows)

    assert 1 not in (await _stored(catalogue)).values()


async def test_a_hienergy_record_in_use_may_be_renamed(catalogue: Database) -> None:
    await _store(catalogue, TERN, _network(2, 1))
    await catalogue.write(_add_contact)

    assert await _import(catalogue, "1,Arctic Tern,HiEnergy,\n") == Counts(rows=1, new=0, changed=1)


async def test_a_network_record_may_become_the_hienergy_record(catalogue: Database) -> None:
    await _store(catalogue, TERN, _network(2, 1))

    await _import(catalogue, "2,Tern,HiEnergy,\n1,Tern,CJ,2\n")

    assert await _stored(catalogue) == {1: 2, 2: 2}


FULL = Advertiser(
    id=2**53 + 1,
    name="Tern",
    display_name="Arctic Tern",
    slug="tern",
    domain="tern.example",
    network_name=HIENERGY_NETWORK,
    publisher_name="Birds",
    status="active",
    hienergy_id=2**53 + 1,
)
FULL_HEADER = "name,display_name,slug,domain,network_name,publisher_name,status,hienergy_id,id"


@pytest.mark.parametrize(
    "row",
    [
        "Tern,Arctic Tern,tern,tern.example,HiEnergy,Birds,active,,9007199254740993",
        "Tern,Arctic Tern,tern,TERN.example,HiEnergy,Birds,active,,9007199254740993",
        " Tern,Arctic Tern ,tern,tern.example,HiEnergy,Birds,active,,09007199254740993",
    ],
    ids=["as stored", "domain in capitals", "spaces"],
)
async def test_a_row_that_says_what_is_stored_is_unchanged(catalogue: Database, row: str) -> None:
    await _store(catalogue, FULL)

    assert await _import(catalogue, f"{row}\n", FULL_HEADER) == Counts(rows=1, new=0, changed=0)


@pytest.mark.parametrize(
    "row",
    [
        ",Arctic Tern,tern,tern.example,HiEnergy,Birds,active,,9007199254740993",
        "Tern,Arctic Tern,tern,tern.example,HiEnergy,Birds,active,3,9007199254740993",
    ],
    ids=["no name", "another owner"],
)
async def test_an_invalid_row_of_a_stored_record_is_refused(catalogue: Database, row: str) -> None:
    await _store(catalogue, FULL)

    with pytest.raises(CatalogueError, match="line 2"):
        await _import(catalogue, f"{row}\n", FULL_HEADER)


async def test_rows_that_repeat_what_is_stored_are_not_validated(
    catalogue: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "1,Tern,HiEnergy,\n2,Tern US,CJ,1\n3,Gull,CJ,\n"
    await _import(catalogue, rows)
    lines: list[int] = []

    def recorded(line: int, row: Sequence[object]) -> Advertiser:
        lines.append(line)
        return validated(line, row)

    monkeypatch.setattr(staged_catalogue, "validated", recorded)

    assert await _import(catalogue, f"{rows}4,Auk,CJ,1\n") == Counts(rows=4, new=1, changed=0)
    assert lines == [5]


async def test_a_row_that_leaves_out_a_column_empties_it(catalogue: Database) -> None:
    await _store(catalogue, FULL)

    assert (await _import(catalogue, f"{FULL.id},Tern,HiEnergy,\n")).changed == 1


@pytest.mark.parametrize(
    ("line", "is_valid"),
    [
        ('{"id": 1, "name": "Tern", "network_name": "HiEnergy"}', True),
        ('{"id": "1", "name": "Tern", "network_name": "HiEnergy", "hienergy_id": 1}', True),
        ('{"id": true, "name": "Tern", "network_name": "HiEnergy"}', False),
        ('{"id": 1.0, "name": "Tern", "network_name": "HiEnergy"}', False),
        ('{"id": 1, "name": "Tern", "network_name": "HiEnergy", "hienergy_id": true}', False),
        ('{"id": 1, "name": "Tern", "network_name": "HiEnergy", "slug": 0}', False),
        ('{"id": 1, "name": "Tern", "network_name": "HiEnergy", "wat": null}', False),
    ],
)
async def test_a_json_row_of_a_stored_record_is_validated_unless_it_is_equal(
    catalogue: Database, line: str, *, is_valid: bool
) -> None:
    await _store(catalogue, TERN)

    with StagedCatalogue(catalogue) as staged:
        if is_valid:
            await staged.add(read_jsonl(io.StringIO(line)))
            assert staged.counts == Counts(rows=1, new=0, changed=0)
        else:
            with pytest.raises(CatalogueError, match="line 1"):
                await staged.add(read_jsonl(io.StringIO(line)))


async def test_memory_does_not_grow_with_the_file(catalogue: Database) -> None:
    with StagedCatalogue(catalogue) as staged:
        rows = (
            (number, [str(number), f"Tern {number}" * 10, None, None, None, "CJ", None, None, None])
            for number in range(1, 60_001)
        )
        await staged.add(islice(rows, 5_000))
        before = resident_bytes()
        await staged.add(rows)

        # As Python objects, the rows would need 50 MiB.
        assert resident_bytes() - before < 16 * 1024 * 1024
        assert staged.counts == Counts(rows=60_000, new=60_000, changed=0)


ROWS = "".join(f"{number},Tern {number},HiEnergy,\n" for number in range(1, 11))


class InterruptionError(Exception):
    """An import is interrupted."""


@pytest.fixture
def small_transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write one row with a statement, and in a transaction where those are short."""
    monkeypatch.setattr(staged_catalogue, "MAX_ROWS_AT_ONCE", 0)
    monkeypatch.setattr(staged_catalogue, "TRANSACTION_SECONDS", 0)
    monkeypatch.setattr(staged_catalogue, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(staged_catalogue, "_ROWS_PER_STATEMENT", 1)


async def _seen_meanwhile(catalogue: Database, rows: str) -> Sequence[int]:
    """Import rows; return how many others see after each, before the end of its transaction."""
    loop = asyncio.get_running_loop()
    seen: list[int] = []
    with StagedCatalogue(catalogue) as staged:

        def look(_: int) -> None:
            seen.append(len(asyncio.run_coroutine_threadsafe(_stored(catalogue), loop).result()))

        await staged.add(read_csv(io.StringIO(f"{HEADER}\n{rows}", newline="")))
        await staged.write(look)
    assert len(await _stored(catalogue)) == len(seen)
    return seen


@pytest.mark.usefixtures("small_transactions")
async def test_a_large_import_is_short_transactions_on_sqlite_and_one_on_postgresql(
    catalogue: Database, engine: Engine
) -> None:
    seen = await _seen_meanwhile(catalogue, ROWS)

    assert seen == ([*range(10)] if engine is Engine.SQLITE else [0] * 10)


async def test_a_small_import_is_one_transaction(
    catalogue: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staged_catalogue, "TRANSACTION_SECONDS", 0)
    monkeypatch.setattr(staged_catalogue, "_ROWS_PER_STATEMENT", 1)

    assert await _seen_meanwhile(catalogue, ROWS) == [0] * 10


@pytest.mark.usefixtures("small_transactions")
async def test_the_next_import_writes_what_an_interrupted_one_has_not(
    catalogue: Database, engine: Engine
) -> None:
    def interrupt(written: int) -> None:
        if written == 3:
            raise InterruptionError

    with StagedCatalogue(catalogue) as staged:
        await staged.add(read_csv(io.StringIO(f"{HEADER}\n{ROWS}", newline="")))
        with pytest.raises(InterruptionError):
            await staged.write(interrupt)
    kept = {1: 1, 2: 2} if engine is Engine.SQLITE else {}
    assert await _stored(catalogue) == kept

    assert await _import(catalogue, ROWS) == Counts(rows=10, new=10 - len(kept), changed=0)

    assert await _stored(catalogue) == {number: number for number in range(1, 11)}


async def test_new_and_changed_rows_are_counted(catalogue: Database) -> None:
    await _import(catalogue, "1,Tern,HiEnergy,\n2,Tern US,CJ,1\n3,Auk,HiEnergy,\n")

    counts = await _import(
        catalogue, f"4,Auk US,CJ,3\n1,Tern,HiEnergy,1\n2,Tern,CJ,1\n{3:030},Auk,HiEnergy,\n"
    )

    assert counts == Counts(rows=4, new=1, changed=1)


async def test_a_row_whose_owner_another_process_demoted_meanwhile_is_not_written(
    catalogue: Database,
) -> None:
    await _store(catalogue, TERN)
    with StagedCatalogue(catalogue) as staged:
        await staged.add(read_csv(io.StringIO(f"{HEADER}\n2,Tern US,CJ,1\n", newline="")))
        await catalogue.write(
            lambda connection: connection.execute(
                update(tables.advertisers).values(network_name="CJ", hienergy_id=None)
            )
        )
        with pytest.raises(StoreChangedError, match="advertiser 2 "):
            await staged.write(lambda _: None)

    assert await _stored(catalogue) == {1: None}


async def test_a_hienergy_record_that_got_a_contact_meanwhile_stays_one(
    catalogue: Database,
) -> None:
    await _store(catalogue, TERN)
    with StagedCatalogue(catalogue) as staged:
        await staged.add(read_csv(io.StringIO(f"{HEADER}\n1,Tern,CJ,\n", newline="")))
        await catalogue.write(_add_contact)
        with pytest.raises(StoreChangedError, match=r"advertiser 1 .* No advertiser was imported"):
            await staged.write(lambda _: None)

    assert await _stored(catalogue) == {1: 1}


async def test_an_import_waits_for_a_creation_on_a_record_that_it_demotes(
    catalogue: Database,
) -> None:
    await _store(catalogue, TERN)
    is_resolved, is_imported = threading.Event(), threading.Event()

    def create(connection: Connection) -> None:
        assert 1 in advertisers.hienergy(connection, [1])
        is_resolved.set()
        # SQLite's import has not begun: there is one writer.
        while connection.dialect.name == "postgresql" and not waits_for_a_lock(connection):
            assert not is_imported.is_set()
        _add_contact(connection)

    with StagedCatalogue(catalogue) as staged:
        await staged.add(read_csv(io.StringIO(f"{HEADER}\n1,Tern,CJ,\n", newline="")))
        creation = asyncio.create_task(catalogue.write(create))
        await asyncio.to_thread(is_resolved.wait, WATCHDOG_SECONDS)
        try:
            with pytest.raises(StoreChangedError, match="advertiser 1 "):
                await staged.write(lambda _: None)
        finally:
            is_imported.set()
        await creation

    assert await _stored(catalogue) == {1: 1}


async def test_a_creation_waits_for_an_import_that_demotes_its_record(
    catalogue: Database, engine: Engine
) -> None:
    await _store(catalogue, TERN)
    loop = asyncio.get_running_loop()
    found: list[Future[Mapping[int, Advertiser]]] = []

    def resolve(_: int) -> None:
        creation = catalogue.write(lambda connection: advertisers.hienergy(connection, [1]))
        found.append(asyncio.run_coroutine_threadsafe(creation, loop))
        while engine is Engine.POSTGRESQL and not found[0].done():
            waits = asyncio.run_coroutine_threadsafe(catalogue.read(waits_for_a_lock), loop)
            if waits.result():
                return

    with StagedCatalogue(catalogue) as staged:
        await staged.add(read_csv(io.StringIO(f"{HEADER}\n1,Tern,CJ,\n", newline="")))
        await staged.write(resolve)

    owners = await asyncio.wrap_future(found[0])
    assert not any(owner.is_hienergy for owner in owners.values())


@pytest.mark.usefixtures("small_transactions")
async def test_imports_that_meet_are_both_completed(catalogue: Database) -> None:
    networks = "HiEnergy", "CJ"
    # Network records are written after HiEnergy records: one locks what the other waits for.
    one, other = (
        "".join(f"{number},Tern,{networks[(number + shift) % 2]},\n" for number in range(1, 11))
        for shift in range(2)
    )

    await asyncio.gather(_import(catalogue, one), _import(catalogue, other))

    assert len(await _stored(catalogue)) == 10
