"""Creations under idempotency keys: what an answer means for an earlier attempt."""

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
from contact_gateway.settings import sqlite_url
from contact_gateway.store.ledger import SqlLedger
from contact_gateway.store.sqlite import Database
from contact_gateway.upstream.client import Delivery, UpstreamClient, UpstreamUnavailable
from contact_gateway.upstream.creations import Creations
from contact_gateway.upstream.operations import Operations
from support.clock import ManualClock
from support.contacts import KEY_REUSED, NOT_FOUND, conflict, stored, submitted
from support.gateway import empty_store

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
LOST = UpstreamUnavailable("unreadable", Delivery.UNKNOWN, status=201)
Answer = CreateContactOutcome | Exception


def created_upstream(contact: NewContact, created_at: datetime | None = None) -> Contact:
    """Return the contact that upstream creates from a submission."""
    return stored(contact, created_at or datetime.now(UTC))


class Scripted(Operations):
    """Upstream's operations, with an answer for each creation and the contacts for lookups."""

    def __init__(self) -> None:
        client = UpstreamClient("http://upstream", timeout_seconds=60, max_connections=1)
        super().__init__(client, Credential("key"))
        self.answers: list[Answer | Callable[[], Answer]] = []
        self.found: list[Contact] = []
        self.has_more = False
        self.creations = 0
        self.knows_brands = True
        self.ahead: timedelta | None = None
        self.has_sent = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.has_looked_up = asyncio.Event()
        self.may_find = asyncio.Event()
        self.may_find.set()

    def clock_ahead(self) -> timedelta | None:
        return self.ahead

    async def send_creation(self, contact: NewContact, *, dry_run: bool) -> CreateContactOutcome:
        del contact, dry_run
        self.creations += 1
        self.has_sent.set()
        await asyncio.sleep(0)
        await self.may_answer.wait()
        answer = self.answers.pop(0)
        answer = answer() if callable(answer) else answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def contacts(self, wanted: ContactFilter, page: PageRequest) -> Page[Contact]:
        self.has_looked_up.set()
        await self.may_find.wait()
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
    database = Database(sqlite_url(empty_store(tmp_path, {}).url))
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
    upstream.answers.append(LOST)
    with pytest.raises(SourceUnavailable):
        await _create(creations, upstream, contact)


async def test_callers_with_one_key_and_different_inputs_do_not_stop_the_process(
    creations: Creations, upstream: Scripted
) -> None:
    """Each begins when the one before ends; waiting for an ended one was an endless loop."""
    upstream.answers = [NOT_FOUND for _ in range(40)]
    inputs = [MAYA, NOOR] * 10
    outcomes = await asyncio.gather(*(_create(creations, upstream, contact) for contact in inputs))

    assert {type(outcome) for outcome in outcomes} == {NotFound}


async def test_a_conflict_with_another_address_is_not_a_replay(
    creations: Creations, upstream: Scripted
) -> None:
    await _lose(creations, upstream, MAYA)
    other = created_upstream(NOOR)
    upstream.answers.append(conflict(other))

    assert await _create(creations, upstream, NOOR) == conflict(other)


async def test_a_late_contact_belongs_to_the_input_that_created_it(
    creations: Creations, upstream: Scripted
) -> None:
    await _lose(creations, upstream, MAYA)
    late = created_upstream(MAYA)
    upstream.answers.append(conflict(late))

    assert await _create(creations, upstream, SENT_OTHERWISE) == KEY_REUSED
    assert await _create(creations, upstream, MAYA) == Created(late, replayed=True)
    assert upstream.creations == 2


async def test_a_refused_retry_does_not_end_the_earlier_attempt(
    creations: Creations, upstream: Scripted
) -> None:
    await _lose(creations, upstream, MAYA)
    upstream.answers.append(RateLimited(1))
    refused = await _create(creations, upstream, MAYA)
    upstream.found = [created_upstream(MAYA)]

    assert refused == RateLimited(1)
    assert await _create(creations, upstream, MAYA) == Created(upstream.found[0], replayed=True)
    assert upstream.creations == 2


async def test_a_conflict_that_may_be_a_replay_is_not_reported(
    creations: Creations, upstream: Scripted
) -> None:
    await _lose(creations, upstream, MAYA)
    upstream.answers.append(conflict(None))
    with pytest.raises(SourceUnavailable):
        await _create(creations, upstream, MAYA)
    upstream.found = [created_upstream(MAYA)]

    assert await _create(creations, upstream, MAYA) == Created(upstream.found[0], replayed=True)


async def test_nothing_is_sent_where_the_contact_already_exists(
    creations: Creations, upstream: Scripted
) -> None:
    await _lose(creations, upstream, MAYA)
    upstream.found = [created_upstream(MAYA, datetime.now(UTC) - timedelta(hours=1))]

    assert await _create(creations, upstream, MAYA) == conflict(upstream.found[0])
    assert upstream.creations == 1


async def test_a_lookup_that_finds_other_contacts_does_not_show_that_none_exists(
    creations: Creations, upstream: Scripted
) -> None:
    await _lose(creations, upstream, MAYA)
    upstream.found, upstream.has_more = [created_upstream(NOOR)], True

    with pytest.raises(SourceUnavailable):
        await _create(creations, upstream, MAYA)
    assert upstream.creations == 1


async def test_nothing_is_sent_where_the_ledger_was_too_slow(
    creations: Creations, upstream: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contact_gateway.upstream.creations._MAX_LEDGER_DELAY", timedelta(0))

    with pytest.raises(SourceUnavailable):
        await _create(creations, upstream, MAYA)
    assert upstream.creations == 0


@pytest.mark.parametrize(
    ("ahead", "made"),
    [
        pytest.param(timedelta(0), timedelta(0), id="clocks that agree"),
        pytest.param(timedelta(hours=-1), timedelta(hours=-1), id="upstream an hour behind"),
        pytest.param(timedelta(hours=1), timedelta(hours=1), id="upstream an hour ahead"),
        pytest.param(None, timedelta(seconds=-30), id="an unknown clock"),
    ],
)
async def test_a_contact_from_after_the_attempt_is_a_replay(
    creations: Creations, upstream: Scripted, ahead: timedelta | None, made: timedelta
) -> None:
    await _lose(creations, upstream, MAYA)
    upstream.ahead, upstream.found = ahead, [created_upstream(MAYA, datetime.now(UTC) + made)]

    assert await _create(creations, upstream, MAYA) == Created(upstream.found[0], replayed=True)


@pytest.mark.parametrize(
    ("ahead", "made"),
    [
        pytest.param(timedelta(0), timedelta(seconds=-30), id="clocks that agree"),
        pytest.param(timedelta(hours=-1), timedelta(hours=-1, seconds=-30), id="an hour behind"),
        pytest.param(timedelta(hours=1), timedelta(minutes=59), id="an hour ahead"),
        pytest.param(None, timedelta(minutes=-2), id="an unknown clock"),
    ],
)
async def test_a_contact_from_before_the_attempt_is_a_conflict(
    creations: Creations, upstream: Scripted, ahead: timedelta | None, made: timedelta
) -> None:
    await _lose(creations, upstream, MAYA)
    upstream.ahead, upstream.found = ahead, [created_upstream(MAYA, datetime.now(UTC) + made)]

    assert await _create(creations, upstream, MAYA) == conflict(upstream.found[0])


async def test_a_contact_is_found_by_its_hienergy_record(
    creations: Creations, upstream: Scripted
) -> None:
    upstream.knows_brands = False
    await _lose(creations, upstream, MAYA)
    upstream.found = [created_upstream(MAYA._replace(advertiser_id=1001))]

    assert await _create(creations, upstream, MAYA) == Created(upstream.found[0], replayed=True)
    assert upstream.creations == 1


async def test_a_contact_of_another_brand_does_not_prevent_sending(
    creations: Creations, upstream: Scripted
) -> None:
    upstream.knows_brands = False
    await _lose(creations, upstream, MAYA)
    upstream.found = [created_upstream(MAYA._replace(advertiser_id=1002))]
    created = created_upstream(MAYA._replace(advertiser_id=1001))
    upstream.answers.append(Created(created))

    assert await _create(creations, upstream, MAYA) == Created(created)


async def test_a_conflict_has_no_contact_where_the_lookup_hangs(
    creations: Creations, upstream: Scripted, stopped_clock: ManualClock
) -> None:
    upstream.answers.append(conflict(None))
    upstream.may_find.clear()
    creation = asyncio.create_task(creations.create(upstream, MAYA, None, dry_run=False))
    await upstream.has_looked_up.wait()
    await stopped_clock.advance(upstream.timeout_seconds)

    assert await creation == conflict(None)


async def test_a_creation_continues_after_its_caller_has_waited_too_long(
    creations: Creations, ledger: SqlLedger, upstream: Scripted, stopped_clock: ManualClock
) -> None:
    # The first write deletes old attempts afterwards, which the moved clock would interrupt.
    await ledger.put(b"another key", "another holder", None)
    upstream.may_answer.clear()
    created = created_upstream(MAYA)
    upstream.answers.append(Created(created))
    creation = asyncio.create_task(_create(creations, upstream, MAYA))
    await upstream.has_sent.wait()
    await stopped_clock.advance(3 * upstream.timeout_seconds)
    with pytest.raises(SourceUnavailable, match="timed out"):
        await creation
    upstream.may_answer.set()
    await creations.close()
    upstream.found = [created]

    assert await _create(creations, upstream, MAYA) == Created(created, replayed=True)
    assert upstream.creations == 1
