"""Creations under idempotency keys: what each outcome means for an earlier attempt."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from contact_gateway.access.principals import Credential
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.contact import Contact, NewContact
from contact_gateway.contacts.outcomes import (
    CreateContactOutcome,
    Created,
    NotFound,
    RateLimited,
)
from contact_gateway.contacts.source import ContactFilter, Page, PageRequest, SourceUnavailable
from contact_gateway.store import schema_version
from contact_gateway.store.ledger import SqlLedger
from contact_gateway.store.sqlite import Database, sqlite_url
from contact_gateway.upstream.client import Delivery, UpstreamClient, UpstreamUnavailable
from contact_gateway.upstream.creations import Creations
from contact_gateway.upstream.operations import Operations
from support.contacts import KEY_REUSED, NOT_FOUND, conflict, stored, submitted
from support.running_gateway import database_url

pytestmark = pytest.mark.anyio

MAYA = submitted(advertiser_id=2001, email="maya@example.com", name="Maya")
NOOR = submitted(advertiser_id=2001, email="noor@example.com")
SENT_OTHERWISE = MAYA._replace(name="Maya L.")
NORTHWIND = Advertiser(
    id=1001,
    name="Northwind",
    display_name=None,
    slug=None,
    domain=None,
    network_name="HiEnergy",
    publisher_name=None,
    status=None,
    hienergy_id=1001,
)
BRAND: Mapping[int | str, Advertiser] = {
    1001: NORTHWIND,
    2001: replace(NORTHWIND, id=2001, network_name="Awin"),
}
LOST = UpstreamUnavailable("cut", Delivery.FINISHED)
Outcome = CreateContactOutcome | Exception


def created_upstream(contact: NewContact, created_at: datetime | None = None) -> Contact:
    """Return the contact that upstream creates from a submission."""
    return stored(contact, created_at or datetime.now(UTC))


class Scripted(Operations):
    """Upstream's operations with scripted outcomes, and the contacts that a lookup finds."""

    def __init__(self) -> None:
        client = UpstreamClient("http://upstream.invalid", timeout_seconds=1, max_connections=1)
        super().__init__(client, Credential("key"))
        self.outcomes: list[Outcome | Callable[[], Outcome]] = []
        self.found: list[Contact] = []
        self.has_more = False
        self.creations = 0
        self.knows_brands = True
        self.ahead: timedelta | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.lookup_gate = asyncio.Event()
        self.lookup_gate.set()

    def clock_ahead(self) -> timedelta | None:
        return self.ahead

    async def send_creation(self, contact: NewContact, *, dry_run: bool) -> CreateContactOutcome:
        del contact, dry_run
        self.creations += 1
        await asyncio.sleep(0)
        await self.gate.wait()
        outcome = self.outcomes.pop(0)
        outcome = outcome() if callable(outcome) else outcome
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def contacts(self, wanted: ContactFilter, page: PageRequest) -> Page[Contact]:
        await self.lookup_gate.wait()
        wants_all = self.knows_brands or wanted.advertiser_id is None
        found = [
            one
            for one in self.found
            if wants_all or one.details.advertiser_id == wanted.advertiser_id
        ]
        return Page(tuple(found), page, has_more=self.has_more)

    async def advertiser(self, id_or_slug: int | str) -> Advertiser | None:
        return BRAND.get(id_or_slug)


@pytest.fixture
def upstream() -> Scripted:
    return Scripted()


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[SqlLedger]:
    database = Database(sqlite_url(database_url(tmp_path)))
    await schema_version.prepare(database)
    ledger = SqlLedger(database)
    yield ledger
    await ledger.close()
    await database.close()


@pytest.fixture
def creations(upstream: Scripted, ledger: SqlLedger) -> Creations:
    return Creations(upstream.timeout_seconds, ledger)


async def _create(
    creations: Creations, upstream: Scripted, contact: NewContact
) -> CreateContactOutcome:
    return await creations.create(upstream, contact, "k", dry_run=False)


async def _lose(creations: Creations, upstream: Scripted, contact: NewContact) -> None:
    upstream.outcomes.append(LOST)
    with pytest.raises(SourceUnavailable):
        await _create(creations, upstream, contact)


async def test_callers_with_one_key_and_different_inputs_do_not_block_the_event_loop(
    creations: Creations, upstream: Scripted
) -> None:
    """Each starts when the one before ends. To wait for a finished one would never yield."""
    upstream.outcomes = [NOT_FOUND for _ in range(40)]
    inputs = [MAYA, NOOR] * 10
    outcomes = await asyncio.wait_for(
        asyncio.gather(*(_create(creations, upstream, contact) for contact in inputs)), timeout=10
    )

    assert {type(outcome) for outcome in outcomes} == {NotFound}


async def test_a_conflict_with_another_address_is_not_a_replay(
    creations: Creations, upstream: Scripted
) -> None:
    await _lose(creations, upstream, MAYA)
    existing = created_upstream(NOOR)
    upstream.outcomes.append(conflict(existing))

    assert await _create(creations, upstream, NOOR) == conflict(existing)


async def test_a_late_contact_belongs_to_the_input_that_created_it(
    creations: Creations, upstream: Scripted
) -> None:
    await _lose(creations, upstream, MAYA)
    late = created_upstream(MAYA)
    upstream.outcomes.append(conflict(late))

    assert await _create(creations, upstream, SENT_OTHERWISE) == KEY_REUSED
    assert await _create(creations, upstream, MAYA) == Created(late, replayed=True)
    assert upstream.creations == 2


async def test_a_refused_retry_leaves_the_earlier_attempt_in_the_ledger(
    creations: Creations, upstream: Scripted
) -> None:
    await _lose(creations, upstream, MAYA)
    upstream.outcomes.append(RateLimited(1))
    refused = await _create(creations, upstream, MAYA)
    upstream.found = [created_upstream(MAYA)]

    assert refused == RateLimited(1)
    assert await _create(creations, upstream, MAYA) == Created(upstream.found[0], replayed=True)
    assert upstream.creations == 2


async def test_a_conflict_that_may_be_with_the_keys_own_contact_is_unavailable(
    creations: Creations, upstream: Scripted
) -> None:
    await _lose(creations, upstream, MAYA)
    upstream.outcomes.append(conflict(None))
    with pytest.raises(SourceUnavailable):
        await _create(creations, upstream, MAYA)
    upstream.found = [created_upstream(MAYA)]

    assert await _create(creations, upstream, MAYA) == Created(upstream.found[0], replayed=True)


async def test_nothing_is_sent_if_a_lookup_finds_an_older_contact(
    creations: Creations, upstream: Scripted
) -> None:
    await _lose(creations, upstream, MAYA)
    upstream.found = [created_upstream(MAYA, datetime.now(UTC) - timedelta(hours=1))]

    assert await _create(creations, upstream, MAYA) == conflict(upstream.found[0])
    assert upstream.creations == 1


async def test_nothing_is_sent_if_upstream_ignores_the_email_filter(
    creations: Creations, upstream: Scripted
) -> None:
    await _lose(creations, upstream, MAYA)
    upstream.found, upstream.has_more = [created_upstream(NOOR)], True

    with pytest.raises(SourceUnavailable):
        await _create(creations, upstream, MAYA)
    assert upstream.creations == 1


async def test_nothing_is_sent_if_the_ledger_is_too_slow_for_the_lease(
    creations: Creations, upstream: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contact_gateway.upstream.creations._MAX_LEDGER_DELAY", timedelta(0))

    with pytest.raises(SourceUnavailable):
        await _create(creations, upstream, MAYA)
    assert upstream.creations == 0


@pytest.mark.parametrize(
    ("ahead", "created"),
    [
        pytest.param(timedelta(0), timedelta(0), id="equal clocks"),
        pytest.param(timedelta(hours=-1), timedelta(hours=-1), id="upstream an hour behind"),
        pytest.param(timedelta(hours=1), timedelta(hours=1), id="upstream an hour ahead"),
        pytest.param(None, timedelta(seconds=-30), id="unknown clock"),
    ],
)
async def test_a_contact_created_after_the_attempt_by_upstreams_clock_is_a_replay(
    creations: Creations, upstream: Scripted, ahead: timedelta | None, created: timedelta
) -> None:
    await _lose(creations, upstream, MAYA)
    upstream.ahead, upstream.found = ahead, [created_upstream(MAYA, datetime.now(UTC) + created)]

    assert await _create(creations, upstream, MAYA) == Created(upstream.found[0], replayed=True)


@pytest.mark.parametrize(
    ("ahead", "created"),
    [
        pytest.param(timedelta(0), timedelta(seconds=-30), id="equal clocks"),
        pytest.param(timedelta(hours=-1), timedelta(hours=-1, seconds=-30), id="an hour behind"),
        pytest.param(timedelta(hours=1), timedelta(minutes=59), id="an hour ahead"),
        pytest.param(None, timedelta(minutes=-2), id="unknown clock"),
    ],
)
async def test_a_contact_created_before_the_attempt_by_upstreams_clock_is_a_conflict(
    creations: Creations, upstream: Scripted, ahead: timedelta | None, created: timedelta
) -> None:
    await _lose(creations, upstream, MAYA)
    upstream.ahead, upstream.found = ahead, [created_upstream(MAYA, datetime.now(UTC) + created)]

    assert await _create(creations, upstream, MAYA) == conflict(upstream.found[0])


async def test_a_contact_is_found_on_its_hienergy_record(
    creations: Creations, upstream: Scripted
) -> None:
    upstream.knows_brands = False
    await _lose(creations, upstream, MAYA)
    upstream.found = [created_upstream(MAYA._replace(advertiser_id=1001))]

    assert await _create(creations, upstream, MAYA) == Created(upstream.found[0], replayed=True)
    assert upstream.creations == 1


async def test_a_contact_of_another_brand_does_not_prevent_a_creation(
    creations: Creations, upstream: Scripted
) -> None:
    upstream.knows_brands = False
    await _lose(creations, upstream, MAYA)
    upstream.found = [created_upstream(MAYA._replace(advertiser_id=1002))]
    created = created_upstream(MAYA._replace(advertiser_id=1001))
    upstream.outcomes.append(Created(created))

    assert await _create(creations, upstream, MAYA) == Created(created)


async def test_a_conflict_has_no_contact_if_the_lookup_times_out(
    upstream: Scripted, ledger: SqlLedger
) -> None:
    creations = Creations(0, ledger)
    upstream.outcomes.append(conflict(None))
    upstream.lookup_gate.clear()

    assert await creations.create(upstream, MAYA, None, dry_run=False) == conflict(None)


async def test_a_creation_goes_on_after_its_caller_times_out(
    upstream: Scripted, ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contact_gateway.upstream.creations._MAX_CALLS_PER_CALLER", 0)
    monkeypatch.setattr("contact_gateway.upstream.creations._LEASE_MARGIN", timedelta(seconds=0.2))
    creations = Creations(upstream.timeout_seconds, ledger)
    upstream.gate.clear()
    created = created_upstream(MAYA)
    upstream.outcomes.append(Created(created))
    with pytest.raises(SourceUnavailable, match="timed out"):
        await _create(creations, upstream, MAYA)
    upstream.gate.set()
    await creations.close()
    upstream.found = [created]

    assert await _create(creations, upstream, MAYA) == Created(created, replayed=True)
    assert upstream.creations == 1
