"""Contacts in SQL, and how many submissions are carried out in one transaction."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Row, Select, delete, func, insert, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from contact_gateway.access.principals import Principal
from contact_gateway.contacts import policy
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.contact import DETAIL_NAMES, Contact
from contact_gateway.contacts.fields import email_key
from contact_gateway.contacts.outcomes import CreateContactOutcome, Created
from contact_gateway.contacts.source import (
    ContactFilter,
    Creation,
    Page,
    PageRequest,
)
from contact_gateway.store import advertisers as advertiser_rows
from contact_gateway.store.paging import fetch_page
from contact_gateway.store.search import contains_folded, folded
from contact_gateway.store.tables import advertisers, contacts, idempotency_records

IDEMPOTENCY_RETENTION: Final = timedelta(hours=48)
"""How long a used idempotency key is remembered; the contract promises 24 hours."""

_SEARCHED: Final = ("email", "name", "given_name", "family_name", "job_title", "phone")
_COLUMNS: Final = (
    contacts.c.id,
    contacts.c.created_at,
    contacts.c.updated_at,
    *(contacts.c[name] for name in DETAIL_NAMES),
    func.coalesce(advertisers.c.display_name, advertisers.c.name).label("advertiser_name"),
)

_IdempotencyKey = tuple[int, str]
_Address = tuple[int, str]


async def by_id(connection: AsyncConnection, contact_id: int) -> Contact | None:
    """Return one contact."""
    row = (await connection.execute(_select().where(contacts.c.id == contact_id))).one_or_none()
    return None if row is None else _contact(row)


async def page(
    connection: AsyncConnection, wanted: ContactFilter, request: PageRequest
) -> Page[Contact]:
    """Return a page of contacts, newest first."""
    query = _select().order_by(contacts.c.id.desc())
    if wanted.q is not None:
        query = query.where(contains_folded(contacts.c.folded_text, wanted.q))
    if wanted.email is not None:
        query = query.where(contacts.c.email_key == email_key(wanted.email))
    if wanted.advertiser_id is not None:
        owner = select(advertisers.c.hienergy_id).where(advertisers.c.id == wanted.advertiser_id)
        query = query.where(contacts.c.advertiser_id == owner.scalar_subquery())
    if wanted.advertiser_name is not None:
        query = query.where(advertiser_rows.has_name(wanted.advertiser_name))
    if wanted.domain is not None:
        query = query.where(advertisers.c.domain == wanted.domain.lower())
    return await fetch_page(connection, query, request, _contact)


async def create(
    connection: AsyncConnection, creations: Sequence[Creation]
) -> Sequence[CreateContactOutcome]:
    """Carry out submissions, in order, inside the caller's transaction.

    The facts of all are gathered first; what one submission inserts is a fact to those after it.
    Which outcome follows from the facts is the policy's to say.

    Returns:
        The outcome of each, to be told only after the transaction is committed.
    """
    earlier = await _earlier(connection, creations)
    hienergy = await _hienergy(connection, creations)
    existing = await _existing(connection, creations, hienergy)
    outcomes: list[CreateContactOutcome] = []
    for creation in creations:
        key = _idempotency_key(creation)
        owner = hienergy.get(creation.contact.advertiser_id)
        address = None if owner is None else (owner.id, email_key(creation.contact.email))
        facts = policy.Facts(
            earlier=None if key is None else earlier.get(key),
            hienergy=owner,
            existing=None if address is None else existing.get(address),
        )
        decision = policy.decide(creation.contact, facts, dry_run=creation.dry_run)
        if not isinstance(decision, policy.Insert):
            outcomes.append(decision)
            continue
        contact = await _insert(connection, decision, creation)
        existing[contact.advertiser_id, email_key(contact.email)] = contact
        if key is not None:
            fingerprint = creation.contact.fingerprint()
            await _remember(connection, key, fingerprint, contact)
            earlier[key] = policy.Earlier(fingerprint, contact)
        outcomes.append(Created(contact))
    return outcomes


async def forget_old_idempotency_keys(connection: AsyncConnection) -> None:
    """Delete the records of keys that are past their retention."""
    oldest = datetime.now(UTC) - IDEMPOTENCY_RETENTION
    await connection.execute(
        delete(idempotency_records).where(idempotency_records.c.created_at < oldest)
    )


def _idempotency_key(creation: Creation) -> _IdempotencyKey | None:
    if creation.idempotency_key is None:
        return None
    return _key_id(creation), creation.idempotency_key


def _key_id(creation: Creation) -> int:
    if not isinstance(creation.principal, Principal):
        raise TypeError("the store serves the owners of its own keys")
    return creation.principal.key_id


async def _earlier(
    connection: AsyncConnection, creations: Sequence[Creation]
) -> dict[_IdempotencyKey, policy.Earlier]:
    keys = {key for creation in creations if (key := _idempotency_key(creation)) is not None}
    if not keys:
        return {}
    record = idempotency_records.c
    rows = await connection.execute(
        select(record.api_key_id, record.idempotency_key, record.fingerprint, *_COLUMNS)
        .join_from(idempotency_records, contacts)
        .join(advertisers, advertisers.c.id == contacts.c.advertiser_id)
        .where(tuple_(record.api_key_id, record.idempotency_key).in_(keys))
    )
    return {
        (row.api_key_id, row.idempotency_key): policy.Earlier(row.fingerprint, _contact(row))
        for row in rows
    }


async def _hienergy(
    connection: AsyncConnection, creations: Sequence[Creation]
) -> Mapping[int, Advertiser]:
    submitted = await advertiser_rows.by_id(
        connection, {creation.contact.advertiser_id for creation in creations}
    )
    named = {
        advertiser.hienergy_id
        for advertiser in submitted.values()
        if advertiser.hienergy_id is not None
    }
    missing: Collection[int] = named - submitted.keys()
    found = {**submitted, **(await advertiser_rows.by_id(connection, missing) if missing else {})}
    return {
        advertiser.id: found[advertiser.hienergy_id]
        for advertiser in submitted.values()
        if advertiser.hienergy_id is not None
    }


async def _existing(
    connection: AsyncConnection,
    creations: Sequence[Creation],
    hienergy: Mapping[int, Advertiser],
) -> dict[_Address, Contact]:
    addresses = {
        (owner.id, email_key(creation.contact.email))
        for creation in creations
        if (owner := hienergy.get(creation.contact.advertiser_id)) is not None
    }
    if not addresses:
        return {}
    rows = await connection.execute(
        _select().where(tuple_(contacts.c.advertiser_id, contacts.c.email_key).in_(addresses))
    )
    found = map(_contact, rows)
    return {(contact.advertiser_id, email_key(contact.email)): contact for contact in found}


async def _insert(
    connection: AsyncConnection, decision: policy.Insert, creation: Creation
) -> Contact:
    owner, submitted = decision.advertiser, decision.contact
    now = datetime.now(UTC)
    now = now.replace(microsecond=now.microsecond // 1000 * 1000)
    details = {name: getattr(submitted, name) for name in DETAIL_NAMES}
    details |= {"advertiser_id": owner.id, "created_at": now, "updated_at": now}
    result = await connection.execute(
        insert(contacts)
        .values(
            **details,
            email_key=email_key(submitted.email),
            folded_text=folded(getattr(submitted, name) for name in _SEARCHED),
            **_audited(creation),
        )
        .returning(contacts.c.id)
    )
    return Contact(id=result.scalar_one(), advertiser_name=owner.title, **details)


def _audited(creation: Creation) -> dict[str, int | str | None]:
    origin = creation.origin
    return {
        "created_by_key_id": _key_id(creation),
        "created_through": None if origin is None else origin.face.value,
        "created_by_request_id": None if origin is None else origin.request_id,
    }


async def _remember(
    connection: AsyncConnection, key: _IdempotencyKey, fingerprint: bytes, contact: Contact
) -> None:
    api_key_id, idempotency_key = key
    await connection.execute(
        insert(idempotency_records).values(
            api_key_id=api_key_id,
            idempotency_key=idempotency_key,
            fingerprint=fingerprint,
            contact_id=contact.id,
            created_at=contact.created_at,
        )
    )


def _select() -> Select[Any]:  # the columns' types are not kept by SQLAlchemy's Table
    return select(*_COLUMNS).join_from(
        contacts, advertisers, advertisers.c.id == contacts.c.advertiser_id
    )


def _contact(row: Row[Any]) -> Contact:
    return Contact(
        id=row.id,
        advertiser_name=row.advertiser_name,
        created_at=row.created_at,
        updated_at=row.updated_at,
        **{name: row._mapping[name] for name in DETAIL_NAMES},
    )
