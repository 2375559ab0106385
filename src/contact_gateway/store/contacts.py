"""Contacts in SQL, and how many submissions are carried out in one transaction."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, func, insert, select

from contact_gateway.access import api_keys
from contact_gateway.access.principals import KeyRefusal, Principal
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
from contact_gateway.store import api_keys as key_rows
from contact_gateway.store.paging import fetch_page
from contact_gateway.store.prepared_statements import PreparedInsert, PreparedSelect
from contact_gateway.store.retention import purge_expired
from contact_gateway.store.search import contains_folded, folded
from contact_gateway.store.tables import advertisers, contacts, idempotency_records

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
_BY_ID: Final = PreparedSelect(_SELECT, contacts.c.id)
_WITH_ADDRESS: Final = PreparedSelect(
    _SELECT.add_columns(contacts.c.email_key), contacts.c.advertiser_id, contacts.c.email_key
)
_record: Final = idempotency_records.c
_EARLIER: Final = PreparedSelect(
    _SELECT.add_columns(_record.fingerprint, _record.api_key_id, _record.idempotency_key).join(
        idempotency_records, _record.contact_id == contacts.c.id
    ),
    _record.api_key_id,
    _record.idempotency_key,
)
_INSERT: Final = PreparedInsert(
    contacts, [column.name for column in contacts.c if column is not contacts.c.id]
)
_REMEMBER: Final = insert(idempotency_records)

_IdempotencyKey: TypeAlias = tuple[int, str]
_Address: TypeAlias = tuple[int, str]


@dataclass(frozen=True, slots=True)
class _Submission:
    """A creation, with what it may have in common with others."""

    creation: Creation
    email_key: str
    idempotency_key: _IdempotencyKey | None

    @classmethod
    def of(cls, creation: Creation) -> "_Submission":
        """Work out what that is."""
        key = creation.idempotency_key
        scoped = None if key is None else (_key_id(creation), key)
        return cls(creation, email_key(creation.contact.email), scoped)


@dataclass(frozen=True, slots=True)
class _Known:
    """What bears on the submissions of one transaction; what it inserts is added."""

    refusals: Mapping[int, KeyRefusal | None]
    earlier: dict[_IdempotencyKey, policy.Earlier]
    hienergy: Mapping[int, Advertiser]
    existing: dict[_Address, Contact]

    def facts(self, submission: _Submission) -> policy.Facts:
        """Return what bears on one submission."""
        key = submission.idempotency_key
        owner = self.hienergy.get(submission.creation.contact.advertiser_id)
        return policy.Facts(
            earlier=None if key is None else self.earlier.get(key),
            hienergy=owner,
            existing=None if owner is None else self.existing.get((owner.id, submission.email_key)),
            refusal=self.refusals[_key_id(submission.creation)],
        )

    def add(self, submission: _Submission, contact: Contact) -> None:
        """Take in what a submission has created."""
        self.existing[contact.advertiser_id, submission.email_key] = contact
        key = submission.idempotency_key
        if key is not None:
            fingerprint = submission.creation.contact.fingerprint()
            self.earlier[key] = policy.Earlier(fingerprint, contact)


def by_id(connection: Connection, ids: Collection[int]) -> Mapping[int, Contact]:
    """Return those of the contacts that there are."""
    rows = _BY_ID.rows(connection, [(an_id,) for an_id in ids])
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
    submissions = [_Submission.of(creation) for creation in creations]
    hienergy = advertiser_rows.hienergy(
        connection, {creation.contact.advertiser_id for creation in creations}
    )
    known = _Known(
        _refusals(connection, {_key_id(creation) for creation in creations}),
        _earlier(connection, submissions),
        hienergy,
        _existing(connection, submissions, hienergy),
    )
    remembered_before = frozenset(known.earlier)
    outcomes: list[CreateContactOutcome] = []
    for unrelated in _unrelated(submissions):
        decisions = [_decided(submission, known) for submission in unrelated]
        inserted = iter(_insert(connection, zip(unrelated, decisions, strict=True)))
        for submission, decision in zip(unrelated, decisions, strict=True):
            if isinstance(decision, policy.Insert):
                contact = next(inserted)
                known.add(submission, contact)
                outcomes.append(Created(contact))
            else:
                outcomes.append(decision)
    _remember(
        connection,
        {key: known.earlier[key] for key in known.earlier.keys() - remembered_before},
    )
    return outcomes


def purge_idempotency_keys(connection: Connection) -> bool:
    """Delete a bounded number of expired idempotency keys; return whether none are left."""
    return purge_expired(connection, idempotency_records, _record.created_at)


def _key_id(creation: Creation) -> int:
    if not isinstance(creation.principal, Principal):
        raise TypeError("the store serves the owners of its own keys")
    return creation.principal.key_id


def _decided(submission: _Submission, known: _Known) -> policy.Decision:
    creation = submission.creation
    return policy.decide(creation.contact, known.facts(submission), dry_run=creation.dry_run)


def _unrelated(submissions: Iterable[_Submission]) -> Iterator[Sequence[_Submission]]:
    """Yield submissions in order, apart where what one inserts may be a fact to another."""
    together: list[_Submission] = []
    marks: set[str | _IdempotencyKey] = set()
    for submission in submissions:
        own: tuple[str | _IdempotencyKey, ...] = (submission.email_key,)
        if submission.idempotency_key is not None:
            own = (submission.email_key, submission.idempotency_key)
        if not marks.isdisjoint(own):
            yield together
            together, marks = [], set()
        together.append(submission)
        marks.update(own)
    yield together


def _refusals(connection: Connection, key_ids: Collection[int]) -> Mapping[int, KeyRefusal | None]:
    """Return why keys that were good have ended since."""
    records, now = key_rows.by_id(connection, key_ids), datetime.now(UTC)
    return {
        key_id: api_keys.end(records[key_id], now) if key_id in records else KeyRefusal.UNKNOWN
        for key_id in key_ids
    }


def _earlier(
    connection: Connection, submissions: Iterable[_Submission]
) -> dict[_IdempotencyKey, policy.Earlier]:
    keys = {each.idempotency_key for each in submissions if each.idempotency_key is not None}
    return {
        (api_key_id, text): policy.Earlier(fingerprint, _contact(contact))
        for *contact, fingerprint, api_key_id, text in _EARLIER.rows(connection, keys)
    }


def _existing(
    connection: Connection, submissions: Iterable[_Submission], hienergy: Mapping[int, Advertiser]
) -> dict[_Address, Contact]:
    addresses = {
        (owner.id, submission.email_key)
        for submission in submissions
        if (owner := hienergy.get(submission.creation.contact.advertiser_id)) is not None
    }
    found = ((_contact(row), row[-1]) for row in _WITH_ADDRESS.rows(connection, addresses))
    return {(contact.advertiser_id, key): contact for contact, key in found}


def _insert(
    connection: Connection, decisions: Iterable[tuple[_Submission, policy.Decision]]
) -> Sequence[Contact]:
    """Insert the contacts that are decided upon."""
    now = datetime.now(UTC)
    now = now.replace(microsecond=now.microsecond // 1000 * 1000)
    insertions = [
        (submission, decision.advertiser, _details(decision, now))
        for submission, decision in decisions
        if isinstance(decision, policy.Insert)
    ]
    if not insertions:
        return ()
    rows = [details | _beside(submission) for submission, _, details in insertions]
    ids = _INSERT.ids(connection, rows)
    return [
        Contact(id=contact_id, advertiser_name=owner.title, **details)
        for contact_id, (_, owner, details) in zip(ids, insertions, strict=True)
    ]


def _details(decision: policy.Insert, now: datetime) -> dict[str, Any]:  # of several types, by name
    details: dict[str, Any] = {name: getattr(decision.contact, name) for name in DETAIL_NAMES}
    details["advertiser_id"] = decision.advertiser.id
    details["created_at"] = details["updated_at"] = now
    return details


def _beside(submission: _Submission) -> dict[str, object]:
    """Return what is stored beside what is shown: for looking it up, and for the audit trail."""
    creation = submission.creation
    contact, origin = creation.contact, creation.origin
    return {
        "email_key": submission.email_key,
        "folded_text": folded([getattr(contact, name) for name in _SEARCHED]),
        "created_by_key_id": _key_id(creation),
        "created_through": None if origin is None else origin.face.value,
        "created_by_request_id": None if origin is None else origin.request_id,
    }


def _remember(connection: Connection, used: Mapping[_IdempotencyKey, policy.Earlier]) -> None:
    """Remember what idempotency keys have created."""
    rows = [
        {
            "api_key_id": api_key_id,
            "idempotency_key": idempotency_key,
            "fingerprint": earlier.fingerprint,
            "contact_id": earlier.contact.id,
            "created_at": earlier.contact.created_at,
        }
        for (api_key_id, idempotency_key), earlier in used.items()
    ]
    if rows:
        connection.execute(_REMEMBER, rows)


def _contact(row: Sequence[Any]) -> Contact:  # SQLAlchemy's Table keeps no types of columns
    # Further columns, where there are any, come after the contact's.
    return Contact(**dict(zip(_NAMES, row, strict=False)))
