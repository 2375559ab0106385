"""The gateway sends only SQL that suits PostgreSQL's distributed relatives and connection poolers.

docs/scaling.md names these systems.
"""

import ast
import io
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Final, NamedTuple

import psycopg
import pytest

import contact_gateway.store
from contact_gateway import demo
from contact_gateway.access.api_keys import Rotation, mint, rotate
from contact_gateway.access.principals import Credential, Role
from contact_gateway.contacts.advertiser_lookup import advertiser_named
from contact_gateway.contacts.catalogue import read_csv
from contact_gateway.contacts.ledger import Attempt
from contact_gateway.contacts.outcomes import Conflict, Created, Previewed
from contact_gateway.contacts.source import (
    AdvertiserFilter,
    ContactFilter,
    Creation,
    PageRequest,
    SourceUnavailable,
)
from contact_gateway.database_url import parse_database_url
from contact_gateway.store import (
    api_keys,
    audit_trail,
    contacts,
    idempotency,
    lists,
    schema_version,
    text_index,
)
from contact_gateway.store.checks import inspect_server
from contact_gateway.store.copying import copy_database
from contact_gateway.store.database import Database, open_database
from contact_gateway.store.export import exported_contacts
from contact_gateway.store.ledger import OpenAttempt, SqlLedger, open_attempts, settle
from contact_gateway.store.source import SqlSource, StoreAccess
from contact_gateway.store.staged_catalogue import StagedCatalogue
from support.contacts import stored, submitted
from support.databases import Engine, databases_on, new_database
from support.documentation import ROOT, blocks_of
from support.portable_sql import (
    CORRELATED,
    FUNCTIONS,
    IDENTITY_FUNCTIONS,
    PRIVILEGE_FUNCTIONS,
    SEQUENCE_FUNCTIONS,
    problems,
)
from support.sql_recorder import recorded_sql

pytestmark = pytest.mark.anyio

LACKING = {
    "advisory lock": ("SELECT pg_advisory_xact_lock(1)", "the function pg_advisory_xact_lock"),
    "table lock": ("LOCK TABLE contacts IN SHARE MODE", "the statement LockStmt"),
    "enum": ("CREATE TYPE role AS ENUM ('admin')", "the statement CreateEnumStmt"),
    "array": ("SELECT ARRAY[id] FROM contacts", "an array"),
    "array column": ("CREATE TABLE a (ids bigint[])", "an array"),
    "added array column": ("ALTER TABLE contacts ADD COLUMN ids bigint[]", "an array"),
    "array comparison": ("SELECT 1 FROM contacts WHERE id = ANY($1)", "an array"),
    "unnest": ("SELECT x FROM unnest($1::bigint[]) AS x", "the function unnest"),
    "trigger": (
        "CREATE TRIGGER t AFTER INSERT ON contacts EXECUTE FUNCTION f()",
        "the statement CreateTrigStmt",
    ),
    "function": (
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "the statement CreateFunctionStmt",
    ),
    "LISTEN": ("LISTEN contacts", "the statement ListenStmt"),
    "NOTIFY": ("NOTIFY contacts", "the statement NotifyStmt"),
    "setting of the session": (
        "SET statement_timeout = 1000",
        "SET statement_timeout without LOCAL",
    ),
    "isolation of the session": (
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SET SESSION CHARACTERISTICS without LOCAL",
    ),
    "function that sets the session": (
        "SELECT set_config('statement_timeout', '1s', false)",
        "set_config for the session",
    ),
    "setting that others lack": ("SET LOCAL jit_above_cost = 0", "the setting jit_above_cost"),
    "extension": ("CREATE EXTENSION citext", "the extension citext"),
    "temporary table": ("CREATE TEMPORARY TABLE a (id bigint)", "a temporary or unlogged table"),
    "query into a temporary table": (
        "SELECT id INTO TEMPORARY a FROM contacts",
        "a temporary or unlogged table",
    ),
    "cursor": ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "the statement DeclareCursorStmt"),
    "prepared statement": ("PREPARE p AS SELECT 1", "the statement PrepareStmt"),
    "next value of a sequence": (
        "INSERT INTO contacts (id) VALUES (nextval('contacts_id_seq'))",
        "the function nextval",
    ),
    "last value of a sequence": ("SELECT lastval()", "the function lastval"),
    "SKIP LOCKED": (
        "SELECT id FROM contacts FOR UPDATE SKIP LOCKED",
        "LockWaitSkip, instead of waiting for a row lock",
    ),
    "deferrable constraint": (
        "ALTER TABLE contacts ADD CONSTRAINT c UNIQUE (id) DEFERRABLE",
        "a deferrable constraint",
    ),
    "exclusion constraint": (
        "CREATE TABLE a (id bigint, EXCLUDE USING gist (id WITH =))",
        "the constraint CONSTR_EXCLUSION",
    ),
    "GiST index": ("CREATE INDEX i ON contacts USING gist (email)", "an index of the kind gist"),
    "subquery in VALUES": (
        "INSERT INTO contacts (id) VALUES ((SELECT max(id) FROM contacts))",
        "a subquery in the VALUES of an INSERT",
    ),
    "correlated subquery": (
        "SELECT 1 FROM advertisers AS a WHERE EXISTS (SELECT 1 FROM contacts WHERE x = a.id)",
        "a correlated subquery over a distributed table",
    ),
    "CTE that writes": (
        "WITH gone AS (DELETE FROM contacts RETURNING id) SELECT id FROM gone",
        "a CTE that writes",
    ),
    "LATERAL": (
        "SELECT 1 FROM advertisers AS a, LATERAL (SELECT a.id) AS b",
        "a LATERAL subquery",
    ),
    "collation of a column": ('CREATE TABLE a (key text COLLATE "C")', "a collation"),
    "collation of an index": ('CREATE INDEX i ON contacts (email COLLATE "C")', "a collation"),
    "collation of an order": ('SELECT 1 FROM contacts ORDER BY email COLLATE "C"', "a collation"),
    "unknown function": ("SELECT md5(email) FROM contacts", "the function md5"),
    "other SQL": ("UPSERT INTO contacts VALUES (1)", "not read by PostgreSQL's parser"),
}


@pytest.mark.parametrize(("sql", "problem"), LACKING.values(), ids=LACKING)
def test_what_one_of_the_systems_lacks_is_found(sql: str, problem: str) -> None:
    assert [each.partition(": ")[0] for each in problems(sql)] == [problem]


@pytest.mark.parametrize(
    "sql",
    [
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        "SET LOCAL statement_timeout = 2000",
        "SELECT set_config($1, $2, true)",
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "INSERT INTO contacts (email) VALUES ($1), ($2) ON CONFLICT DO NOTHING RETURNING id",
        "SELECT id FROM advertisers WHERE id IN ($1, $2) ORDER BY id FOR KEY SHARE",
        "DELETE FROM attempts WHERE key IN (SELECT key FROM attempts LIMIT 2000)",
        "SELECT 1 FROM pg_catalog.pg_class WHERE relkind = ANY (ARRAY['r'])",
        "CREATE TABLE a (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY)",
        "CREATE EXTENSION IF NOT EXISTS pg_trgm",
        "CREATE INDEX IF NOT EXISTS i ON contacts USING gin (folded_text gin_trgm_ops)",
    ],
)
def test_what_all_of_the_systems_have_passes(sql: str) -> None:
    assert not problems(sql)


SCALING: Final = ROOT / "docs" / "scaling.md"
STORE: Final = Path(contact_gateway.store.__file__).parent
ONLY_ON_SQLITE: Final = frozenset({"sqlite.py"})
# Of SQLite, and of an index for which the server of the tests has no extension.
UNUSED_HERE: Final = frozenset(
    {
        "_by_text_on_sqlite",
        "_by_text_on_postgresql",
        "_rank_of_the_last",
        "is_complete",
        "rare_trigrams",
    }
)
ONE_PAGE: Final = PageRequest(1, 2)
CONTACT_FILTERS: Final = (
    ContactFilter(),
    ContactFilter(q="maya 100%"),
    ContactFilter(email="maya@example.com"),
    ContactFilter(advertiser_id=2001),
    ContactFilter(advertiser_name="north"),
    ContactFilter(domain="northwind.example"),
    ContactFilter(advertiser_name="a"),
    ContactFilter(advertiser_slug="northwind-outfitters"),
    ContactFilter("m", "maya@example.com", 2001, "north", "northwind.example"),
)
ADVERTISER_FILTERS: Final = (
    AdvertiserFilter(),
    AdvertiserFilter(q="north"),
    AdvertiserFilter(domain="northwind.example"),
    AdvertiserFilter(hienergy_id=1001),
    AdvertiserFilter(name="north"),
    AdvertiserFilter(network="awin"),
    AdvertiserFilter(domain_or_url="https://northwind.example/shop"),
    AdvertiserFilter("north", "northwind.example", 1001, "north", network="awin"),
)


NOT_ON_CITUS: Final = "WITH given(value) AS"
# PgBouncer tracks these, and refuses a client that sends others.
POOLED_PARAMETERS: Final = frozenset(
    {"user", "database", "application_name", "client_encoding", "datestyle"}
)


class Function(NamedTuple):
    """A function, by the place of its first line."""

    file: str
    line: int


def functions_with_a_connection() -> frozenset[Function]:
    """Return the functions of the store that get a connection, and so may send SQL."""
    return frozenset(
        Function(str(file), min([node.lineno, *(each.lineno for each in node.decorator_list)]))
        for file in STORE.rglob("*.py")
        if file.name not in ONLY_ON_SQLITE
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
        and not node.name.endswith("_on_sqlite")
        and node.name not in UNUSED_HERE
        and not any(ast.unparse(each) == "abstractmethod" for each in node.decorator_list)
        and any(
            argument.annotation is not None and ast.unparse(argument.annotation) == "Connection"
            for argument in node.args.args
        )
    )


@contextmanager
def recorded_calls() -> Iterator[set[Function]]:
    """Record the functions that are called on this thread, and on those that are started."""
    called: set[Function] = set()

    def record(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            called.add(Function(frame.f_code.co_filename, frame.f_code.co_firstlineno))

    threading.setprofile(record)
    sys.setprofile(record)
    try:
        yield called
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


async def do_everything(database: Database) -> None:
    """Send every statement that the gateway and its commands have."""
    assert await schema_version.is_ready(database)
    assert not await database.is_read_only()
    keys = await demo.prepare_demo(database, lambda: None)
    source = SqlSource(database)
    await source.warn_of_expiring_keys()
    access = await source.authenticate(Credential.of(keys.admin))
    assert isinstance(access, StoreAccess)
    await create_contacts(access)
    await read_everything(access)
    await export(access, database)
    await source.close()
    await use_a_ledger(SqlLedger(database), database)
    await manage_keys(database)
    await demo.end_demo(database)
    await database.write(idempotency.purge)
    await import_catalogue(database)


async def create_contacts(access: StoreAccess) -> None:
    contact = submitted(advertiser_id=2001, email="maya@example.com", name="Maya")
    preview = await access.create_contact(Creation(contact, None, dry_run=True))
    assert isinstance(preview, Previewed)
    for key in ("first try", "first try"):
        created = await access.create_contact(Creation(contact, key, dry_run=False))
        assert isinstance(created, Created)
    conflict = await access.create_contact(Creation(contact, None, dry_run=False))
    assert isinstance(conflict, Conflict)


async def read_everything(access: StoreAccess) -> None:
    for wanted in CONTACT_FILTERS:
        await access.contacts(wanted, ONE_PAGE)
        await access.contacts(wanted, ONE_PAGE._replace(number=2))
    for wanted_advertisers in ADVERTISER_FILTERS:
        await access.advertisers(wanted_advertisers, ONE_PAGE)
        await access.advertisers(wanted_advertisers, ONE_PAGE._replace(number=2))
    (contact,) = (await access.contacts(ContactFilter(), ONE_PAGE)).items
    assert await access.contact(contact.id) == contact
    assert await access.contacts_of_brand(2001, ContactFilter(), ONE_PAGE) is not None
    assert await access.advertiser_by_slug("northwind-outfitters") is not None
    assert await access.equivalents((1001,))


async def export(access: StoreAccess, database: Database) -> None:
    for advertiser_id in (None, 1001):
        parts = [part async for part in exported_contacts(database, advertiser_id)]
        assert [len(part.contacts) for part in parts] == [1]
    for name in ("1001", "northwind-outfitters", "Northwind"):
        await advertiser_named(access, name)


async def use_a_ledger(ledger: SqlLedger, database: Database) -> None:
    now = datetime.now(UTC)
    contact = stored(submitted(advertiser_id=1001, email="maya@example.com"), now, id_=7)
    attempt = Attempt(b"s" * 32, b"f" * 32, 1001, "maya@example.com", now, "worker", now)
    for key in (b"1" * 32, b"2" * 32, b"3" * 32):
        assert await ledger.claim(key, attempt) == attempt
    assert await ledger.put(b"1" * 32, "worker", attempt._replace(contact=contact))
    assert await ledger.put(b"2" * 32, "worker", None)
    assert await ledger.find(b"1" * 32) is not None
    assert await ledger.has_contact(7)
    assert await ledger.contact(b"s" * 32, 7) == contact
    await ledger.close()
    opened = OpenAttempt(b"3" * 32, attempt)
    assert await database.read(open_attempts) == (opened,)
    await database.write(partial(settle, opened=opened, contact_id=8))


async def import_catalogue(database: Database) -> None:
    rows = "id,name,network_name,hienergy_id\n9001,Tern,{},{}\n9002,Tern US,CJ,1002\n"
    for hienergy_record in (("HiEnergy", ""), ("Awin", "1001")):
        with StagedCatalogue(database) as staged:
            await staged.add(read_csv(io.StringIO(rows.format(*hienergy_record), newline="")))
            await staged.write(lambda _: None)


async def manage_keys(database: Database) -> None:
    now = datetime.now(UTC)
    key_id = await database.write(
        partial(api_keys.add, minted=mint(), role=Role.ADMIN, label="ci", expires_at=now)
    )
    keys = await database.read(api_keys.all_keys)
    rotation = rotate(keys[0], timedelta(), now)
    assert isinstance(rotation, Rotation)
    await database.write(partial(api_keys.replace_secret, rotated=rotation.record))
    assert await database.write(lambda connection: api_keys.revoke(connection, key_id))
    assert await database.read(lambda connection: audit_trail.of_contact(connection, 1))


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """Return the URL of a new database on PostgreSQL."""
    with databases_on(Engine.POSTGRESQL):
        yield new_database(folder)


async def run(url: str, work: Callable[[Database], Awaitable[object]]) -> None:
    """Run `work` in a gateway of its own, that prepares no statements."""
    database = open_database(parse_database_url(url), prepares_statements=False)
    await work(database)
    await database.close()


async def copy(source: str, target: str) -> None:
    """Copy a database, as `store copy` does."""

    async def copy_from(origin: Database) -> None:
        await run(target, lambda database: copy_database(origin, database, lambda *_: None))

    await run(source, copy_from)


async def check(database: Database) -> None:
    """Check a database, as `store check` and `doctor` do."""
    assert await database.read(schema_version.may_create_tables)
    assert (await inspect_server(database)).problems == []


async def search_by_an_index_of_text(database: Database) -> None:
    """Search as on a server with pg_trgm, which the tests' own server has not."""
    await database.read(text_index.can_exist)
    await database.read(text_index.is_complete)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_index, "_is_valid", lambda *_: True)
        patch.setattr(lists, "NEWEST", 0)
        for q in ("maya", "no such text"):
            await database.read(partial(contacts.page, wanted=ContactFilter(q=q), request=ONE_PAGE))


async def test_all_that_is_sent_suits_all_of_the_systems(tmp_path: Path) -> None:
    with (
        recorded_calls() as called,
        postgresql(tmp_path) as source,
        postgresql(tmp_path) as target,
    ):
        with recorded_sql(source) as recording:
            await run(recording.url, schema_version.prepare)
            await run(recording.url, do_everything)
            await run(recording.url, search_by_an_index_of_text)
        with recorded_sql(source) as copied, recorded_sql(target) as written:
            # The second one goes on after the first, and compares what is stored.
            for _ in range(2):
                await copy(copied.url, written.url)
            await run(written.url, check)

    by_operators = (*copied.statements, *written.statements)
    found = [(sql, problems(sql)) for sql in recording.statements]
    functions = FUNCTIONS | SEQUENCE_FUNCTIONS | IDENTITY_FUNCTIONS | PRIVILEGE_FUNCTIONS
    found += [(sql, problems(sql, functions)) for sql in by_operators]
    # One list, which docs/scaling.md names.
    lacking = [(sql, each) for sql, each in found if each and not sql.startswith(NOT_ON_CITUS)]
    assert lacking == []
    assert [each for sql, each in found if sql.startswith(NOT_ON_CITUS)] == [[CORRELATED]]
    assert sorted(functions_with_a_connection() - called) == []
    # A pooler gives the session to another client after each transaction.
    assert not recording.prepared_names
    assert recording.startup_parameters <= POOLED_PARAMETERS


class TestKeysOfCitus:
    """With the keys that docs/scaling.md asks for, on a server without Citus."""

    @pytest.fixture
    async def url(self, tmp_path: Path) -> AsyncIterator[str]:
        with postgresql(tmp_path) as url:
            await run(url, schema_version.prepare)
            (block,) = (each for each in blocks_of(SCALING) if each.language == "sql")
            with psycopg.connect(url) as connection:
                for statement in block.text.split(";"):
                    if "create_" not in statement:
                        connection.execute(statement)
            yield url

    async def test_the_gateway_does_everything(self, url: str) -> None:
        await run(url, do_everything)

    async def test_a_key_whose_contact_is_not_seen_yet_is_unavailable(self, url: str) -> None:
        """Of one transaction, other shards may be seen earlier."""
        contact = submitted(advertiser_id=1001, email="maya@example.com")

        async def replay(database: Database) -> None:
            keys = await demo.prepare_demo(database, lambda: None)
            source = SqlSource(database)
            access = await source.authenticate(Credential.of(keys.admin))
            assert isinstance(access, StoreAccess)
            created = await access.create_contact(Creation(contact, "key", dry_run=False))
            with psycopg.connect(url) as connection:
                connection.execute("DELETE FROM contacts")
            with pytest.raises(SourceUnavailable, match="won every race"):
                await access.create_contact(Creation(contact, "key", dry_run=False))
            assert isinstance(created, Created)

        await run(url, replay)
