"""API keys in SQL."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from contact_gateway.access.api_keys import KeyRecord, MintedKey
from contact_gateway.access.principals import Role
from contact_gateway.store.tables import api_keys

_COLUMNS: Final = tuple(column for column in api_keys.c if column.name != "is_demo")


@dataclass(frozen=True, slots=True)
class Revocation:
    """What revoking a key found: when it was revoked, and whether by this call."""

    revoked_at: datetime
    now: bool


async def add(  # noqa: PLR0913 - a key has this many parts
    connection: AsyncConnection,
    minted: MintedKey,
    *,
    role: Role,
    label: str,
    expires_at: datetime | None = None,
    is_demo: bool = False,
) -> int:
    """Store a key and return its id."""
    result = await connection.execute(
        insert(api_keys)
        .values(
            lookup=minted.lookup,
            secret_hash=minted.secret_hash,
            role=role.value,
            label=label,
            is_demo=is_demo,
            created_at=datetime.now(UTC),
            expires_at=expires_at,
        )
        .returning(api_keys.c.id)
    )
    return int(result.scalar_one())


async def by_lookup(connection: AsyncConnection, lookup: str) -> KeyRecord | None:
    """Return the key that a credential names."""
    row = (
        await connection.execute(select(*_COLUMNS).where(api_keys.c.lookup == lookup))
    ).one_or_none()
    return None if row is None else _record(row)


async def every(connection: AsyncConnection) -> tuple[KeyRecord, ...]:
    """Return all keys, oldest first."""
    rows = await connection.execute(select(*_COLUMNS).order_by(api_keys.c.id))
    return tuple(_record(row) for row in rows)


async def revoke(connection: AsyncConnection, key_id: int) -> Revocation | None:
    """Revoke a key, once and for all. None: there is no such key."""
    earlier = (
        await connection.execute(select(api_keys.c.revoked_at).where(api_keys.c.id == key_id))
    ).one_or_none()
    if earlier is None:
        return None
    if earlier.revoked_at is not None:
        return Revocation(earlier.revoked_at, now=False)
    now = datetime.now(UTC)
    await connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(revoked_at=now))
    return Revocation(now, now=True)


async def revoke_demo_keys(connection: AsyncConnection) -> None:
    """Revoke the demo keys of earlier starts."""
    await connection.execute(
        update(api_keys)
        .where(api_keys.c.is_demo, api_keys.c.revoked_at.is_(None))
        .values(revoked_at=datetime.now(UTC))
    )


async def has_real_keys(connection: AsyncConnection) -> bool:
    """Tell whether there is a key that no demo made."""
    return (
        await connection.execute(select(api_keys.c.id).where(~api_keys.c.is_demo).limit(1))
    ).first() is not None


def _record(row: Row[Any]) -> KeyRecord:
    return KeyRecord(**{**row._mapping, "role": Role(row.role)})
