"""Contacts in SQL: rules 5 to 7 over what is stored, and the lists."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, Table, func, insert, select, update

from contact_gateway.access.api_keys import Rotation, rotate
from contact_gateway.access.principals import ApiKeyOwner, KeyRefusal
from contact_gateway.contacts.advertiser import HIENERGY_NETWORK, Advertiser
from contact_gateway.contacts.contact import Contact, NewContact, new_contact
from contact_gateway.contacts.outcomes import (
    CreateContactOutcome,
    Created,
    NotFound,
    Previewed,
    Unauthorized,
)
from contact_gateway.contacts.source import (
    AdvertiserFilter,
    ContactFilter,
    Creation,
    Page,
    PageRequest,
)
from contact_gateway.contacts.timestamps import timestamp
from contact_gateway.store import advertisers, api_keys, contacts, idempotency
from contact_gateway.store.connection_threads import DatabaseFault
from contact_gateway.store.contacts import Submitted
from contact_gateway.store.database import Database
from contact_gateway.store.tables import contacts as contacts_table
from contact_gateway.store.tables import idempotency_records
from support.contacts import KEY_REUSED, NOT_FOUND, conflict
from support.databases import set_next_id

pytestmark = pytest.mark.anyio

BIG_ID = 2**53 + 1
ALL = PageRequest(1, 100)


def _creation(
    principal: ApiKeyOwner,
    email: str = "maya@example.com",
    *,
    key: str | None = None,
    dry_run: bool = False,
    **fields: object,
) -> Submitted:
    contact = new_contact({"advertiser_id": 1001, "email": email} | fields)
    assert isinstance(contact, NewContact), contact
    return Submitted(principal.key_id, principal.secret_hash, Creation(contact, key, dry_run))


async def _create(database: Database, *creations: Submitted) -> Sequence[CreateContactOutcome]:
    return await database.write(lambda connection: contacts.create(connection, creations))


async def _created(database: Database, creation: Submitted) -> Contact:
    (outcome,) = await _create(database, creation)
    assert isinstance(outcome, Created), outcome
    assert not outcome.replayed
    return outcome.contact


async def _stored(database: Database, contact_id: int) -> Contact | None:
    found = await database.read(lambda connection: contacts.by_id(connection, {contact_id}))
    return found.get(contact_id)


async def _emails(database: Database, wanted: ContactFilter) -> list[str | None]:
    page = await database.read(lambda connection: contacts.page(connection, wanted, ALL))
    return [contact.email for contact in page.items]


async def _rows(database: Database) -> tuple[int, int]:
    """Count the contacts and the idempotency records."""
    return await database.read(
        lambda connection: (
            _count(connection, contacts_table),
            _count(connection, idempotency_records),
        )
    )


def _count(connection: Connection, table: Table) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


async def test_a_created_contact_equals_the_one_read_afterwards(
    database: Database, admin: ApiKeyOwner
) -> None:
    fields: dict[str, Any] = {
        "name": "Maya L.",
        "given_name": "Maya",
        "family_name": "Lindqvist",
        "phone": "+46 8 123 45 67",
        "job_title": "Affiliate Manager",
        "source": "conference",
        "status": "active",
        "linkedin_profile_url": "https://www.linkedin.com/in/maya",
    }

    created = await _created(database, _creation(admin, **fields))

    assert {name: getattr(created.details, name) for name in fields} == fields
    assert (created.advertiser_id, created.advertiser_name) == (
        1001,
        "Northwind Outfitters",
    )
    assert await _stored(database, created.id) == created


def _stored_times(connection: Connection) -> list[datetime]:
    return [
        *connection.execute(select(contacts_table.c.created_at, contacts_table.c.updated_at)).one()
    ]


async def test_a_new_contact_has_its_time_in_utc_to_the_millisecond(
    database: Database, admin: ApiKeyOwner
) -> None:
    before = timestamp(datetime.now(UTC))

    created = await _created(database, _creation(admin))

    assert created.created_at is not None
    assert before <= created.created_at <= timestamp(datetime.now(UTC))
    assert created.created_at == created.updated_at
    assert await database.read(_stored_times) == [datetime.fromisoformat(created.created_at)] * 2


@pytest.mark.parametrize(
    ("submitted", "owner"),
    [(1001, 1001), (2001, 1001), (2002, 1001), (2003, 1002), (BIG_ID, BIG_ID)],
)
async def test_a_contact_belongs_to_the_brands_hienergy_record(
    database: Database, admin: ApiKeyOwner, submitted: int, owner: int
) -> None:
    created = await _created(database, _creation(admin, advertiser_id=submitted))

    assert created.advertiser_id == owner


@pytest.mark.parametrize(
    "submitted",
    [
        pytest.param(404, id="unknown"),
        pytest.param(2**63 - 1, id="unknown and as large as can be"),
        pytest.param(3001, id="without a HiEnergy record"),
    ],
)
async def test_an_advertiser_that_does_not_resolve_is_not_found(
    database: Database, admin: ApiKeyOwner, submitted: int
) -> None:
    assert await _create(database, _creation(admin, advertiser_id=submitted)) == [NOT_FOUND]
    assert await _rows(database) == (0, 0)


def _make_ids_big(connection: Connection) -> None:
    connection.execute(update(contacts_table).values(id=BIG_ID))
    set_next_id(connection, "contacts", BIG_ID + 1)


async def test_ids_above_two_to_the_53_are_exact(database: Database, admin: ApiKeyOwner) -> None:
    first = await _created(database, _creation(admin))
    await database.write(_make_ids_big)

    second = await _created(database, _creation(admin, "b@example.com"))

    assert second.id == BIG_ID + 1
    assert await _stored(database, BIG_ID) == first._replace(id=BIG_ID)
    assert await _stored(database, BIG_ID - 1) is None


@pytest.mark.parametrize("submitted", [1001, 2001], ids=["same record", "another of the brand"])
@pytest.mark.parametrize(
    "email", ["maya@example.com", "MAYA@example.com", "maya@EXAMPLE.com", "Maya@Example.Com"]
)
async def test_an_address_is_taken_in_any_case_on_any_record_of_the_brand(
    database: Database, admin: ApiKeyOwner, email: str, submitted: int
) -> None:
    first = await _created(database, _creation(admin))

    again = await _create(database, _creation(admin, email, advertiser_id=submitted))

    assert again == [conflict(first)]
    assert await _rows(database) == (1, 0)


async def test_an_address_in_other_scripts_is_taken_in_any_case(
    database: Database, admin: ApiKeyOwner
) -> None:
    first = await _created(database, _creation(admin, "jos\xe9@example.com"))

    assert await _create(database, _creation(admin, "JOS\xc9@example.com")) == [conflict(first)]


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        pytest.param("Jose\u0301", "Jos\u00e9", id="decomposed"),
        pytest.param("Jos\u00e9", "JOSE\u0301", id="composed"),
        pytest.param(
            "\ud55c\uad6d\uc5b4", "\u1112\u1161\u11ab\u1100\u116e\u11a8", id="Korean syllables"
        ),
        pytest.param("\u1112\u1161\u11ab", "\ud55c", id="Korean letters"),
        pytest.param("Stra\u00dfe", "STRASSE", id="sharp s"),
        pytest.param("\uff2daya", "maya", id="wide"),
        pytest.param("Maya\u00a0Lindqvist", "maya lind", id="no-break space"),
    ],
)
async def test_a_text_is_found_in_each_of_its_forms(
    database: Database, admin: ApiKeyOwner, stored: str, wanted: str
) -> None:
    await _created(database, _creation(admin, name=stored))
    named = Advertiser(id=5, name=stored, slug=stored, network_name="CJ", domain="example.com")
    await database.write(lambda connection: advertisers.upsert(connection, (named,)))

    def found(connection: Connection) -> list[int | None]:
        by_q = advertisers.page(connection, AdvertiserFilter(q=wanted), ALL)
        by_name = advertisers.page(connection, AdvertiserFilter(name=wanted), ALL)
        return [advertiser.id for advertiser in (*by_q.items, *by_name.items)]

    assert await _emails(database, ContactFilter(q=wanted)) == ["maya@example.com"]
    assert await database.read(found) == [5, 5]


@pytest.mark.parametrize("slug", ["caf\u00e9", "CAFE\u0301"])
async def test_a_slug_is_found_in_any_form(database: Database, slug: str) -> None:
    named = Advertiser(id=5, name="Caf\u00e9", slug="cafe\u0301", network_name="CJ")
    await database.write(lambda connection: advertisers.upsert(connection, (named,)))

    found = await database.read(lambda connection: advertisers.by_slug(connection, slug))

    assert found == named


@pytest.mark.parametrize("stored", ["b\u00fccher.example", "xn--bcher-kva.example"])
@pytest.mark.parametrize("wanted", ["BU\u0308CHER.example", "XN--BCHER-KVA.example"])
async def test_a_domain_is_found_in_unicode_and_in_ascii(
    database: Database, admin: ApiKeyOwner, stored: str, wanted: str
) -> None:
    brand = Advertiser(id=5, name="B", domain=stored, network_name=HIENERGY_NETWORK, hienergy_id=5)
    await database.write(lambda connection: advertisers.upsert(connection, (brand,)))
    await _created(database, _creation(admin, f"maya@{stored}", advertiser_id=5))

    def found(connection: Connection) -> Page[Advertiser]:
        return advertisers.page(connection, AdvertiserFilter(domain=wanted), ALL)

    emails = ["maya@b\u00fccher.example"]
    assert await _emails(database, ContactFilter(domain=wanted)) == emails
    assert await _emails(database, ContactFilter(email=f"MAYA@{wanted}")) == emails
    assert (await database.read(found)).items == (brand,)


async def test_another_brand_may_have_the_same_address(
    database: Database, admin: ApiKeyOwner
) -> None:
    first = await _created(database, _creation(admin))
    second = await _created(database, _creation(admin, advertiser_id=1002))

    assert first.id != second.id


async def test_the_database_refuses_a_duplicate_address(
    database: Database, admin: ApiKeyOwner
) -> None:
    await _created(database, _creation(admin))
    now = datetime.now(UTC)
    past_the_look_up = insert(contacts_table).values(
        advertiser_id=1001,
        email="MAYA@example.com",
        email_key="maya@example.com",
        folded_text="",
        created_at=now,
        updated_at=now,
    )

    with pytest.raises(DatabaseFault, match=r"(?i)unique"):
        await database.write(lambda connection: connection.execute(past_the_look_up))
    assert await _rows(database) == (1, 0)


async def test_a_submission_sees_what_earlier_ones_in_its_batch_created(
    database: Database, admin: ApiKeyOwner
) -> None:
    first, taken, replay, reuse = await _create(
        database,
        _creation(admin, key="k"),
        _creation(admin, "MAYA@example.com", advertiser_id=2001),
        _creation(admin, key="k"),
        _creation(admin, "other@example.com", key="k"),
    )

    assert isinstance(first, Created)
    assert taken == conflict(first.contact)
    assert replay == Created(first.contact, replayed=True)
    assert reuse == KEY_REUSED
    assert await _rows(database) == (1, 1)


async def test_outcomes_come_in_the_order_of_the_submissions(
    database: Database, admin: ApiKeyOwner
) -> None:
    outcomes = await _create(
        database,
        _creation(admin, "a@example.com", advertiser_id=404),
        _creation(admin, "b@example.com", advertiser_id=2003),
        _creation(admin, "c@example.com", dry_run=True),
        _creation(admin, "d@example.com"),
    )

    assert [type(outcome) for outcome in outcomes] == [NotFound, Created, Previewed, Created]


async def test_a_replay_returns_the_first_contact(database: Database, admin: ApiKeyOwner) -> None:
    first = await _created(database, _creation(admin, key="k", advertiser_id="2001", name="M"))

    again = await _create(database, _creation(admin, key="k", advertiser_id=2001, name=" M "))

    assert again == [Created(first, replayed=True)]
    assert await _rows(database) == (1, 1)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"name": "Other"}, id="another field"),
        pytest.param({"advertiser_id": 2001}, id="another record of the brand"),
        pytest.param({"advertiser_id": 404}, id="an advertiser that does not resolve"),
        pytest.param({"dry_run": True, "name": "Other"}, id="a dry run of another field"),
    ],
)
async def test_a_key_that_was_used_with_another_input_is_refused(
    database: Database, admin: ApiKeyOwner, other: dict[str, Any]
) -> None:
    await _created(database, _creation(admin, key="k"))

    again = await _create(database, _creation(admin, key="k", **other))

    assert again == [KEY_REUSED]


async def test_an_idempotency_key_is_scoped_to_the_api_key(
    database: Database, admin: ApiKeyOwner, other_admin: ApiKeyOwner
) -> None:
    mine = await _created(database, _creation(admin, key="k"))

    theirs = await _created(database, _creation(other_admin, "b@example.com", key="k"))
    taken = await _create(database, _creation(other_admin, key="k2"))

    assert theirs.id != mine.id
    assert taken == [conflict(mine)]
    assert await _create(database, _creation(admin, key="k")) == [Created(mine, replayed=True)]


async def test_idempotency_keys_differ_by_case(database: Database, admin: ApiKeyOwner) -> None:
    await _created(database, _creation(admin, key="k"))

    await _created(database, _creation(admin, "b@example.com", key="K"))

    assert await _rows(database) == (2, 2)


@pytest.mark.parametrize(
    "refused",
    [
        pytest.param({"advertiser_id": 404}, id="not found"),
        pytest.param({"email": "taken@example.com"}, id="conflict"),
        pytest.param({"dry_run": True}, id="a dry run"),
    ],
)
async def test_only_a_created_contact_is_remembered(
    database: Database, admin: ApiKeyOwner, refused: dict[str, Any]
) -> None:
    await _created(database, _creation(admin, "taken@example.com"))
    (outcome,) = await _create(database, _creation(admin, key="k", **refused))
    assert not isinstance(outcome, Created)
    assert await _rows(database) == (1, 0)

    await _created(database, _creation(admin, "new@example.com", key="k"))

    assert await _rows(database) == (2, 1)


async def test_a_dry_run_creates_nothing(database: Database, admin: ApiKeyOwner) -> None:
    (outcome,) = await _create(database, _creation(admin, key="k", dry_run=True))

    assert isinstance(outcome, Previewed)
    assert (outcome.preview.details.email, outcome.preview.details.advertiser_id) == (
        "maya@example.com",
        1001,
    )
    assert await _rows(database) == (0, 0)


@pytest.mark.parametrize(
    ("hours", "kept"), [(0, True), (24, True), (47, True), (49, False), (1000, False)]
)
async def test_an_idempotency_key_expires_after_a_day_at_least(
    database: Database, admin: ApiKeyOwner, hours: int, *, kept: bool
) -> None:
    first = await _created(database, _creation(admin, key="k"))
    then = datetime.now(UTC) - timedelta(hours=hours)
    ageing = update(idempotency_records).values(created_at=then)
    await database.write(lambda connection: connection.execute(ageing))
    await database.write(idempotency.purge)

    again = await _create(database, _creation(admin, key="k"))

    assert again == [Created(first, replayed=True) if kept else conflict(first)]
    assert await _rows(database) == (1, 1 if kept else 0)


async def _fill(database: Database, admin: ApiKeyOwner) -> None:
    await _create(
        database,
        _creation(admin, "jose@example.com", name="Jos\xe9 \xc5ngstr\xf6m", job_title="Head"),
        _creation(admin, "julia@example.com", name="\u042e\u043b\u0438\u044f", phone="+7 495"),
        _creation(admin, "half@example.com", name="50% off", advertiser_id=1002),
        _creation(admin, "fifty@example.com", name="500 off", advertiser_id=2003),
        _creation(admin, "a_b@example.com", given_name="Under_score", advertiser_id=BIG_ID),
        _creation(admin, "axb@example.com", family_name="Under/score\\", advertiser_id=2001),
    )


@pytest.mark.parametrize(
    ("q", "emails"),
    [
        pytest.param("JOS\xc9", ["jose@example.com"], id="Latin capitals with an accent"),
        pytest.param("\xe5NGSTR\xd6M", ["jose@example.com"], id="mixed case"),
        pytest.param("\u042e\u041b\u0418", ["julia@example.com"], id="Cyrillic capitals"),
        pytest.param("jOSE@", ["jose@example.com"], id="e-mail"),
        pytest.param("hEAD", ["jose@example.com"], id="job title"),
        pytest.param("495", ["julia@example.com"], id="telephone number"),
        pytest.param("under", ["axb@example.com", "a_b@example.com"], id="given and family name"),
        pytest.param("50%", ["half@example.com"], id="a percent sign is itself"),
        pytest.param("0% o", ["half@example.com"], id="a percent sign in the middle"),
        pytest.param("a_b", ["a_b@example.com"], id="an underscore is itself"),
        pytest.param("r/s", ["axb@example.com"], id="a slash is itself"),
        pytest.param("e\\", ["axb@example.com"], id="a backslash is itself"),
        pytest.param("%", ["half@example.com"], id="a percent sign alone"),
        pytest.param("head jos", [], id="words of two fields"),
        pytest.param("northwind", [], id="not the advertiser's name"),
        pytest.param("nobody", [], id="nothing"),
    ],
)
async def test_q_finds_a_text_anywhere_in_any_case(
    database: Database, admin: ApiKeyOwner, q: str, emails: list[str]
) -> None:
    await _fill(database, admin)

    assert await _emails(database, ContactFilter(q=q)) == emails


@pytest.mark.parametrize(
    ("wanted", "emails"),
    [
        pytest.param(ContactFilter(email="JOSE@example.com"), ["jose@"], id="e-mail, any case"),
        pytest.param(ContactFilter(email="jose"), [], id="e-mail, not a part"),
        pytest.param(ContactFilter(email="a%b@example.com"), [], id="e-mail, no pattern"),
        pytest.param(ContactFilter(advertiser_id=1002), ["fifty@", "half@"], id="HiEnergy record"),
        pytest.param(ContactFilter(advertiser_id=2003), ["fifty@", "half@"], id="network record"),
        pytest.param(ContactFilter(advertiser_id=BIG_ID), ["a_b@"], id="a large id"),
        pytest.param(ContactFilter(advertiser_id=3001), [], id="a record without a brand"),
        pytest.param(ContactFilter(advertiser_id=404), [], id="an unknown advertiser"),
        pytest.param(ContactFilter(advertiser_name="MERID"), ["a_b@"], id="name"),
        pytest.param(
            ContactFilter(advertiser_name="outfit"), ["axb@", "julia@", "jose@"], id="display name"
        ),
        pytest.param(ContactFilter(advertiser_name="0%"), ["fifty@", "half@"], id="name, literal"),
        pytest.param(ContactFilter(advertiser_name=".example"), [], id="name, not the domain"),
        pytest.param(
            ContactFilter(domain="KESTREL.example"), ["fifty@", "half@"], id="domain, any case"
        ),
        pytest.param(ContactFilter(domain="kestrel"), [], id="domain, not a part"),
        pytest.param(ContactFilter(q="off", email="half@example.com"), ["half@"], id="all hold"),
        pytest.param(ContactFilter(q="off", advertiser_id=1001), [], id="one does not hold"),
    ],
)
async def test_contacts_are_filtered(
    database: Database, admin: ApiKeyOwner, wanted: ContactFilter, emails: list[str]
) -> None:
    await _fill(database, admin)

    found = await _emails(database, wanted)

    assert [str(email).removesuffix("example.com") for email in found] == emails


@pytest.mark.parametrize("email", ["Jose@EXAMPLE.COM", "jose@Example.com"])
async def test_the_email_filter_disregards_the_case_of_the_domain(
    database: Database, admin: ApiKeyOwner, email: str
) -> None:
    await _fill(database, admin)

    assert await _emails(database, ContactFilter(email=email)) == ["jose@example.com"]


@pytest.mark.parametrize(
    ("request_", "emails", "has_more"),
    [
        pytest.param(PageRequest(1, 2), ["axb@", "a_b@"], True, id="the first"),
        pytest.param(PageRequest(2, 2), ["fifty@", "half@"], True, id="one between"),
        pytest.param(PageRequest(3, 2), ["julia@", "jose@"], False, id="the last, full"),
        pytest.param(PageRequest(2, 4), ["julia@", "jose@"], False, id="the last, not full"),
        pytest.param(PageRequest(4, 2), [], False, id="beyond the last"),
        pytest.param(PageRequest(2**31 - 1, 100), [], False, id="the largest number"),
    ],
)
async def test_contacts_come_newest_first_page_by_page(
    database: Database,
    admin: ApiKeyOwner,
    request_: PageRequest,
    emails: list[str],
    *,
    has_more: bool,
) -> None:
    await _fill(database, admin)

    page = await database.read(
        lambda connection: contacts.page(connection, ContactFilter(), request_)
    )

    assert [str(contact.email).removesuffix("example.com") for contact in page.items] == emails
    assert page.has_more == has_more
    assert page.request == request_


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        pytest.param(AdvertiserFilter(), [BIG_ID, 3001, 2003, 2002, 2001, 1002, 1001], id="all"),
        pytest.param(AdvertiserFilter(q="caf\xe9"), [3001], id="any case of other scripts"),
        pytest.param(AdvertiserFilter(q="OUTFIT"), [1001], id="display name"),
        pytest.param(AdvertiserFilter(q="N-US"), [2001], id="slug"),
        pytest.param(AdvertiserFilter(q="northwind.ex"), [1001], id="part of the domain"),
        pytest.param(AdvertiserFilter(q="0%"), [1002], id="a percent sign is itself"),
        pytest.param(AdvertiserFilter(q="l_u"), [2003], id="an underscore is itself"),
        pytest.param(AdvertiserFilter(domain="Kestrel.EXAMPLE"), [1002], id="domain, any case"),
        pytest.param(AdvertiserFilter(domain="kestrel"), [], id="domain, not a part"),
        pytest.param(AdvertiserFilter(q="us", domain="kestrel.example"), [], id="one fails"),
    ],
)
async def test_advertisers_are_filtered_and_come_newest_first(
    database: Database, wanted: AdvertiserFilter, ids: list[int]
) -> None:
    page = await database.read(lambda connection: advertisers.page(connection, wanted, ALL))

    assert [advertiser.id for advertiser in page.items] == ids
    assert not page.has_more


def _advertisers(connection: Connection, request_: PageRequest) -> Page[Advertiser]:
    return advertisers.page(connection, AdvertiserFilter(), request_)


async def test_advertisers_come_page_by_page(database: Database) -> None:
    first, last = [
        await database.read(partial(_advertisers, request_=PageRequest(number, 4)))
        for number in (1, 2)
    ]

    assert (len(first.items), first.has_more) == (4, True)
    assert (len(last.items), last.has_more) == (3, False)


@pytest.mark.parametrize("key", [None, "again"], ids=["without a key", "with a key"])
async def test_a_key_revoked_after_authentication_creates_nothing(
    database: Database, admin: ApiKeyOwner, other_admin: ApiKeyOwner, key: str | None
) -> None:
    """It replays nothing either, and the other submissions of the batch succeed."""
    await _created(database, _creation(admin, key=key))
    await database.write(lambda connection: api_keys.revoke(connection, admin.key_id))

    repeated, new, neighbour = await _create(
        database,
        _creation(admin, key=key),
        _creation(admin, "b@example.com"),
        _creation(other_admin, "c@example.com"),
    )

    assert (repeated, new) == (Unauthorized(KeyRefusal.REVOKED),) * 2
    assert isinstance(neighbour, Created)
    assert await _emails(database, ContactFilter()) == ["c@example.com", "maya@example.com"]


@pytest.mark.parametrize("overlap", [timedelta(), timedelta(hours=1)], ids=["none", "an hour"])
async def test_a_secret_replaced_after_authentication_creates_until_the_overlap_ends(
    database: Database, admin: ApiKeyOwner, overlap: timedelta
) -> None:
    """The new secret replays what the old one created."""
    created = await _created(database, _creation(admin, key="again"))

    def replace_secret(connection: Connection) -> ApiKeyOwner:
        record = api_keys.by_id(connection, [admin.key_id])[admin.key_id]
        rotation = rotate(record, overlap, datetime.now(UTC))
        assert isinstance(rotation, Rotation)
        api_keys.replace_secret(connection, rotation.record)
        return admin._replace(secret_hash=rotation.minted.secret_hash)

    rotated = await database.write(replace_secret)
    of_old, of_new, replayed = await _create(
        database,
        _creation(admin, "old@example.com"),
        _creation(rotated, "new@example.com"),
        _creation(rotated, key="again"),
    )

    if overlap:
        assert isinstance(of_old, Created)
    else:
        assert of_old == Unauthorized(KeyRefusal.ROTATED)
    assert isinstance(of_new, Created)
    assert replayed == Created(created, replayed=True)
