"""`contact-gateway store` and `advertisers import` with PostgreSQL, and copies to and from it."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from contact_gateway.database_url import parse_database_url
from support.databases import (
    Engine,
    database_at,
    databases_on,
    new_database,
    plain_connection,
)
from support.gateway import filled_store
from support.process import Command, clean_environment

CSV = "id,name,network_name,hienergy_id\n1,Tern,HiEnergy,\n2,Tern US,CJ,1\n"


@pytest.fixture
def server(folder: Path) -> Iterator[str]:
    """Return the URL of a database without tables."""
    with databases_on(Engine.POSTGRESQL):
        yield new_database(folder)


@pytest.fixture
def url(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return that URL, and let the commands use it."""
    monkeypatch.setenv("CONTACT_GATEWAY_DATABASE_URL", server)
    return server


def _rows(run: Command, monkeypatch: pytest.MonkeyPatch, url: str) -> dict[str, int]:
    """Return the counts of a sound database."""
    monkeypatch.setenv("CONTACT_GATEWAY_DATABASE_URL", url)
    result = run("store", "check", "--json")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["problems"]) == (0, [])
    rows: dict[str, int] = report["rows"]
    return rows


def test_a_database_is_copied_to_postgresql_and_back(
    run: Command, folder: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled_store(folder)
    back = f"sqlite:///{folder / 'back.db'}"

    there = run("store", "copy", store.url, server)

    assert (there.exit_code, there.stdout) == (0, "")
    assert "Copied and verified: advertisers 7, api_keys 6, " in there.stderr
    assert "Set CONTACT_GATEWAY_DATABASE_URL to the new database" in there.stderr
    assert run("store", "copy", server, back).exit_code == 0
    rows = _rows(run, monkeypatch, store.url)
    assert _rows(run, monkeypatch, server) == rows
    assert _rows(run, monkeypatch, back) == rows


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("mysql://x/y", "sqlite:///to.db", "FROM: only sqlite"),
        ("sqlite:///from.db", "sqlite:///to.db?mode=ro", "TO: remove the query"),
        ("sqlite:///from.db", "sqlite:///to.db", "FROM: from.db does not exist"),
        ("postgresql://a:s3cret@[", "sqlite:///to.db", "FROM: not a URL of PostgreSQL"),
        (
            "postgresql://a:s3cret@/x?host=/nowhere",
            "sqlite:///to.db",
            "FROM: the database does not answer: ",
        ),
    ],
    ids=["another system", "an option", "a missing file", "no URL", "no server"],
)
def test_what_cannot_be_copied_is_named_without_a_password(
    run: Command, folder: Path, source: str, target: str, message: str
) -> None:
    result = run("store", "copy", source, target)

    assert (result.exit_code, result.stdout) == (1, "")
    assert f"Error: {message}" in result.stderr
    assert "s3cret" not in result.stderr
    assert not [*folder.iterdir()]


@pytest.mark.usefixtures("url")
@pytest.mark.parametrize("command", [("backup", "copy.db"), ("restore", "copy.db")], ids=str)
def test_backups_of_postgresql_are_those_of_its_own_tools(
    run: Command, folder: Path, command: tuple[str, ...]
) -> None:
    (folder / "copy.db").touch()

    result = run("store", *command)

    assert (result.exit_code, result.stdout) == (1, "")
    assert "pg_dump" in result.stderr


def test_a_check_says_what_is_wrong(run: Command, folder: Path, url: str) -> None:
    (folder / "catalogue.csv").write_text(CSV, encoding="utf-8")
    run("advertisers", "import", "catalogue.csv")

    async def demote() -> None:
        database = database_at(url)
        await database.write(
            lambda connection: connection.execute(
                text("UPDATE advertisers SET network_name = 'CJ'")
            )
        )
        await database.close()

    asyncio.run(demote())

    result = run("store", "check")

    assert result.exit_code == 1
    assert "advertisers: 2\n" in result.stdout
    assert (
        "Problem: 2 advertisers whose hienergy_id is not a HiEnergy record: 1, 2\n" in result.stdout
    )


def test_a_check_finds_a_sequence_that_is_behind(run: Command, url: str) -> None:
    """As after logical replication, which copies no sequences."""
    run("keys", "create", "--role", "admin", "--label", "first")
    run("keys", "create", "--role", "admin", "--label", "second")
    assert run("store", "check").exit_code == 0
    advice = "SELECT setval(pg_get_serial_sequence('api_keys', 'id'), 2)"

    with plain_connection(parse_database_url(url)) as connection:
        connection.exec_driver_sql("SELECT setval('api_keys_id_seq', 1)")
        behind = run("store", "check")
        connection.exec_driver_sql(advice)

    assert behind.exit_code == 1
    assert f"Problem: api_keys: the next ids are in use, up to 2. Run {advice}\n" in behind.stdout
    assert run("store", "check").exit_code == 0


@pytest.mark.usefixtures("url")
def test_a_check_of_an_empty_database_says_so(run: Command) -> None:
    result = run("store", "check")

    assert result.exit_code == 1
    assert "Problem: it is not a database of contact-gateway" in result.stdout


def test_a_check_of_a_server_that_does_not_answer_is_an_error(
    run: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTACT_GATEWAY_DATABASE_URL", f"postgresql://a:s3cret@/b?host={folder}")

    result = run("store", "check")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "CONTACT_GATEWAY_DATABASE_URL: " in result.stderr
    assert "s3cret" not in result.stderr


@pytest.mark.usefixtures("url")
def test_a_catalogue_is_imported_into_postgresql(run: Command, folder: Path) -> None:
    (folder / "catalogue.csv").write_text(CSV, encoding="utf-8")

    first, second = (run("advertisers", "import", "catalogue.csv") for _ in range(2))

    assert (first.exit_code, second.exit_code) == (0, 0)
    assert "Imported 2 advertisers: 2 new, 0 changed, 0 unchanged." in first.stderr
    assert "Imported 2 advertisers: 0 new, 0 changed, 2 unchanged." in second.stderr


def test_a_killed_import_changes_nothing(run: Command, folder: Path, url: str) -> None:
    """PostgreSQL stores an import in one transaction."""
    header, numbers = "id,name,network_name\n", range(1, 1001)
    for file, name in (("first.csv", "Tern"), ("second.csv", "Auk")):
        rows = "".join(f"{number},{name},HiEnergy\n" for number in numbers)
        (folder / file).write_text(header + rows, encoding="utf-8")
    run("advertisers", "import", "first.csv")

    with psycopg.connect(url) as other:
        # The import waits for the last row when it has written all others.
        other.execute("SELECT id FROM advertisers WHERE id = 1000 FOR UPDATE")
        with subprocess.Popen(
            (sys.executable, "-m", "contact_gateway", "advertisers", "import", "second.csv"),
            env={**clean_environment(), "CONTACT_GATEWAY_DATABASE_URL": url},
        ) as process:
            while not other.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone():
                assert process.poll() is None
            process.kill()
        names = other.execute("SELECT DISTINCT name FROM advertisers").fetchall()

    assert names == [("Tern",)]
    again = run("advertisers", "import", "second.csv")
    assert "Imported 1000 advertisers: 0 new, 1000 changed, 0 unchanged." in again.stderr
