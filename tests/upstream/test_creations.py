"""Creations under idempotency keys: what an answer means for the attempt before it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from contact_gateway.access.principals import Credential, ForwardedPrincipal
from contact_gateway.contacts.contact import DETAIL_NAMES, Contact, NewContact
from contact_gateway.contacts.outcomes import (
    Conflict,
    CreateContactOutcome,
    Created,
    IdempotencyKeyReused,
    NotFound,
    RateLimited,
)
from contact_gateway.contacts.source import Page, PageRequest, SourceUnavailable
from contact_gateway.store import schema
from contact_gateway.store.engine import Database, sqlite_url
from contact_gateway.store.ledger import SqlLedger
from contact_gateway.upstream.client import Delivery, UpstreamClient, UpstreamUnavailable
from contact_gateway.upstream.creations import Creations
from contact_gateway.upstream.operations import Operations
from running_gateway import database_url

pytestmark = pytest.mark.anyio

MAYA = NewContact(advertiser_id=2001, email="maya@example.com", name="Maya")
NOOR = NewContact(advertiser_id=2001, email="noor@example.com")
SENT_OTHERWISE = replace(MAYA, name="Maya L.")
CALLER = ForwardedPrincipal(Credential("key"))
LOST = UpstreamUnavailable("cut", Delivery.OVER)
Answer = CreateContactOutcome | Exception


def stored(contact: NewContact, created_at: datetime | None = None) -> Contact:
    """Return the contact that upstream has made of a submission."""
    moment = created_at or datetime.now(UTC)
    details = {name: getattr(contact, name) for name in DETAIL_NAMES}
    return Contact(**details, id=1, advertiser_name=None, created_at=moment, updated_at=moment)


class Scripted(Operations):
    """Upstream's operations with answers in turn, and the contacts that a look-up finds."""

    def __init__(self) -> None:
        super().__init__(UpstreamClient("http://nobody", timeout_seconds=1, max_connections=1))
        self.answers: list[Answer | Callable[[], Answer]] = []
        self.found: list[Contact] = []
        self.has_more = False
        self.creations = 0

    async def create_contact(
        self, principal: ForwardedPrincipal, contact: NewContact, *, dry_run: bool
    ) -> CreateContactOutcome:
        del principal, contact, dry_run
        self.creations += 1
        await asyncio.sleep(0)
        answer = self.answers.pop(0)
        answer = answer() if callable(answer) else answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def contacts(self, principal: object, wanted: object, page: PageRequest) -> Page[Contact]:
        del principal, wanted
        return Page(tuple(self.found), page, has_more=self.has_more)


@pytest.fixture
def upstream() -> Scripted:
    return Scripted()


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[SqlLedger]:
    database = Database(sqlite_url(database_url(tmp_path)))
    await schema.prepare(database)
    ledger = SqlLedger(database)
    yield ledger
    await ledger.close()
    await database.close()


@pytest.fixture
def creations(upstream: Scripted, ledger: SqlLedger) -> Creations:
    return Creations(upstream, ledger)


async def _create(creations: Creations, contact: NewContact) -> CreateContactOutcome:
    return await creations.create(CALLER, contact, "k", dry_run=False)


async def _lose(creations: Creations, upstream: Scripted, contact: NewContact) -> None:
    upstream.answers.append(LOST)
    with pytest.raises(SourceUnavailable):
        await _create(creations, contact)


async def test_callers_with_one_key_and_different_inputs_do_not_stop_the_process(
    creations: Creations, upstream: Scripted
) -> None:
    """Each comes the moment the one before ends, which once waited for what had ended."""
    upstream.answers = [NotFound() for _ in range(40)]
    inputs = [MAYA, NOOR] * 10
    outcomes = await asyncio.wait_for(
        asyncio.gather(*(_create(creations, contact) for contact in inputs)), timeout=10
    )

    assert {type(outcome) for outcome in outcomes} == {NotFound}


async def test_a_conflict_with_another_address_is_not_what_the_key_created(
    creations: Creations, upstream: Scripted
) -> None:
    await _lose(creations, upstream, MAYA)
    somebodys = stored(NOOR)
    upstream.answers.append(Conflict(somebodys))

    assert await _create(creations, NOOR) == Conflict(somebodys)


async def test_a_late_contact_belongs_to_the_input_that_created_it(
    creations: Creations, upstream: Scripted
) -> None:
    await _lose(creations, upstream, MAYA)
    late = stored(MAYA)
    upstream.answers.append(Conflict(late))

    assert await _create(creations, SENT_OTHERWISE) == IdempotencyKeyReused()
    assert await _create(creations, MAYA) == Created(late, replayed=True)
    assert upstream.creations == 2


async def test_a_refused_repeat_does_not_forget_the_attempt_before_it(
    creations: Creations, upstream: Scripted
) -> None:
    await _lose(creations, upstream, MAYA)
    upstream.answers.append(RateLimited(1))
    refused = await _create(creations, MAYA)
    upstream.found = [stored(MAYA)]

    assert refused == RateLimited(1)
    assert await _create(creations, MAYA) == Created(upstream.found[0], replayed=True)
    assert upstream.creations == 2


async def test_a_conflict_that_may_be_with_the_keys_own_contact_is_not_told(
    creations: Creations, upstream: Scripted
) -> None:
    await _lose(creations, upstream, MAYA)
    upstream.answers.append(Conflict(None))
    with pytest.raises(SourceUnavailable):
        await _create(creations, MAYA)
    upstream.found = [stored(MAYA)]

    assert await _create(creations, MAYA) == Created(upstream.found[0], replayed=True)


async def test_nothing_is_sent_where_the_contact_is_there_whoever_made_it(
    creations: Creations, upstream: Scripted
) -> None:
    await _lose(creations, upstream, MAYA)
    upstream.found = [stored(MAYA, datetime.now(UTC) - timedelta(hours=1))]

    assert await _create(creations, MAYA) == Conflict(upstream.found[0])
    assert upstream.creations == 1


async def test_a_look_up_that_finds_others_does_not_tell_that_nothing_is_there(
    creations: Creations, upstream: Scripted
) -> None:
    await _lose(creations, upstream, MAYA)
    upstream.found, upstream.has_more = [stored(NOOR)], True

    with pytest.raises(SourceUnavailable):
        await _create(creations, MAYA)
    assert upstream.creations == 1


async def test_nothing_is_sent_where_the_ledger_took_too_long_of_the_time_it_is_held(
    creations: Creations, upstream: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contact_gateway.upstream.creations._WRITTEN_WITHIN", timedelta(0))

    with pytest.raises(SourceUnavailable):
        await _create(creations, MAYA)
    assert upstream.creations == 0
