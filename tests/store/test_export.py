"""The export of a database: all contacts, in the order of their ids, in bounded memory."""

import gc
from collections.abc import Sequence

import pytest
from sqlalchemy import delete

from contact_gateway.access.principals import ApiKeyOwner
from contact_gateway.contact_files.exporting import ExportedPart
from contact_gateway.contacts.advertiser_lookup import advertiser_named
from contact_gateway.contacts.contact import Contact, NewContact, new_contact
from contact_gateway.contacts.outcomes import Created
from contact_gateway.contacts.source import Creation
from contact_gateway.store import contacts as contact_rows
from contact_gateway.store import export
from contact_gateway.store.contacts import Submitted
from contact_gateway.store.database import Database
from contact_gateway.store.export import exported_contacts
from contact_gateway.store.source import SqlSource, StoreAccess
from contact_gateway.store.tables import contacts

pytestmark = pytest.mark.anyio

AT_A_TIME = 5


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "CONTACTS_AT_A_TIME", AT_A_TIME)


async def _create(
    database: Database, admin: ApiKeyOwner, numbers: range, advertiser_id: int = 1001
) -> Sequence[Contact]:
    """Create contacts in one transaction."""
    submissions = []
    for number in numbers:
        raw = {"advertiser_id": advertiser_id, "email": f"c{number}@example.com", "name": "Maya"}
        contact = new_contact(raw)
        assert isinstance(contact, NewContact)
        creation = Creation(contact, None, dry_run=False)
        submissions.append(Submitted(admin.key_id, admin.secret_hash, creation))
    outcomes = await database.write(lambda connection: contact_rows.create(connection, submissions))
    created = [each.contact for each in outcomes if isinstance(each, Created)]
    assert len(created) == len(numbers)
    return created


async def _parts(database: Database, advertiser_id: int | None = None) -> list[ExportedPart]:
    return [part async for part in exported_contacts(database, advertiser_id)]


async def _exported(database: Database, advertiser_id: int | None = None) -> list[Contact]:
    parts = await _parts(database, advertiser_id)
    return [contact for part in parts for contact in part.contacts]


@pytest.mark.parametrize("count", [0, 1, AT_A_TIME, 2 * AT_A_TIME + 1])
async def test_it_has_every_contact_in_the_order_of_ids(
    database: Database, admin: ApiKeyOwner, count: int
) -> None:
    created = await _create(database, admin, range(count)) if count else []

    assert await _exported(database) == sorted(created, key=lambda contact: contact.id)


async def test_it_has_the_contacts_of_one_brand_alone(
    database: Database, admin: ApiKeyOwner
) -> None:
    await _create(database, admin, range(12), 1002)
    own = await _create(database, admin, range(12), 1001)
    await _create(database, admin, range(12, 24), 1002)

    assert await _exported(database, 1001) == own


async def test_it_says_how_far_it_is(database: Database, admin: ApiKeyOwner) -> None:
    created = await _create(database, admin, range(12))

    parts = await _parts(database)

    assert [len(part.contacts) for part in parts] == [5, 5, 2]
    assert [part.position for part in parts] == [created[index].id for index in (4, 9, 11)]
    assert {part.end for part in parts} == {created[-1].id}


async def test_it_ends_although_contacts_are_created_meanwhile(
    database: Database, admin: ApiKeyOwner
) -> None:
    created = await _create(database, admin, range(12))
    found: list[Contact] = []

    async for part in exported_contacts(database):
        found += part.contacts
        start = 100 * len(found)
        await _create(database, admin, range(start, start + 50))

    assert found == created


async def test_it_ends_although_contacts_are_deleted_meanwhile(
    database: Database, admin: ApiKeyOwner
) -> None:
    created = await _create(database, admin, range(12))
    found: list[Contact] = []

    async for part in exported_contacts(database):
        found += part.contacts
        await database.write(lambda connection: connection.execute(delete(contacts)).rowcount)

    assert found == created[:AT_A_TIME]


async def test_it_holds_one_part_in_memory(database: Database, admin: ApiKeyOwner) -> None:
    await _create(database, admin, range(200))
    gc.collect()
    before = _held_contacts()
    held = [_held_contacts() - before async for _ in exported_contacts(database)]

    # The part before is still held while the next one is read.
    assert len(held) == 40
    assert max(held) <= 2 * AT_A_TIME


def _held_contacts() -> int:
    return sum(type(each) is Contact for each in gc.get_objects())


@pytest.mark.parametrize(
    ("name", "found"),
    [("2001", 2001), ("northwind", 1001), ("northwind.example", 1001), ("Meridian", 2**53 + 1)],
)
async def test_a_text_names_an_advertiser(
    database: Database, admin: ApiKeyOwner, name: str, found: int
) -> None:
    access = StoreAccess(SqlSource(database), admin)

    advertiser = await advertiser_named(access, name)

    assert getattr(advertiser, "id", None) == found
