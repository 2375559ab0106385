"""Contacts in SQL, and how many submissions are carried out in one transaction."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select

from contact_gateway.access.principals import Principal
from contact_gateway.contacts import policy
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.contact import DETAIL_NAMES, Contact, NewContact
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
_NAMES: Final = tuple(field.name for field in fields(Contact))
_COLUMNS: Final = tuple(
    func.coalesce(advertisers.c.display_name, advertisers.c.name).label(name)
    if name == "advertiser_name"
    else contacts.c[name]
    for name in _NAMES
)
_SELECT: Final = select(*_COLUMNS).join_from(
    contacts, advertisers, advertisers.c.id == contacts.c.advertiser_id
)
_BY_ID: Final = _SELECT.where(contacts.c.id.in_(bindparam("ids", expanding=True)))
# Pairs of columns are not compared as pairs: SQLite would go through the whole table.
_WITH_ADDRESS: Final = _SELECT.add_columns(contacts.c.email_key).where(
    contacts.c.email_key.in_(bindparam("email_keys", expanding=True))
)
_record: Final = idempotency_records.c
_EARLIER: Final = (
    _SELECT.add_columns(_record.api_key_id, _record.idempotency_key, _record.fingerprint)
    .join(idempotency_records, _record.contact_id == contacts.c.id)
    .where(
        _record.api_key_id.in_(bindparam("api_key_ids", expanding=True)),
        _record.idempotency_key.in_(bindparam("idempotency_keys", expanding=True)),
    )
)
_INSERT: Final = insert(contacts).returning(contacts.c.id, sort_by_parameter_order=True)
_REMEMBER: Final = insert(idempotency_records)

_IdempotencyKey: TypeAlias = tuple[int, str]
_Address: TypeAlias = tuple[int, str]


@dataclass(frozen=True, slots=True)
class _Known:
    """What bears on the submissions of one transaction; what it inserts is added."""

    earlier: dict[_IdempotencyKey, policy.Earlier]
    hienergy: Mapping[int, Advertiser]
    existing: dict[_Address, Contact]

    def facts(self, creation: Creation) -> policy.Facts:
        """Return what bears on one submission."""
        key = _idempotency_key(creation)
        owner = self.hienergy.get(creation.contact.advertiser_id)
        address = None if owner is None else (owner.id, email_key(creation.contact.email))
        return policy.Facts(
            earlier=None if key is None else self.earlier.get(key),
            hienergy=owner,
            existing=None if address is None else self.existing.get(address),
        )

    def add(self, creation: Creation, contact: Contact) -> None:
        """Take in what a submission has created."""
        self.existing[contact.advertiser_id, email_key(contact.email)] = contact
        key = _idempotency_key(creation)
        if key is not None:
            self.earlier[key] = policy.Earlier(creation.contact.fingerprint(), contact)


def by_id(connection: Connection, ids: Collection[int]) -> Mapping[int, Contact]:
    """Return those of the contacts that there are."""
    rows = connection.execute(_BY_ID, {"ids": list(ids)})
    return {contact.id: contact for contact in map(_contact, rows)}


def page(connection: Connection, wanted: ContactFilter, request: PageRequest) -> Page[Contact]:
    """Return a page of contacts, newest first."""
    query = _SELECT.order_by(contacts.c.id.desc())
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
    return fetch_page(connection, query, request, _contact)


def create(connection: Connection, creations: Sequence[Creation]) -> Sequence[CreateContactOutcome]:
    """Carry out submissions, in order, inside the caller's transaction.

    The facts of all are gathered first; what one submission inserts is a fact to those after it.
    Which outcome follows from the facts is the policy's to say.

    Returns:
        The outcome of each, to be told only after the transaction is committed.
    """
    hienergy = advertiser_rows.hienergy(
        connection, {creation.contact.advertiser_id for creation in creations}
    )
    known = _Known(
        _earlier(connection, creations), hienergy, _existing(connection, creations, hienergy)
    )
    outcomes: list[CreateContactOutcome] = []
    for unrelated in _unrelated(creations):
        decisions = [(creation, _decided(creation, known)) for creation in unrelated]
        inserted = iter(_insert(connection, decisions))
        for creation, decision in decisions:
            if isinstance(decision, policy.Insert):
                contact = next(inserted)
                known.add(creation, contact)
                outcomes.append(Created(contact))
            else:
                outcomes.append(decision)
    return outcomes


def forget_old_idempotency_keys(connection: Connection) -> None:
    """Delete the records of keys that are past their retention."""
    oldest = datetime.now(UTC) - IDEMPOTENCY_RETENTION
    connection.execute(delete(idempotency_records).where(idempotency_records.c.created_at < oldest))


def _idempotency_key(creation: Creation) -> _IdempotencyKey | None:
    if creation.idempotency_key is None:
        return None
    return _key_id(creation), creation.idempotency_key


def _key_id(creation: Creation) -> int:
    if not isinstance(creation.principal, Principal):
        raise TypeError("the store serves the owners of its own keys")
    return creation.principal.key_id


def _decided(creation: Creation, known: _Known) -> policy.Decision:
    return policy.decide(creation.contact, known.facts(creation), dry_run=creation.dry_run)


def _unrelated(creations: Iterable[Creation]) -> Iterator[Sequence[Creation]]:
    """Yield submissions in order, apart where what one inserts may be a fact to another."""
    together: list[Creation] = []
    marks: set[str | _IdempotencyKey | None] = set()
    for creation in creations:
        own = {email_key(creation.contact.email), _idempotency_key(creation)} - {None}
        if not marks.isdisjoint(own):
            yield together
            together, marks = [], set()
        together.append(creation)
        marks |= own
    yield together


def _earlier(
    connection: Connection, creations: Sequence[Creation]
) -> dict[_IdempotencyKey, policy.Earlier]:
    keys = {key for creation in creations if (key := _idempotency_key(creation)) is not None}
    if not keys:
        return {}
    api_key_ids, texts = zip(*keys, strict=True)
    wanted = {"api_key_ids": list(set(api_key_ids)), "idempotency_keys": list(set(texts))}
    return {
        (row.api_key_id, row.idempotency_key): policy.Earlier(row.fingerprint, _contact(row))
        for row in connection.execute(_EARLIER, wanted)
    }


def _existing(
    connection: Connection, creations: Sequence[Creation], hienergy: Mapping[int, Advertiser]
) -> dict[_Address, Contact]:
    addresses = {
        (owner.id, email_key(creation.contact.email))
        for creation in creations
        if (owner := hienergy.get(creation.contact.advertiser_id)) is not None
    }
    if not addresses:
        return {}
    keys = list({key for _, key in addresses})
    return {
        address: _contact(row)
        for row in connection.execute(_WITH_ADDRESS, {"email_keys": keys})
        if (address := (row.advertiser_id, row.email_key)) in addresses
    }


def _insert(
    connection: Connection, decisions: Iterable[tuple[Creation, policy.Decision]]
) -> Sequence[Contact]:
    """Insert the contacts that are decided upon, and remember their idempotency keys."""
    now = datetime.now(UTC)
    now = now.replace(microsecond=now.microsecond // 1000 * 1000)
    insertions = [
        (creation, decision.advertiser, _row(decision, creation, now))
        for creation, decision in decisions
        if isinstance(decision, policy.Insert)
    ]
    if not insertions:
        return ()
    ids = connection.execute(_INSERT, [row for _, _, row in insertions]).scalars().all()
    inserted = [
        Contact(
            id=contact_id,
            advertiser_name=owner.title,
            created_at=now,
            updated_at=now,
            **_details(creation.contact) | {"advertiser_id": owner.id},
        )
        for contact_id, (creation, owner, _) in zip(ids, insertions, strict=True)
    ]
    remembered = [
        _remembered(key, creation, contact)
        for contact, (creation, _, _) in zip(inserted, insertions, strict=True)
        if (key := _idempotency_key(creation)) is not None
    ]
    if remembered:
        connection.execute(_REMEMBER, remembered)
    return inserted


def _row(decision: policy.Insert, creation: Creation, now: datetime) -> dict[str, object]:
    submitted, origin = decision.contact, creation.origin
    return {
        **_details(submitted),
        "advertiser_id": decision.advertiser.id,
        "email_key": email_key(submitted.email),
        "folded_text": folded(getattr(submitted, name) for name in _SEARCHED),
        "created_at": now,
        "updated_at": now,
        "created_by_key_id": _key_id(creation),
        "created_through": None if origin is None else origin.face.value,
        "created_by_request_id": None if origin is None else origin.request_id,
    }


def _remembered(key: _IdempotencyKey, creation: Creation, contact: Contact) -> dict[str, object]:
    api_key_id, idempotency_key = key
    return {
        "api_key_id": api_key_id,
        "idempotency_key": idempotency_key,
        "fingerprint": creation.contact.fingerprint(),
        "contact_id": contact.id,
        "created_at": contact.created_at,
    }


def _details(submitted: NewContact) -> dict[str, Any]:  # fields of several types, by name
    return {name: getattr(submitted, name) for name in DETAIL_NAMES}


def _contact(row: Row[Any]) -> Contact:  # the columns' types are not kept by SQLAlchemy's Table
    # Further columns, where there are any, come after the contact's.
    return Contact(**dict(zip(_NAMES, row, strict=False)))
