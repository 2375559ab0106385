"""API keys in SQL."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, insert, select, update

from contact_gateway.access.api_keys import KeyRecord, MintedKey
from contact_gateway.access.principals import Role
from contact_gateway.store.prepared_statements import PreparedSelect
from contact_gateway.store.tables import api_keys

_COLUMNS: Final = tuple(column for column in api_keys.c if column.name != "is_demo")
_NAMES: Final = tuple(column.name for column in _COLUMNS)
_BY_LOOKUP: Final = PreparedSelect(select(*_COLUMNS), api_keys.c.lookup)
_BY_ID: Final = PreparedSelect(select(*_COLUMNS), api_keys.c.id)


@dataclass(frozen=True, slots=True)
class Revocation:
    """What revoking a key found: when it was revoked, and whether by this call."""

    revoked_at: datetime
    now: bool


def add(  # noqa: PLR0913 - a key has this many parts
    connection: Connection,
    minted: MintedKey,
    *,
    role: Role,
    label: str,
    expires_at: datetime | None = None,
    is_demo: bool = False,
) -> int:
    """Store a key and return its id."""
    result = connection.execute(
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


def by_lookup(connection: Connection, lookups: Collection[str]) -> Mapping[str, KeyRecord]:
    """Return those of the keys that credentials name which there are."""
    found = map(_record, _BY_LOOKUP.rows(connection, [(lookup,) for lookup in lookups]))
    return {key.lookup: key for key in found}


def by_id(connection: Connection, ids: Collection[int]) -> Mapping[int, KeyRecord]:
    """Return those of the keys that there are."""
    found = map(_record, _BY_ID.rows(connection, [(key_id,) for key_id in ids]))
    return {key.id: key for key in found}


def every(connection: Connection) -> tuple[KeyRecord, ...]:
    """Return all keys, oldest first."""
    rows = connection.execute(select(*_COLUMNS).order_by(api_keys.c.id))
    return tuple(_record(row) for row in rows)


def revoke(connection: Connection, key_id: int) -> Revocation | None:
    """Revoke a key, once and for all. None: there is no such key."""
    earlier = (
        connection.execute(select(api_keys.c.revoked_at).where(api_keys.c.id == key_id))
    ).one_or_none()
    if earlier is None:
        return None
    if earlier.revoked_at is not None:
        return Revocation(earlier.revoked_at, now=False)
    now = datetime.now(UTC)
    connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(revoked_at=now))
    return Revocation(now, now=True)


def has_demo_keys(connection: Connection) -> bool:
    """Tell whether there is a demo key that is not revoked."""
    working = select(api_keys.c.id).where(api_keys.c.is_demo, api_keys.c.revoked_at.is_(None))
    return connection.execute(working.limit(1)).first() is not None


def revoke_demo_keys(connection: Connection) -> None:
    """Revoke the demo keys of earlier starts."""
    connection.execute(
        update(api_keys)
        .where(api_keys.c.is_demo, api_keys.c.revoked_at.is_(None))
        .values(revoked_at=datetime.now(UTC))
    )


def has_real_keys(connection: Connection) -> bool:
    """Tell whether there is a key that no demo made."""
    return (
        connection.execute(select(api_keys.c.id).where(~api_keys.c.is_demo).limit(1))
    ).first() is not None


def _record(row: Sequence[Any]) -> KeyRecord:  # SQLAlchemy's Table keeps no types of columns
    values = dict(zip(_NAMES, row, strict=True))
    return KeyRecord(**values | {"role": Role(values["role"])})
