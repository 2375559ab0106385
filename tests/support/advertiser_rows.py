"""One more advertiser in a database of the store's tests, and how many there are."""

from sqlalchemy import Connection, func, insert, select

from contact_gateway.store.database import Database
from contact_gateway.store.tables import advertisers

COUNT = select(func.count()).select_from(advertisers)
ROW = {"id": 7, "name": "Tern", "network_name": "CJ", "folded_names": "tern"}


def insert_row(connection: Connection, **changed: object) -> None:
    """Insert the advertiser, with some of its columns changed."""
    connection.execute(insert(advertisers).values(ROW | changed))


def count_rows(connection: Connection) -> int:
    """Return how many advertisers there are."""
    return connection.execute(COUNT).scalar_one()


async def insert_one(database: Database, **changed: object) -> None:
    """Insert the advertiser in a transaction of its own."""
    await database.write(lambda connection: insert_row(connection, **changed))


async def count_advertisers(database: Database) -> int:
    """Return how many advertisers are committed."""
    return await database.read(count_rows)
