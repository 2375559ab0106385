"""`contact-gateway migrate`: what it reports."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from contact_gateway.database_url import parse_database_url
from contact_gateway.store.schema_version import newest_revision
from support.databases import plain_connection
from support.older_database import add_advertisers, add_contact, create_tables
from support.process import Command


def test_contacts_that_became_equal_are_reported(run: Command, folder: Path) -> None:
    file = folder / "contact-gateway.sqlite3"
    engine = create_engine(f"sqlite:///{file}")
    with engine.begin() as connection:
        create_tables(connection)
    engine.dispose()
    with closing(sqlite3.connect(file)) as plain:
        add_advertisers(plain)
        add_contact(plain, "\u017fam@example.com")
        add_contact(plain, "sam@example.com")
        plain.commit()

    first, again = run("migrate"), run("migrate")

    assert (first.exit_code, again.exit_code) == (0, 0)
    about_an_advertiser, about_contacts = first.stdout.splitlines()
    assert about_an_advertiser.startswith("Advertiser 3 has the network 'hienergy'")
    assert about_contacts.startswith("Contacts 1 and 2 of advertiser 1 have the same")
    assert "The database is at revision 0010." in first.stderr
    assert again.stdout == ""


@pytest.mark.usefixtures("database_url")
def test_a_new_database_has_nothing_to_report(run: Command) -> None:
    first, again = run("migrate"), run("migrate")

    for result in (first, again):
        assert result.exit_code == 0
        # The tests' own PostgreSQL server lacks the extension for it.
        expected = "" if result.stdout == "" else "Searches for text have no index"
        assert result.stdout.startswith(expected)
        assert result.stdout.count("\n") == bool(expected)
        assert f"The database is at revision {newest_revision()}." in result.stderr


def test_a_database_of_a_newer_version_cannot_be_migrated(run: Command, database_url: str) -> None:
    run("migrate")
    with plain_connection(parse_database_url(database_url)) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")

    result = run("migrate")

    assert result.exit_code == 1
    assert "CONTACT_GATEWAY_DATABASE_URL" in result.stderr
