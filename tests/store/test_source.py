"""The store as a source of truth: keys and advertisers as callers ask for them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from contact_gateway.access.api_keys import mint, parse
from contact_gateway.access.principals import ApiKeyOwner, Credential, KeyRefusal, Role
from contact_gateway.contacts.outcomes import Created
from contact_gateway.contacts.source import (
    AdvertiserFilter,
    ContactFilter,
    Creation,
    PageRequest,
    SourceUnavailable,
)
from contact_gateway.store import api_keys
from contact_gateway.store.database import Database
from contact_gateway.store.source import SqlSource, StoreAccess
from contact_gateway.store.tables import api_keys as api_keys_table
from support.clock import ManualClock
from support.contacts import submitted

pytestmark = pytest.mark.anyio

BIG_ID = 2**53 + 1
MINUTE = timedelta(minutes=1)
OWNER = ApiKeyOwner(key_id=1, label="ci", role=Role.ADMIN, secret_hash=bytes(32))


async def _add(
    database: Database, *, role: Role = Role.ADMIN, expires_at: datetime | None = None
) -> tuple[int, str]:
    """Store a new key; return its id and its text."""
    minted = mint()
    key_id = await database.write(
        lambda connection: api_keys.add(
            connection, minted, role=role, label="ci", expires_at=expires_at
        )
    )
    return key_id, minted.text


@pytest.mark.parametrize("role", Role)
async def test_a_key_authenticates_its_owner(
    source: SqlSource, database: Database, role: Role
) -> None:
    key_id, text = await _add(database, role=role)
    presented = parse(text)
    assert presented is not None

    access = await source.authenticate(Credential.of(text))
    assert isinstance(access, StoreAccess)
    assert access.principal == ApiKeyOwner(key_id, "ci", role, presented.secret_hash)


async def test_each_key_authenticates_its_own_owner(source: SqlSource, database: Database) -> None:
    keys = [await _add(database) for _ in range(5)]

    owners = [await source.authenticate(Credential.of(text)) for _, text in keys]

    assert [isinstance(owner, StoreAccess) and owner.principal.key_id for owner in owners] == [
        key_id for key_id, _ in keys
    ]


async def test_a_key_that_was_never_stored_is_unknown(source: SqlSource) -> None:
    assert await source.authenticate(Credential.of(mint().text)) is KeyRefusal.UNKNOWN


async def test_a_key_with_another_secret_is_unknown(source: SqlSource, database: Database) -> None:
    presented = mint()
    stored = replace(mint(), lookup=presented.lookup)
    await database.write(
        lambda connection: api_keys.add(connection, stored, role=Role.ADMIN, label="ci")
    )

    assert await source.authenticate(Credential.of(presented.text)) is KeyRefusal.UNKNOWN


@pytest.mark.parametrize(
    ("expires_in", "is_valid"),
    [pytest.param(MINUTE, True, id="later"), pytest.param(-MINUTE, False, id="earlier")],
)
async def test_a_key_is_valid_until_it_expires(
    source: SqlSource, database: Database, expires_in: timedelta, *, is_valid: bool
) -> None:
    _, text = await _add(database, expires_at=datetime.now(UTC) + expires_in)

    found = await source.authenticate(Credential.of(text))

    assert isinstance(found, StoreAccess) if is_valid else found is KeyRefusal.EXPIRED


async def _revoke(database: Database, key_id: int) -> None:
    await database.write(lambda connection: api_keys.revoke(connection, key_id))


async def test_a_cached_key_is_refused_within_five_seconds_of_its_revocation(
    database: Database,
) -> None:
    clock = ManualClock()
    source = SqlSource(database, clock=clock)
    key_id, text = await _add(database)
    assert isinstance(await source.authenticate(Credential.of(text)), StoreAccess)

    await _revoke(database, key_id)
    clock.seconds += 5

    assert await source.authenticate(Credential.of(text)) is KeyRefusal.REVOKED
    await source.close()


async def test_an_uncached_key_is_refused_at_its_revocation(
    source: SqlSource, database: Database
) -> None:
    key_id, text = await _add(database)

    await _revoke(database, key_id)

    assert await source.authenticate(Credential.of(text)) is KeyRefusal.REVOKED


async def test_a_new_key_works_at_once_although_it_was_unknown_before(
    source: SqlSource, database: Database
) -> None:
    minted = mint()
    assert await source.authenticate(Credential.of(minted.text)) is KeyRefusal.UNKNOWN

    await database.write(
        lambda connection: api_keys.add(connection, minted, role=Role.ADMIN, label="ci")
    )

    assert isinstance(await source.authenticate(Credential.of(minted.text)), StoreAccess)


@pytest.mark.parametrize(
    "credential",
    [
        pytest.param("", id="empty"),
        pytest.param("cgw_", id="the prefix alone"),
        pytest.param("hunter2", id="a password"),
        pytest.param("\xe9" * 54, id="not ASCII"),
        pytest.param("\x00", id="NUL"),
        pytest.param("'; DROP TABLE api_keys; --", id="SQL"),
    ],
)
async def test_a_malformed_key_costs_no_lookup(
    unreachable_database: Database, credential: str
) -> None:
    source = SqlSource(unreachable_database)

    assert await source.authenticate(Credential.of(credential)) is KeyRefusal.MALFORMED
    await source.close()


async def test_a_key_cannot_be_read_from_the_database(database: Database) -> None:
    _, text = await _add(database)

    (row,) = await database.read(
        lambda connection: connection.execute(select(api_keys_table)).all()
    )

    secret = text.removeprefix("cgw_")[12:44]
    assert secret not in repr(tuple(row))
    assert secret.encode() not in row.secret_hash
    assert row.lookup in text


async def test_an_unreachable_store_is_unavailable(unreachable_database: Database) -> None:
    source = SqlSource(unreachable_database)

    with pytest.raises(SourceUnavailable):
        await source.authenticate(Credential.of(mint().text))
    await source.close()


async def test_a_created_contact_is_found_by_id_and_in_the_list(
    source: SqlSource, admin: ApiKeyOwner
) -> None:
    access = StoreAccess(source, admin)
    contact = submitted(advertiser_id=2001, email="maya@example.com")

    outcome = await access.create_contact(Creation(contact, None, dry_run=False))
    page = await access.contacts(ContactFilter(), PageRequest(1, 25))

    assert isinstance(outcome, Created)
    assert await access.contact(outcome.contact.id) == outcome.contact
    assert list(page.items) == [outcome.contact]


async def test_an_unknown_contact_is_none(source: SqlSource) -> None:
    assert await StoreAccess(source, OWNER).contact(2**63 - 1) is None


async def test_advertisers_are_found_by_id_without_unknown_ones(source: SqlSource) -> None:
    found = await StoreAccess(source, OWNER).advertisers_by_id((2001, BIG_ID, 404))

    assert {key: advertiser.name for key, advertiser in found.items()} == {
        2001: "Northwind US",
        BIG_ID: "Meridian",
    }


@pytest.mark.parametrize(
    ("slug", "advertiser_id"),
    [
        pytest.param("n-us", 2001, id="a network record's"),
        pytest.param("kestrel", 1002, id="a HiEnergy record before a network record"),
        pytest.param("nobody", None, id="unknown"),
        pytest.param("n-u%", None, id="no pattern"),
    ],
)
async def test_an_advertiser_is_found_by_slug(
    source: SqlSource, slug: str, advertiser_id: int | None
) -> None:
    found = await StoreAccess(source, OWNER).advertiser_by_slug(slug)

    assert (found and found.id) == advertiser_id


async def test_equivalents_are_the_network_records_of_each_brand(source: SqlSource) -> None:
    found = await StoreAccess(source, OWNER).equivalents((1001, 1002, BIG_ID))

    assert {
        brand: [advertiser.id for advertiser in records] for brand, records in found.items()
    } == {1001: [2001, 2002], 1002: [2003], BIG_ID: []}


async def test_advertisers_are_listed(source: SqlSource) -> None:
    wanted = AdvertiserFilter(q="northwind")
    page = await StoreAccess(source, OWNER).advertisers(wanted, PageRequest(1, 2))

    assert [advertiser.id for advertiser in page.items] == [2002, 2001]
    assert page.has_more
