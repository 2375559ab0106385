"""Contacts in SQL, and creations: many submissions in one transaction."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple, TypeAlias

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    func,
    literal_column,
    select,
    text,
    type_coerce,
)

from contact_gateway.access import api_keys
from contact_gateway.access.principals import KeyRefusal
from contact_gateway.contacts import policy
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.batch import independent
from contact_gateway.contacts.contact import Contact, ContactDetails
from contact_gateway.contacts.outcomes import CreateContactOutcome, Created
from contact_gateway.contacts.source import ContactFilter, Creation, Page, PageRequest
from contact_gateway.contacts.text import domain_key, email_key
from contact_gateway.contacts.timestamps import timestamp
from contact_gateway.store import advertisers as advertiser_rows
from contact_gateway.store import api_keys as key_rows
from contact_gateway.store import idempotency, lists
from contact_gateway.store.advertisers import Brand
from contact_gateway.store.connection_threads import LostRaceError
from contact_gateway.store.idempotency import ScopedKey
from contact_gateway.store.lists import Condition, Group, List, Part
from contact_gateway.store.paging import page_of, part_of
from contact_gateway.store.prepared_statements import (
    PreparedInsert,
    PreparedNewest,
    PreparedSelect,
    Row,
)
from contact_gateway.store.search import searched
from contact_gateway.store.tables import ShownTime, advertisers, contacts

SELECT: Final = select(
    contacts.c.id,
    *(contacts.c[field] for field in ContactDetails._fields),
    func.coalesce(advertisers.c.display_name, advertisers.c.name).label("advertiser_name"),
    type_coerce(contacts.c.created_at, ShownTime),
    type_coerce(contacts.c.updated_at, ShownTime),
).join_from(contacts, advertisers, advertisers.c.id == contacts.c.advertiser_id)
"""Selects the fields of all contacts, in their order."""

_BY_ID: Final = PreparedSelect(SELECT, contacts.c.id)
_NEWEST: Final = PreparedNewest(SELECT, contacts.c.id)
_BY_ADDRESS: Final = PreparedSelect(
    SELECT.add_columns(contacts.c.email_key), contacts.c.advertiser_id, contacts.c.email_key
)
_INSERT: Final = PreparedInsert(
    contacts,
    [column.name for column in contacts.c if column is not contacts.c.id],
    [contacts.c.advertiser_id, contacts.c.email_key, contacts.c.id],
)

# A domain has no space, so no address has a key with it.
_DISTINCT_MARK: Final = " #"
_AFTER_DISTINCT_MARK: Final = " $"

_Address: TypeAlias = tuple[int, str]
_UsedKey: TypeAlias = tuple[int, bytes]


class Submitted(NamedTuple):
    """A creation, and the id of the API key that submitted it, with the hash of its secret.

    The id is 0 for the operator, who has no key.
    """

    key_id: int
    secret_hash: bytes
    creation: Creation


class _Submission(NamedTuple):
    """A creation, with what it may share with others in its transaction."""

    key_id: int
    secret_hash: bytes
    creation: Creation
    email_key: str
    idempotency_key: ScopedKey | None


class _Facts(NamedTuple):
    """What is known about the submissions of one transaction; each insert is added."""

    refusals: Mapping[_UsedKey, KeyRefusal | None]
    earlier: dict[ScopedKey, policy.Earlier]
    hienergy: Mapping[int, Advertiser]
    existing: dict[_Address, Contact]

    def decide(self, submission: _Submission) -> policy.Decision:
        """Return what the policy decides for one submission."""
        key_id, secret_hash, creation, address, key = submission
        contact = creation.contact
        owner = self.hienergy.get(contact.advertiser_id)
        facts = policy.Facts(
            None if key is None else self.earlier.get(key),
            owner,
            None if owner is None else self.existing.get((owner.id, address)),
            self.refusals[key_id, secret_hash],
        )
        return policy.decide(contact, facts, dry_run=creation.dry_run)

    def add(self, submission: _Submission, contact: Contact) -> None:
        """Add the contact that a submission created."""
        self.existing[contact.advertiser_id, submission.email_key] = contact
        key = submission.idempotency_key
        if key is not None:
            fingerprint = submission.creation.contact.fingerprint()
            self.earlier[key] = policy.Earlier(fingerprint, contact)


def by_id(connection: Connection, ids: Collection[int]) -> Mapping[int, Contact]:
    """Return the contacts that exist, by id."""
    rows = _BY_ID.rows(connection, [(an_id,) for an_id in ids])
    return {contact.id: contact for contact in map(Contact._make, rows)}


def page(
    connection: Connection,
    wanted: ContactFilter,
    request: PageRequest,
    before: int | None = None,
) -> Page[Contact]:
    """Return a page of contacts, newest first; with `before`, of those with lower ids."""
    part = part_of(request, before)
    brand = _brand(wanted)
    listed = _list(connection, wanted, brand)
    rows = lists.ordered_rows(connection, _NEWEST, listed, part)
    if rows is not None:
        return page_of(request, map(Contact._make, rows))
    if brand.is_set and listed.group is None:
        ids = _ids_of_brand(connection, listed, brand, part)
    else:
        ids = lists.ids(connection, listed, part)
    found = by_id(connection, ids)
    return page_of(request, (found[an_id] for an_id in ids))


def _list(connection: Connection, wanted: ContactFilter, brand: Brand) -> List:
    """Return the list of a filter. An address or an owner selects few contacts, by an index."""
    texts = lists.folded_texts(wanted.q, wanted.query, wanted.search)
    conditions: list[Condition] = [brand.owns] if brand.is_set else []
    owners = _owners(connection, wanted)
    if wanted.email is None:
        return List(contacts, owners, texts, conditions, is_narrow=owners is not None)
    if owners is not None:
        conditions.append(owners.holds)
    addresses = Group("email_key", email_keys(connection, wanted.email))
    return List(contacts, addresses, texts, conditions)


def _ids_of_brand(connection: Connection, listed: List, brand: Brand, part: Part) -> Sequence[int]:
    """Return the ids of a part of the contacts of all brands that a filter describes.

    Many brands may have a name: if its contacts do not fill the page soon, the brands are looked
    up, unless they are too many.
    """
    newest = () if brand.domains else lists.newest(connection, listed, part)
    if len(newest) == part.limit:
        return newest
    ids = advertiser_rows.hienergy_ids(connection, brand, lists.MAX_GROUPS + 1)
    if len(ids) <= lists.MAX_GROUPS:
        listed = List(contacts, Group("advertiser_id", ids), listed.texts)
    return lists.ids(connection, listed, part)


def _brand(wanted: ContactFilter) -> Brand:
    """Return what a filter says about the brand of a contact."""
    domains = (wanted.domain, wanted.advertiser_domain)
    return Brand(
        lists.folded_texts(wanted.advertiser_name),
        [domain_key(domain) for domain in domains if domain is not None],
    )


def _owners(connection: Connection, wanted: ContactFilter) -> Group | None:
    """Return the contacts of the advertiser that a filter names, or None if it names none."""
    if wanted.advertiser_slug is not None:
        named = advertiser_rows.by_slug(connection, wanted.advertiser_slug)
    elif (an_id := wanted.advertiser_id) is not None:
        named = advertiser_rows.by_id(connection, (an_id,)).get(an_id)
    else:
        return None
    owner = None if named is None else named.hienergy_id
    return Group("advertiser_id", () if owner is None else (owner,))


def email_keys(connection: Connection, email: str) -> Sequence[str]:
    """Return the keys that contacts with an address may have, including distinct ones."""
    key, stored = email_key(email), contacts.c.email_key
    if connection.dialect.name == "postgresql":
        # In the order of a language they are no range. An index has the distinct keys alone.
        address: ColumnElement[str] = literal_column("split_part(contacts.email_key, ' #', 1)")
        is_distinct = and_(address == key, text("contacts.email_key LIKE '% #%'"))
    else:
        # A range, because SQLite uses no index for LIKE.
        is_distinct = stored.between(f"{key}{_DISTINCT_MARK}", f"{key}{_AFTER_DISTINCT_MARK}")
    return (key, *connection.scalars(select(stored).where(is_distinct)))


def distinct_key(key: str, contact_id: int) -> str:
    """Return the key of a contact whose address an older contact has too.

    New contacts have none. Older versions compared fewer addresses as equal, so a migration may
    find such contacts, and they cannot be merged.
    """
    return f"{key}{_DISTINCT_MARK}{contact_id}"


def folded_text(email: str, texts: Iterable[str | None]) -> str:
    """Return what `q` searches: an address, with its domain in Unicode and in ASCII, and texts."""
    ascii_form = None if email.isascii() else email_key(email)
    return searched((email, ascii_form, *texts))


def create(
    connection: Connection, submitted: Sequence[Submitted]
) -> Sequence[CreateContactOutcome]:
    """Carry out submissions, in order, inside the caller's transaction.

    The facts of all submissions are read first; what one inserts is a fact for those after it. The
    policy decides the outcome.

    Returns:
        The outcome of each, to be reported only after the commit.

    Raises:
        LostRaceError: another process has used an address or an idempotency key in the meantime.
    """
    submissions = [
        _Submission(
            key_id,
            secret_hash,
            creation,
            email_key(creation.contact.email),
            None
            if creation.idempotency_key is None or not key_id
            else ScopedKey(key_id, creation.idempotency_key),
        )
        for key_id, secret_hash, creation in submitted
    ]
    hienergy = advertiser_rows.hienergy(
        connection, {each.creation.contact.advertiser_id for each in submitted}
    )
    facts = _Facts(
        _refusals(connection, {(each.key_id, each.secret_hash) for each in submitted}),
        _earlier(connection, submissions),
        hienergy,
        _existing(connection, submissions, hienergy),
    )
    remembered = frozenset(facts.earlier)
    outcomes: list[CreateContactOutcome] = []
    for batch in independent(submissions, _shareable):
        decisions = [facts.decide(submission) for submission in batch]
        inserted = iter(_insert(connection, zip(batch, decisions, strict=True)))
        for submission, decision in zip(batch, decisions, strict=True):
            if isinstance(decision, policy.Insert):
                contact = next(inserted)
                facts.add(submission, contact)
                outcomes.append(Created(contact))
            else:
                outcomes.append(decision)
    idempotency.remember(
        connection,
        {key: earlier for key, earlier in facts.earlier.items() if key not in remembered},
    )
    return outcomes


def _shareable(submission: _Submission) -> Collection[str | ScopedKey]:
    """Return what makes the insert of a submission a fact for another one."""
    return submission.email_key, submission.idempotency_key or submission.email_key


def _refusals(
    connection: Connection, used: Collection[_UsedKey]
) -> Mapping[_UsedKey, KeyRefusal | None]:
    """Return why API keys are no longer valid; None for those that are."""
    records = key_rows.by_id(connection, {key_id for key_id, _ in used if key_id})
    now = datetime.now(UTC)
    refusals: dict[_UsedKey, KeyRefusal | None] = {}
    for key_id, secret_hash in used:
        refusal = None if key_id == 0 else KeyRefusal.UNKNOWN
        if key_id in records:
            refusal = api_keys.refusal_of(records[key_id], secret_hash, now)
        refusals[key_id, secret_hash] = refusal
    return refusals


def _earlier(
    connection: Connection, submissions: Iterable[_Submission]
) -> dict[ScopedKey, policy.Earlier]:
    """Return what the idempotency keys created before.

    Raises:
        LostRaceError: one of the contacts is not seen yet, on a system whose snapshots are not of
            all tables.
    """
    keys = {each.idempotency_key for each in submissions if each.idempotency_key is not None}
    used = list(idempotency.BY_KEY.rows(connection, keys))
    ids = {contact_id for *_, contact_id in used}
    created = by_id(connection, ids)
    if created.keys() < ids:
        raise LostRaceError
    return {
        ScopedKey(owner, key): policy.Earlier(fingerprint, created[contact_id])
        for owner, key, fingerprint, contact_id in used
    }


def _existing(
    connection: Connection, submissions: Iterable[_Submission], hienergy: Mapping[int, Advertiser]
) -> dict[_Address, Contact]:
    """Return the contacts of which submissions are duplicates: same record, same address."""
    addresses = {
        (owner.id, submission.email_key)
        for submission in submissions
        if (owner := hienergy.get(submission.creation.contact.advertiser_id)) is not None
    }
    found = ((Contact._make(row[:-1]), row[-1]) for row in _BY_ADDRESS.rows(connection, addresses))
    return {(contact.advertiser_id, key): contact for contact, key in found}


def _insert(
    connection: Connection, decided: Iterable[tuple[_Submission, policy.Decision]]
) -> Sequence[Contact]:
    """Insert the contacts that the policy decided to create.

    Raises:
        LostRaceError: another process has stored one of them in the meantime.
    """
    now = datetime.now(UTC)
    now = now.replace(microsecond=now.microsecond // 1000 * 1000)
    insertions = [
        (submission, owner, ContactDetails(owner.id, *contact[1:]))
        for submission, decision in decided
        if isinstance(decision, policy.Insert)
        for owner, contact in (decision,)
    ]
    if not insertions:
        return ()
    rows = [_row(submission, details, now) for submission, _, details in insertions]
    ids = {(owner, key): contact_id for owner, key, contact_id in _INSERT.rows(connection, rows)}
    if len(ids) < len(rows):
        raise LostRaceError
    shown = timestamp(now)
    return [
        Contact(ids[owner.id, submission.email_key], *details, owner.title, shown, shown)
        for submission, owner, details in insertions
    ]


def _row(submission: _Submission, details: ContactDetails[str], now: datetime) -> Row:
    """Return the values of the columns of `_INSERT`."""
    key_id, _, creation, address, _ = submission
    advertiser_id, email, *texts = details
    name, given_name, family_name, phone, job_title, *_ = texts
    origin = creation.origin
    return (
        advertiser_id,
        email,
        address,
        *texts,
        folded_text(email, (name, given_name, family_name, job_title, phone)),
        now,
        now,
        key_id or None,
        None if origin is None else str(origin.face),
        None if origin is None else origin.request_id,
    )
