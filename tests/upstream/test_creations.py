"""Creations upstream: what each answer, and each lookup, means for an attempt."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from contact_gateway.access.principals import Credential
from contact_gateway.contacts import policy
from contact_gateway.contacts.advertiser import Advertiser
from contact_gateway.contacts.contact import Contact, NewContact
from contact_gateway.contacts.ledger import Attempt
from contact_gateway.contacts.outcomes import (
    CreateContactOutcome,
    Created,
    NotFound,
    OutcomeUnknown,
    RateLimited,
)
from contact_gateway.contacts.source import ContactFilter, Page, PageRequest, SourceUnavailable
from contact_gateway.settings import Known
from contact_gateway.store.ledger import SqlLedger
from contact_gateway.store.retention import IDEMPOTENCY_RETENTION
from contact_gateway.upstream.calls import Delivery, UpstreamUnavailable
from contact_gateway.upstream.client import UpstreamClient
from contact_gateway.upstream.creations import Creations, keyed
from contact_gateway.upstream.operations import Operations
from contact_gateway.upstream.responses import CreationAnswer, Unnamed
from contact_gateway.upstream.traits import Traits
from support.clock import ManualClock
from support.contacts import KEY_REUSED, NOT_FOUND, conflict, stored, submitted
from support.databases import database_at
from support.gateway import empty_store

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("engine")]

MAYA = submitted(advertiser_id=2001, email="maya@example.com", name="Maya")
NOOR = submitted(advertiser_id=2001, email="noor@example.com")
NORTHWIND = Advertiser(
    id=1001,
    name="Northwind",
    domain="northwind.example",
    network_name="HiEnergy",
    hienergy_id=1001,
)
BRAND: Mapping[int | str, Advertiser] = {
    1001: NORTHWIND,
    2001: NORTHWIND._replace(id=2001, network_name="Awin"),
}
LOST = UpstreamUnavailable("cut", Delivery.UNKNOWN)
Answer = CreationAnswer | Exception
HOUR = timedelta(hours=1)


def created_upstream(contact: NewContact, created_at: datetime | None = None) -> Contact:
    """Return the contact that upstream creates from a submission."""
    return stored(contact, created_at or datetime.now(UTC))


class Scripted(Operations):
    """Upstream's operations, with an answer for each creation and the contacts for lookups."""

    def __init__(self, api_key: str = "key") -> None:
        client = UpstreamClient("http://upstream", timeout_seconds=60, max_connections=1)
        super().__init__(client, Credential.of(api_key))
        self.answers: list[Answer | Callable[[], Answer]] = []
        self.found: list[Contact] = []
        self.brand = BRAND
        self.creations = 0
        self.ahead: timedelta | None = None
        self.has_sent = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.has_looked_up = asyncio.Event()
        self.may_find = asyncio.Event()
        self.may_find.set()

    def clock_ahead(self) -> timedelta | None:
        return self.ahead

    async def send_creation(
        self, contact: NewContact, idempotency_key: str | None
    ) -> CreationAnswer:
        del contact, idempotency_key
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
        del wanted
        self.has_looked_up.set()
        await self.may_find.wait()
        return Page(tuple(self.found), page, has_more=False)

    async def contacts_of_advertiser(
        self, advertiser_id: int, wanted: ContactFilter, page: PageRequest
    ) -> Page[Contact]:
        del wanted
        found = [one for one in self.found if one.advertiser_id == advertiser_id]
        return Page(tuple(found), page, has_more=False)

    async def advertiser(self, id_or_slug: int | str) -> Advertiser | None:
        return self.brand.get(id_or_slug)


@pytest.fixture
def upstream() -> Scripted:
    return Scripted()


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[SqlLedger]:
    database = database_at(empty_store(tmp_path, {}).url)
    ledger = SqlLedger(database)
    yield ledger
    await ledger.close()
    await database.close()


def creating(ledger: SqlLedger, refuses_duplicates: Known = Known.UNKNOWN) -> Creations:
    return Creations(
        ledger, Traits(refuses_duplicates), read_timeout_seconds=60, create_timeout_seconds=60
    )


@pytest.fixture
def creations(ledger: SqlLedger) -> Creations:
    return creating(ledger)


async def _create(
    creations: Creations, upstream: Scripted, contact: NewContact, key: str = "k"
) -> CreateContactOutcome:
    return await creations.create(keyed(upstream, contact, key))


async def _lose(
    creations: Creations, upstream: Scripted, contact: NewContact, key: str = "k"
) -> OutcomeUnknown:
    upstream.answers.append(LOST)
    outcome = await _create(creations, upstream, contact, key)
    assert isinstance(outcome, OutcomeUnknown)
    return outcome


async def _end_leases(ledger: SqlLedger, upstream: Scripted, contact: NewContact) -> None:
    """Let the time pass in which upstream may still process a lost call."""
    key = keyed(upstream, contact, "k").ledger_key
    attempt = await ledger.find(key)
    assert attempt is not None
    await ledger.put(key, attempt.holder, attempt._replace(held_until=attempt.sent_at))


async def test_callers_with_one_key_and_different_inputs_do_not_stop_the_process(
    creations: Creations, upstream: Scripted
) -> None:
    """Each begins when the one before ends; waiting for an ended one was an endless loop."""
    upstream.answers = [NOT_FOUND for _ in range(40)]
    inputs = [MAYA, NOOR] * 10
    outcomes = await asyncio.gather(*(_create(creations, upstream, contact) for contact in inputs))

    assert {type(outcome) for outcome in outcomes} == {NotFound}


class TestALostAnswer:
    async def test_is_unknown_and_not_sent_again_while_no_list_shows_the_contact(
        self, creations: Creations, ledger: SqlLedger, upstream: Scripted
    ) -> None:
        first = await _lose(creations, upstream, MAYA)
        second = await _create(creations, upstream, MAYA)
        await _end_leases(ledger, upstream, MAYA)
        third = await _create(creations, upstream, MAYA)

        assert isinstance(third, OutcomeUnknown)
        assert (first.sent_at, first.message) == (third.sent_at, third.message)
        assert second == first
        assert upstream.creations == 1

    async def test_with_another_input_the_key_is_reused(
        self, creations: Creations, upstream: Scripted
    ) -> None:
        await _lose(creations, upstream, MAYA)

        assert await _create(creations, upstream, NOOR) == KEY_REUSED
        assert await _create(creations, upstream, MAYA._replace(name="Maya L.")) == KEY_REUSED
        assert upstream.creations == 1

    async def test_without_a_key_says_to_look_in_hienergy(
        self, creations: Creations, upstream: Scripted
    ) -> None:
        upstream.answers.append(LOST)
        outcome = await creations.create_unkeyed(upstream, MAYA)

        assert isinstance(outcome, OutcomeUnknown)
        assert outcome.message == policy.LOST_WITHOUT_KEY

    async def test_is_found_by_a_repeat(self, creations: Creations, upstream: Scripted) -> None:
        await _lose(creations, upstream, MAYA)
        upstream.found = [created_upstream(MAYA)]

        assert await _create(creations, upstream, MAYA) == Created(upstream.found[0], replayed=True)
        assert upstream.creations == 1

    async def test_is_not_the_contact_of_another_key(
        self, creations: Creations, upstream: Scripted
    ) -> None:
        await _lose(creations, upstream, MAYA, "first")
        await _lose(creations, upstream, MAYA, "second")
        upstream.found = [created_upstream(MAYA)]
        first = await _create(creations, upstream, MAYA, "first")
        second = await _create(creations, upstream, MAYA, "second")

        assert first == Created(upstream.found[0], replayed=True)
        assert isinstance(second, OutcomeUnknown)


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
async def test_a_contact_from_before_the_attempt_proves_nothing_about_it(
    creations: Creations, upstream: Scripted, ahead: timedelta | None, made: timedelta
) -> None:
    await _lose(creations, upstream, MAYA)
    upstream.ahead, upstream.found = ahead, [created_upstream(MAYA, datetime.now(UTC) + made)]

    assert isinstance(await _create(creations, upstream, MAYA), OutcomeUnknown)
    assert upstream.creations == 1


class TestAContactThatMayBeTheAttempts:
    async def test_is_named_where_hienergy_shows_no_time(
        self, creations: Creations, upstream: Scripted
    ) -> None:
        await _lose(creations, upstream, MAYA)
        upstream.found = [created_upstream(MAYA)._replace(id=77, created_at=None)]
        outcome = await _create(creations, upstream, MAYA)

        assert isinstance(outcome, OutcomeUnknown)
        assert "contact 77" in outcome.message

    async def test_is_named_where_hienergy_does_not_show_its_brand(
        self, creations: Creations, upstream: Scripted
    ) -> None:
        upstream.brand = {2001: NORTHWIND._replace(id=2001, domain=None, hienergy_id=None)}
        await _lose(creations, upstream, MAYA)
        upstream.found = [created_upstream(MAYA._replace(advertiser_id=1001))._replace(id=77)]
        outcome = await _create(creations, upstream, MAYA)

        assert isinstance(outcome, OutcomeUnknown)
        assert "contact 77" in outcome.message

    @pytest.mark.parametrize("hienergy_id", [1001, None], ids=["by its id", "by its domain"])
    async def test_is_the_attempts_on_the_hienergy_record(
        self, creations: Creations, upstream: Scripted, hienergy_id: int | None
    ) -> None:
        network_record = NORTHWIND._replace(id=2001, hienergy_id=hienergy_id)
        upstream.brand = {1001: NORTHWIND, 2001: network_record}
        await _lose(creations, upstream, MAYA)
        upstream.found = [created_upstream(MAYA._replace(advertiser_id=1001))]

        assert await _create(creations, upstream, MAYA) == Created(upstream.found[0], replayed=True)

    async def test_is_not_one_of_another_brand(
        self, creations: Creations, upstream: Scripted
    ) -> None:
        await _lose(creations, upstream, MAYA)
        upstream.found = [created_upstream(MAYA._replace(advertiser_id=1002))._replace(id=77)]
        outcome = await _create(creations, upstream, MAYA)

        assert isinstance(outcome, OutcomeUnknown)
        assert "77" not in outcome.message


class TestWhereHiEnergyRefusesOrAbsorbsRepeats:
    """A repeat is sent again, once HiEnergy surely no longer processes the first call."""

    @pytest.fixture
    def creations(self, ledger: SqlLedger) -> Creations:
        return creating(ledger, Known.YES)

    async def test_it_is_not_sent_while_the_first_call_may_be_processed(
        self, creations: Creations, upstream: Scripted
    ) -> None:
        await _lose(creations, upstream, MAYA)

        assert isinstance(await _create(creations, upstream, MAYA), OutcomeUnknown)
        assert upstream.creations == 1

    async def test_an_attempt_that_never_arrived_is_created_by_the_repeat(
        self, creations: Creations, ledger: SqlLedger, upstream: Scripted
    ) -> None:
        await _lose(creations, upstream, MAYA)
        await _end_leases(ledger, upstream, MAYA)
        created = created_upstream(MAYA)
        upstream.answers.append(Created(created))

        assert await _create(creations, upstream, MAYA) == Created(created)

    async def test_a_conflict_with_a_new_contact_is_a_replay(
        self, creations: Creations, ledger: SqlLedger, upstream: Scripted
    ) -> None:
        await _lose(creations, upstream, MAYA)
        await _end_leases(ledger, upstream, MAYA)
        made = created_upstream(MAYA)
        upstream.answers.append(conflict(made))

        assert await _create(creations, upstream, MAYA) == Created(made, replayed=True)
        assert await _create(creations, upstream, MAYA) == Created(made, replayed=True)
        assert upstream.creations == 2

    async def test_a_conflict_with_an_older_contact_ends_the_attempt(
        self, creations: Creations, ledger: SqlLedger, upstream: Scripted
    ) -> None:
        upstream.ahead = timedelta(0)
        await _lose(creations, upstream, MAYA)
        await _end_leases(ledger, upstream, MAYA)
        older = created_upstream(MAYA, datetime.now(UTC) - HOUR)
        upstream.answers += [conflict(older), NOT_FOUND]

        assert await _create(creations, upstream, MAYA) == conflict(older)
        assert await _create(creations, upstream, NOOR) == NOT_FOUND

    async def test_a_conflict_without_a_contact_leaves_the_outcome_unknown(
        self, creations: Creations, ledger: SqlLedger, upstream: Scripted
    ) -> None:
        await _lose(creations, upstream, MAYA)
        await _end_leases(ledger, upstream, MAYA)
        upstream.answers.append(conflict(None))
        unknown = await _create(creations, upstream, MAYA)
        upstream.found = [created_upstream(MAYA)]

        assert isinstance(unknown, OutcomeUnknown)
        assert await _create(creations, upstream, MAYA) == Created(upstream.found[0], replayed=True)

    async def test_a_refused_repeat_does_not_end_the_attempt(
        self, creations: Creations, ledger: SqlLedger, upstream: Scripted
    ) -> None:
        await _lose(creations, upstream, MAYA)
        await _end_leases(ledger, upstream, MAYA)
        upstream.answers.append(RateLimited(1))
        refused = await _create(creations, upstream, MAYA)
        upstream.found = [created_upstream(MAYA)]

        assert refused == RateLimited(1)
        assert await _create(creations, upstream, MAYA) == Created(upstream.found[0], replayed=True)
        assert upstream.creations == 2

    async def test_a_contact_without_an_id_is_still_not_sent_again(
        self, creations: Creations, ledger: SqlLedger, upstream: Scripted
    ) -> None:
        upstream.answers.append(Unnamed())
        await _create(creations, upstream, MAYA)
        await _end_leases(ledger, upstream, MAYA)

        assert isinstance(await _create(creations, upstream, MAYA), OutcomeUnknown)
        assert upstream.creations == 1

    async def test_the_address_is_not_looked_up_first(
        self, creations: Creations, upstream: Scripted
    ) -> None:
        upstream.answers.append(Created(created_upstream(MAYA)))
        await creations.create_unkeyed(upstream, MAYA)

        assert not upstream.has_looked_up.is_set()


async def test_a_refused_duplicate_is_remembered(
    creations: Creations, ledger: SqlLedger, upstream: Scripted
) -> None:
    upstream.answers.append(conflict(created_upstream(NOOR)))
    await creations.create_unkeyed(upstream, NOOR)
    await _lose(creations, upstream, MAYA)
    await _end_leases(ledger, upstream, MAYA)
    upstream.answers.append(NOT_FOUND)

    assert await _create(creations, upstream, MAYA) == NOT_FOUND
    assert upstream.creations == 3


async def test_the_operator_overrules_what_is_remembered(
    ledger: SqlLedger, upstream: Scripted
) -> None:
    creations = creating(ledger, Known.NO)
    upstream.answers.append(conflict(created_upstream(NOOR)))
    await creations.create_unkeyed(upstream, NOOR)
    await _lose(creations, upstream, MAYA)
    await _end_leases(ledger, upstream, MAYA)

    assert isinstance(await _create(creations, upstream, MAYA), OutcomeUnknown)
    assert upstream.creations == 2


class TestACreationWithoutAnId:
    async def test_is_named_by_a_list(self, creations: Creations, upstream: Scripted) -> None:
        made = created_upstream(MAYA)

        def unnamed() -> Unnamed:
            upstream.found = [made]
            return Unnamed()

        upstream.answers.append(unnamed)

        assert await _create(creations, upstream, MAYA) == Created(made)

    async def test_is_unknown_where_no_list_shows_it(
        self, creations: Creations, upstream: Scripted
    ) -> None:
        upstream.answers.append(Unnamed())
        first = await _create(creations, upstream, MAYA)
        second = await _create(creations, upstream, MAYA)

        assert isinstance(first, OutcomeUnknown)
        assert first.message == policy.UNNAMED
        assert isinstance(second, OutcomeUnknown)
        assert second.message == policy.UNNAMED
        assert upstream.creations == 1


async def test_a_success_with_an_older_contact_is_a_conflict(
    creations: Creations, upstream: Scripted
) -> None:
    upstream.ahead = timedelta(0)
    older = created_upstream(MAYA, datetime.now(UTC) - HOUR)
    upstream.answers = [Created(older), Created(older)]

    assert await creations.create_unkeyed(upstream, MAYA) == conflict(older)
    assert await _create(creations, upstream, MAYA) == conflict(older)


async def test_nothing_is_sent_where_the_address_is_taken(
    creations: Creations, upstream: Scripted
) -> None:
    upstream.found = [created_upstream(MAYA, datetime.now(UTC) - HOUR)]

    assert await creations.create_unkeyed(upstream, MAYA) == conflict(upstream.found[0])
    assert await _create(creations, upstream, MAYA) == conflict(upstream.found[0])
    assert upstream.creations == 0


async def test_nothing_is_sent_where_the_ledger_was_too_slow(
    creations: Creations, upstream: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contact_gateway.upstream.creations._MAX_LEDGER_DELAY", timedelta(0))

    with pytest.raises(SourceUnavailable):
        await _create(creations, upstream, MAYA)
    assert upstream.creations == 0


async def test_the_time_until_the_next_look_is_counted_from_the_end_of_a_slow_record(
    creations: Creations,
    ledger: SqlLedger,
    upstream: Scripted,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = datetime.now(UTC)
    put = ledger.put

    async def put_slowly(key: bytes, holder: str, attempt: Attempt | None) -> bool:
        nonlocal now
        now += timedelta(seconds=5)
        return await put(key, holder, attempt)

    monkeypatch.setattr("contact_gateway.upstream.creations._now", lambda: now)
    monkeypatch.setattr(ledger, "put", put_slowly)
    lost = await _lose(creations, upstream, MAYA)

    assert lost.retry_after_seconds == 57


async def test_an_answer_that_the_ledger_could_not_take_is_written_before_the_next_lookup(
    creations: Creations,
    ledger: SqlLedger,
    upstream: Scripted,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    created = created_upstream(MAYA)
    upstream.answers.append(Created(created))
    with monkeypatch.context() as context:
        context.setattr(ledger, "put", _unavailable)
        assert await _create(creations, upstream, MAYA) == Created(created)

    assert await _create(creations, upstream, MAYA) == Created(created, replayed=True)
    assert upstream.creations == 1


@pytest.mark.parametrize("stops", [False, True], ids=["later", "at the stop"])
async def test_an_answer_that_the_ledger_could_not_take_is_written_for_other_workers(
    ledger: SqlLedger, upstream: Scripted, monkeypatch: pytest.MonkeyPatch, *, stops: bool
) -> None:
    if not stops:
        monkeypatch.setattr("contact_gateway.upstream.creations._RECORD_AGAIN_SECONDS", 0.0)
    first = creating(ledger)
    created = created_upstream(MAYA)
    upstream.answers.append(Created(created))
    with monkeypatch.context() as context:
        context.setattr(ledger, "put", _unavailable)
        await _create(first, upstream, MAYA)
        await asyncio.sleep(0)
    if stops:
        await first.close()

    assert await _create(creating(ledger), upstream, MAYA) == Created(created, replayed=True)


async def test_an_entry_that_the_ledger_refuses_does_not_hold_up_the_others(
    ledger: SqlLedger, upstream: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, put = creating(ledger), ledger.put
    created = created_upstream(NOOR)
    upstream.answers += [Created(created_upstream(MAYA)), Created(created)]
    refused = keyed(upstream, MAYA, "refused").ledger_key

    async def refuse_one(key: bytes, holder: str, attempt: Attempt | None) -> bool:
        if key == refused:
            raise ValueError
        return await put(key, holder, attempt)

    with monkeypatch.context() as context:
        context.setattr(ledger, "put", _unavailable)
        await _create(first, upstream, MAYA, "refused")
        await _create(first, upstream, NOOR)
    monkeypatch.setattr(ledger, "put", refuse_one)
    await first.close()

    assert await _create(creating(ledger), upstream, NOOR) == Created(created, replayed=True)


async def _unavailable(*_: object) -> bool:
    raise SourceUnavailable("the ledger does not respond")


async def test_another_credential_does_not_share_the_outcome_of_a_call_in_flight(
    creations: Creations, upstream: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forged token names the same person, and HiEnergy has not refused it yet."""
    monkeypatch.setattr(Credential, "scope", lambda _: "maya")
    upstream.may_answer.clear()
    upstream.answers.append(Created(created_upstream(MAYA)))
    honest = asyncio.create_task(_create(creations, upstream, MAYA))
    await upstream.has_sent.wait()
    forger = Scripted("forged")
    forger.may_find.clear()
    forged = asyncio.create_task(_create(creations, forger, MAYA))
    upstream.may_answer.set()
    await honest
    await forger.has_looked_up.wait()

    assert not forged.done()
    forger.may_find.set()
    await forged


async def test_a_conflict_has_no_contact_where_no_list_shows_it(
    ledger: SqlLedger, upstream: Scripted
) -> None:
    upstream.answers.append(conflict(None))

    assert await creating(ledger, Known.YES).create_unkeyed(upstream, MAYA) == conflict(None)


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
    await stopped_clock.advance(600)
    waited = await creation
    upstream.may_answer.set()
    await creations.close()
    upstream.found = [created]

    assert isinstance(waited, OutcomeUnknown)
    assert waited.message == policy.STILL_IN_FLIGHT
    assert await _create(creations, upstream, MAYA) == Created(created, replayed=True)
    assert upstream.creations == 1


class TestAContactThatAppearsDuringACall:
    """It may be of another caller, and the answer to the call decides which contact the key has."""

    async def test_is_not_acknowledged_by_another_process(
        self, creations: Creations, ledger: SqlLedger, upstream: Scripted
    ) -> None:
        upstream.may_answer.clear()
        ours = created_upstream(MAYA)._replace(id=2)
        upstream.answers.append(Created(ours))
        first = asyncio.create_task(_create(creations, upstream, MAYA))
        await upstream.has_sent.wait()
        other_process = Scripted()
        other_process.found = [created_upstream(MAYA)]
        second = asyncio.create_task(_create(creating(ledger), other_process, MAYA))
        await other_process.has_looked_up.wait()
        await asyncio.sleep(0.1)
        upstream.may_answer.set()

        assert await first == Created(ours)
        assert await second == Created(ours, replayed=True)


async def test_a_late_answer_does_not_replace_the_contact_that_a_lookup_acknowledged(
    creations: Creations, ledger: SqlLedger, upstream: Scripted
) -> None:
    upstream.may_answer.clear()
    upstream.answers.append(Created(created_upstream(MAYA)._replace(id=2)))
    late = asyncio.create_task(_create(creations, upstream, MAYA))
    await upstream.has_sent.wait()
    await _end_leases(ledger, upstream, MAYA)
    other_process = Scripted()
    other_process.found = [created_upstream(MAYA)]
    acknowledged = await _create(creating(ledger), other_process, MAYA)
    upstream.may_answer.set()
    upstream.found = other_process.found
    await late

    assert acknowledged == Created(other_process.found[0], replayed=True)
    assert await _create(creations, upstream, MAYA) == acknowledged


async def test_a_late_failure_does_not_delete_the_contact_that_a_lookup_acknowledged(
    creations: Creations, ledger: SqlLedger, upstream: Scripted
) -> None:
    upstream.may_answer.clear()
    upstream.answers.append(UpstreamUnavailable("down", Delivery.REFUSED))
    late = asyncio.create_task(_create(creations, upstream, MAYA))
    await upstream.has_sent.wait()
    await _end_leases(ledger, upstream, MAYA)
    other_process = Scripted()
    other_process.found = [created_upstream(MAYA)]
    acknowledged = await _create(creating(ledger), other_process, MAYA)
    upstream.may_answer.set()
    with pytest.raises(SourceUnavailable):
        await late

    assert await _create(creations, upstream, MAYA) == acknowledged
    assert upstream.creations == 1


async def test_a_claim_that_was_written_although_the_ledger_failed_does_not_block_the_key(
    creations: Creations,
    ledger: SqlLedger,
    upstream: Scripted,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    claim = ledger.claim

    async def claim_and_fail(key: bytes, wanted: Attempt) -> Attempt:
        await claim(key, wanted)
        raise SourceUnavailable("the ledger fails after the write")

    created = created_upstream(MAYA)
    upstream.answers.append(Created(created))
    with monkeypatch.context() as context:
        context.setattr(ledger, "claim", claim_and_fail)
        with pytest.raises(SourceUnavailable):
            await _create(creations, upstream, MAYA)

    assert await asyncio.wait_for(_create(creations, upstream, MAYA), 10) == Created(created)


async def test_claims_that_the_ledger_refuses_take_bounded_memory(
    ledger: SqlLedger, upstream: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads work and writes fail while the disk is full."""

    async def refuse(_key: bytes, _wanted: Attempt) -> Attempt:
        raise SourceUnavailable("the disk is full")

    monkeypatch.setattr("contact_gateway.upstream.creations._MAX_UNSENT", 3)
    monkeypatch.setattr(ledger, "claim", refuse)
    creations = creating(ledger)
    for number in range(5):
        with pytest.raises(SourceUnavailable):
            await _create(creations, upstream, MAYA, f"k{number}")

    assert len(creations._unsent) == 3  # noqa: SLF001 - memory has no other sign


async def test_a_repeat_is_not_given_a_contact_of_an_unknown_brand(
    ledger: SqlLedger, upstream: Scripted
) -> None:
    creations = creating(ledger, Known.YES)
    upstream.brand = {2001: NORTHWIND._replace(id=2001, domain=None, hienergy_id=None)}
    await _lose(creations, upstream, MAYA)
    await _end_leases(ledger, upstream, MAYA)
    upstream.found = [created_upstream(MAYA._replace(advertiser_id=1002))]
    upstream.answers.append(conflict(None))

    assert isinstance(await _create(creations, upstream, MAYA), OutcomeUnknown)


async def test_a_conflict_without_a_contact_does_not_show_that_duplicates_are_refused(
    creations: Creations, ledger: SqlLedger, upstream: Scripted
) -> None:
    """A 409 may have another reason, for example a lock."""
    upstream.answers.append(conflict(None))
    await creations.create_unkeyed(upstream, NOOR)
    await _lose(creations, upstream, MAYA)
    await _end_leases(ledger, upstream, MAYA)

    assert isinstance(await _create(creations, upstream, MAYA), OutcomeUnknown)
    assert upstream.creations == 2


async def test_a_success_is_a_creation_where_the_clock_of_hienergy_is_unknown(
    creations: Creations, upstream: Scripted
) -> None:
    """Without `Date`, a wrong clock of ours made every contact older than its call."""
    assert upstream.ahead is None
    made = created_upstream(MAYA, datetime.now(UTC) - HOUR)
    upstream.answers.append(Created(made))

    assert await _create(creations, upstream, MAYA) == Created(made)
    assert not creations.traits.has_refused_a_duplicate


@pytest.mark.parametrize("seconds", [3, 30])
async def test_a_success_with_a_contact_from_a_slower_clock_is_a_creation(
    creations: Creations, upstream: Scripted, seconds: int
) -> None:
    """`Date` may be of a proxy, with another clock than that of HiEnergy's database."""
    upstream.ahead = timedelta(0)
    made = created_upstream(MAYA, datetime.now(UTC) - timedelta(seconds=seconds))
    upstream.answers.append(Created(made))

    assert await _create(creations, upstream, MAYA) == Created(made)


async def test_a_clock_that_is_set_back_during_a_call_does_not_make_its_contact_older(
    creations: Creations, upstream: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.ahead = timedelta(0)
    made = created_upstream(MAYA)
    upstream.answers.append(Created(made))
    ahead_by_an_hour = [datetime.now(UTC) + HOUR]

    async def send(*_: object) -> CreationAnswer:
        ahead_by_an_hour.clear()
        return Created(made)

    monkeypatch.setattr(
        "contact_gateway.upstream.creations._now",
        lambda: ahead_by_an_hour[0] if ahead_by_an_hour else datetime.now(UTC),
    )
    monkeypatch.setattr(upstream, "send_creation", send)

    assert await _create(creations, upstream, MAYA) == Created(made)


async def test_a_creation_without_an_id_is_not_named_by_the_contact_of_another_key(
    creations: Creations, upstream: Scripted
) -> None:
    other = created_upstream(MAYA)
    upstream.answers.append(Created(other))
    await _create(creations, upstream, MAYA, "other")

    def unnamed() -> Unnamed:
        upstream.found = [other]
        return Unnamed()

    upstream.answers.append(unnamed)

    assert isinstance(await _create(creations, upstream, MAYA), OutcomeUnknown)


async def test_an_old_attempt_that_a_lookup_closes_is_stored_as_long_as_a_new_one(
    creations: Creations, ledger: SqlLedger, upstream: Scripted
) -> None:
    await _lose(creations, upstream, MAYA)
    key = keyed(upstream, MAYA, "k").ledger_key
    attempt = await ledger.find(key)
    assert attempt is not None
    old = datetime.now(UTC) - 2 * IDEMPOTENCY_RETENTION
    await ledger.put(key, attempt.holder, attempt._replace(sent_at=old, held_until=old))
    upstream.found = [created_upstream(MAYA)]
    await _create(creations, upstream, MAYA)
    closed = await ledger.find(key)

    assert closed is not None
    assert closed.contact == upstream.found[0]
    assert closed.held_until >= attempt.sent_at


async def test_a_repeat_has_a_whole_lease_although_the_ledger_is_slow(
    ledger: SqlLedger, upstream: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    creations = creating(ledger, Known.YES)
    await _lose(creations, upstream, MAYA)
    await _end_leases(ledger, upstream, MAYA)
    monkeypatch.setattr("contact_gateway.upstream.creations._MAX_LEDGER_DELAY", timedelta(0))

    with pytest.raises(SourceUnavailable):
        await _create(creations, upstream, MAYA)
    assert upstream.creations == 1
    found = await ledger.find(keyed(upstream, MAYA, "k").ledger_key)
    assert found is not None
    assert found.holder == ""
