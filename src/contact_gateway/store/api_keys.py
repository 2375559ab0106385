"""API keys in SQL."""

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Any, Final

from sqlalchemy import Connection, bindparam, insert, or_, select, update

from contact_gateway.access.api_keys import KeyRecord, MintedKey
from contact_gateway.access.principals import Role
from contact_gateway.store.prepared_statements import PreparedSelect
from contact_gateway.store.tables import api_keys

_SELECT: Final = select(*(api_keys.c[field] for field in KeyRecord._fields))
_BY_LOOKUP: Final = PreparedSelect(_SELECT, api_keys.c.lookup)
_BY_ID: Final = PreparedSelect(_SELECT, api_keys.c.id)
_DAY: Final = bindparam("day", type_=api_keys.c.last_used_on.type)
_SET_LAST_USED: Final = (
    update(api_keys)
    .where(
        api_keys.c.id == bindparam("key_id"),
        or_(api_keys.c.last_used_on.is_(None), api_keys.c.last_used_on < _DAY),
    )
    .values(last_used_on=_DAY)
)


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


def revoke(connection: Connection, key_id: int) -> KeyRecord | None:
    """Revoke a key for good; return the key as it was before, or None if it does not exist."""
    before = by_id(connection, [key_id]).get(key_id)
    if before is not None and before.revoked_at is None:
        connection.execute(
            update(api_keys).where(api_keys.c.id == key_id).values(revoked_at=datetime.now(UTC))
        )
    return before


def replace_secret(connection: Connection, rotated: KeyRecord) -> None:
    """Store the secrets and the expiry of a key that was rotated."""
    connection.execute(
        update(api_keys)
        .where(api_keys.c.id == rotated.id)
        .values(
            secret_hash=rotated.secret_hash,
            expires_at=rotated.expires_at,
            old_secret_hash=rotated.old_secret_hash,
            old_secret_expires_at=rotated.old_secret_expires_at,
        )
    )


def set_last_used(connection: Connection, days: Mapping[int, date]) -> None:
    """Store the last day of use of keys, by their ids, unless a later day is stored."""
    connection.execute(
        _SET_LAST_USED, [{"key_id": key_id, "day": day} for key_id, day in days.items()]
    )


def expiring(connection: Connection, after: datetime, until: datetime) -> tuple[KeyRecord, ...]:
    """Return the keys that expire in a period, except revoked ones and those of demos."""
    expires_at = api_keys.c.expires_at
    found = _SELECT.where(
        expires_at > after,
        expires_at <= until,
        api_keys.c.revoked_at.is_(None),
        ~api_keys.c.is_demo,
    ).order_by(api_keys.c.id)
    return tuple(map(_record, connection.execute(found)))


def has_demo_keys(connection: Connection) -> bool:
    """Return whether a demo key is not revoked."""
    active = select(api_keys.c.id).where(api_keys.c.is_demo, api_keys.c.revoked_at.is_(None))
    return connection.scalar(active.limit(1)) is not None


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
    return connection.scalar(real.limit(1)) is not None


def _record(row: Iterable[Any]) -> KeyRecord:  # SQLAlchemy's Table has no types of columns
    """Return the key of a row of `_SELECT`."""
    record = KeyRecord._make(row)
    return record._replace(role=Role(record.role))
