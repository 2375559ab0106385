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

_SELECT: Final = select(
    api_keys.c.id,
    api_keys.c.lookup,
    api_keys.c.secret_hash,
    api_keys.c.role,
    api_keys.c.label,
    api_keys.c.created_at,
    api_keys.c.expires_at,
    api_keys.c.revoked_at,
)
_BY_LOOKUP: Final = PreparedSelect(_SELECT, api_keys.c.lookup)
_BY_ID: Final = PreparedSelect(_SELECT, api_keys.c.id)


@dataclass(frozen=True, slots=True)
class Revocation:
    """When a key was revoked; `now` is false if that was before this call."""

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
    """Return the keys with these lookup parts, without those that do not exist."""
    found = map(_record, _BY_LOOKUP.rows(connection, [(lookup,) for lookup in lookups]))
    return {key.lookup: key for key in found}


def by_id(connection: Connection, ids: Collection[int]) -> Mapping[int, KeyRecord]:
    """Return the keys with these ids, without those that do not exist."""
    found = map(_record, _BY_ID.rows(connection, [(key_id,) for key_id in ids]))
    return {key.id: key for key in found}


def all_keys(connection: Connection) -> tuple[KeyRecord, ...]:
    """Return all keys, oldest first."""
    return tuple(map(_record, connection.execute(_SELECT.order_by(api_keys.c.id))))


def revoke(connection: Connection, key_id: int) -> Revocation | None:
    """Revoke a key for good; return None if it does not exist."""
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
    """Return whether a demo key is not revoked."""
    active = select(api_keys.c.id).where(api_keys.c.is_demo, api_keys.c.revoked_at.is_(None))
    return connection.execute(active.limit(1)).first() is not None


def revoke_demo_keys(connection: Connection) -> None:
    """Revoke the keys of all demos so far."""
    connection.execute(
        update(api_keys)
        .where(api_keys.c.is_demo, api_keys.c.revoked_at.is_(None))
        .values(revoked_at=datetime.now(UTC))
    )


def has_real_keys(connection: Connection) -> bool:
    """Return whether a key exists that no demo created."""
    real = select(api_keys.c.id).where(~api_keys.c.is_demo)
    return connection.execute(real.limit(1)).first() is not None


def _record(row: Sequence[Any]) -> KeyRecord:  # SQLAlchemy's Table has no types of columns
    """Read a row of `_SELECT`, by position."""
    key_id, lookup, secret_hash, role, label, created_at, expires_at, revoked_at = row
    return KeyRecord(
        id=key_id,
        lookup=lookup,
        secret_hash=secret_hash,
        role=Role(role),
        label=label,
        created_at=created_at,
        expires_at=expires_at,
        revoked_at=revoked_at,
    )
