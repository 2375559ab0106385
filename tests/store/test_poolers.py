"""A pooler gives the connections of a gateway to others after each transaction."""

from pathlib import Path

import pytest
from sqlalchemy import Connection

from contact_gateway.database_url import parse_database_url
from contact_gateway.store.connection_threads import DatabaseFault
from contact_gateway.store.database import open_database
from support.databases import Engine, databases_on, new_database

pytestmark = pytest.mark.anyio


def _select(connection: Connection) -> None:
    connection.exec_driver_sql("SELECT 1 FROM pg_class LIMIT 1")


def _lose_prepared_statements(connection: Connection) -> None:
    # The driver must not notice it.
    connection.exec_driver_sql("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$")


async def test_a_lost_prepared_statement_names_the_setting(tmp_path: Path) -> None:
    with databases_on(Engine.POSTGRESQL):
        address = parse_database_url(new_database(tmp_path))
        database = open_database(address, connections=3, prepares_statements=True)
        for work in (_select, _select, _lose_prepared_statements):
            await database.read(work)

        with pytest.raises(DatabaseFault, match=r"set .*_DATABASE_PREPARED_STATEMENTS=false"):
            await database.read(_select)
        await database.close()
