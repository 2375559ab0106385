"""The demo: a small invented catalogue, and two API keys that expire."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Final

from sqlalchemy import Connection

from contact_gateway.access.api_keys import mint
from contact_gateway.access.principals import Role
from contact_gateway.contacts.catalogue import read_csv, validated
from contact_gateway.store import advertisers as advertiser_rows
from contact_gateway.store import api_keys as key_rows
from contact_gateway.store.database import Database

KEY_LIFETIME: Final = timedelta(days=30)
"""How long a demo key is valid, unless a start without the demo revokes it earlier."""


class NotADemoDatabaseError(RuntimeError):
    """The database holds data that is not of a demo."""


@dataclass(frozen=True, slots=True, repr=False)
class DemoKeys:
    """The API keys of one demo."""

    admin: str
    member: str


async def prepare_demo(database: Database, before_commit: Callable[[], None]) -> DemoKeys:
    """Insert the demo's catalogue and return new keys.

    Earlier demo keys stay valid: another demo may run on the same database.
    An exception of `before_commit` rolls everything back.

    Raises:
        NotADemoDatabaseError: the database holds other advertisers or keys.
        SourceUnavailable: the database does not answer.
    """
    with (files("contact_gateway") / "demo.csv").open(encoding="utf-8") as file:
        # Each HiEnergy record comes before the network records that refer to it.
        catalogue = [validated(line, row) for line, row in read_csv(file)]
    keys = {role: mint() for role in Role}

    def fill(connection: Connection) -> None:
        others = advertiser_rows.ids(connection) - {record.id for record in catalogue}
        if others or key_rows.has_real_keys(connection):
            raise NotADemoDatabaseError("the database holds other data than the demo's")
        advertiser_rows.upsert(connection, catalogue)
        expires_at = datetime.now(UTC) + KEY_LIFETIME
        for role, key in keys.items():
            key_rows.add(
                connection,
                key,
                role=role,
                label=f"demo {role}",
                expires_at=expires_at,
                is_demo=True,
            )
        before_commit()

    await database.write(fill)
    return DemoKeys(admin=keys[Role.ADMIN].text, member=keys[Role.MEMBER].text)


async def end_demo(database: Database) -> None:
    """Revoke the API keys of earlier demos.

    Raises:
        SourceUnavailable: the database does not answer.
    """
    # Without demo keys, the start takes no write lock, which another process may hold.
    if await database.read(key_rows.has_demo_keys):
        await database.write(key_rows.revoke_demo_keys)
