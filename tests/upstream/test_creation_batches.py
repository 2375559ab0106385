"""Batches in front of HiEnergy: bounded, in order, and stopped where the rest would fail too."""

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from anyio.lowlevel import checkpoint

from contact_gateway.access.quota import Quota
from contact_gateway.contacts.outcomes import (
    CreateContactOutcome,
    Created,
    Forbidden,
    NotTried,
    RateLimited,
    Unavailable,
)
from contact_gateway.contacts.source import Creation, SourceUnavailable
from contact_gateway.upstream.batches import MAX_CONCURRENT_CREATIONS, CreationBatch
from contact_gateway.upstream.operations import UpstreamPrincipal
from support.contacts import stored, submitted
from support.faces import BATCH_FACES, BatchFace, Json
from support.gateway import Gateway
from support.hienergy import MEMBER_KEY, Duplicates, Fault, HiEnergy, Traits
from support.upstream import KEY, gateway_and_upstream

pytestmark = pytest.mark.anyio

MANY: Final = 4 * MAX_CONCURRENT_CREATIONS
IN_TIME: Final = 3600.0
NOW: Final = datetime(2026, 1, 31, 12, tzinfo=UTC)


def _creations(*names: str) -> list[Creation]:
    return [
        Creation(submitted(advertiser_id=1001, email=f"{name}@example.com"), None, dry_run=False)
        for name in names
    ]


MANY_CREATIONS: Final = _creations(*map(str, range(MANY)))


def _created(creation: Creation) -> Created:
    return Created(stored(creation.contact, NOW))


class Calls:
    """Carries out creations, and remembers which, and how many at once."""

    def __init__(self, **answers: CreateContactOutcome | Exception) -> None:
        self.made: Final[list[str]] = []
        self.most_in_flight = 0
        self._answers: Final = answers
        self._in_flight = 0

    async def create(self, creation: Creation) -> CreateContactOutcome:
        """Return the answer for the local part of the address, else that it is created."""
        name = creation.contact.email.partition("@")[0]
        self.made.append(name)
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        await checkpoint()
        self._in_flight -= 1
        answer = self._answers.get(name)
        if isinstance(answer, Exception):
            raise answer
        return answer or _created(creation)


def _batch(
    calls: Calls, principal: UpstreamPrincipal | None = None, timeout: float = IN_TIME
) -> CreationBatch:
    return CreationBatch(calls.create, principal or UpstreamPrincipal(), timeout)


async def test_some_creations_are_in_flight_at_once_and_the_first_is_alone() -> None:
    calls = Calls()
    outcomes = await _batch(calls).run(MANY_CREATIONS)

    assert outcomes == [_created(creation) for creation in MANY_CREATIONS]
    assert calls.most_in_flight == MAX_CONCURRENT_CREATIONS
    assert calls.made == [str(number) for number in range(MANY)]


async def test_nothing_is_sent_after_the_first_creation_is_refused() -> None:
    refused = Forbidden("Admins only.")
    calls = Calls(a=refused)
    first, *others = await _batch(calls).run(_creations("a", "b", "c"))

    assert first == refused
    assert [type(other) for other in others] == [NotTried, NotTried]
    assert calls.made == ["a"]


async def test_an_outage_of_the_first_creation_is_that_of_all() -> None:
    calls = Calls(a=SourceUnavailable("tried"))
    with pytest.raises(SourceUnavailable):
        await _batch(calls).run(_creations("a", "b"))

    assert calls.made == ["a"]


async def test_a_later_outage_stops_the_batch() -> None:
    calls = Calls(**{"3": SourceUnavailable("tried", 7)})
    outcomes = await _batch(calls).run(MANY_CREATIONS)

    kinds = Counter(type(outcome) for outcome in outcomes)
    assert isinstance(outcomes[3], Unavailable)
    assert outcomes[3].retry_after_seconds == 7
    assert kinds[Unavailable] == 1
    assert kinds[NotTried] == MANY - len(calls.made)
    assert len(calls.made) <= 3 + 2 * MAX_CONCURRENT_CREATIONS


async def test_a_used_up_hour_stops_the_batch_without_a_call() -> None:
    principal = UpstreamPrincipal(reported_quota=Quota(1000, 0, time.time() + 60))
    calls = Calls()
    first, *others = await _batch(calls, principal).run(_creations("a", "b", "c"))

    assert isinstance(first, Created)
    assert all(isinstance(other, RateLimited) for other in others)
    assert calls.made == ["a"]


async def test_a_new_hour_is_not_used_up() -> None:
    principal = UpstreamPrincipal(reported_quota=Quota(1000, 0, time.time() - 1))
    outcomes = await _batch(Calls(), principal).run(_creations("a", "b"))

    assert [type(outcome) for outcome in outcomes] == [Created, Created]


async def test_a_batch_that_takes_too_long_is_stopped() -> None:
    first, second = await _batch(Calls(), timeout=0).run(_creations("a", "b"))

    assert isinstance(first, Created)
    assert isinstance(second, NotTried)


@pytest.mark.parametrize(
    "same",
    [
        pytest.param([("x", None), ("X", None)], id="one address"),
        pytest.param([("x", "k"), ("y", "k")], id="one idempotency key"),
    ],
)
async def test_what_depends_on_an_earlier_submission_waits_for_it(
    same: list[tuple[str, str | None]],
) -> None:
    """The two are never in flight together, and others are."""
    in_flight: set[str] = set()
    met: set[frozenset[str]] = set()
    creations = _creations("first", "other", *(name for name, _ in same))
    for index, (_, key) in enumerate(same, start=2):
        creations[index] = creations[index]._replace(idempotency_key=key)

    async def create(creation: Creation) -> CreateContactOutcome:
        email = creation.contact.email
        in_flight.add(email)
        await checkpoint()
        met.add(frozenset(in_flight))
        in_flight.discard(email)
        return _created(creation)

    await CreationBatch(create, UpstreamPrincipal(), IN_TIME).run(creations)

    dependent = {creations[2].contact.email, creations[3].contact.email}
    assert not any(dependent <= together for together in met)
    assert any({"other@example.com", creations[2].contact.email} <= together for together in met)


async def test_a_fault_is_raised() -> None:
    with pytest.raises(ExceptionGroup):
        await _batch(Calls(b=RuntimeError("a fault"))).run(_creations("a", "b"))


class Running(NamedTuple):
    """A gateway in front of a fake HiEnergy."""

    gateway: Gateway
    hienergy: HiEnergy


Start = Callable[[Traits], AbstractAsyncContextManager[Running]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """HiEnergy is known to refuse duplicates, so a creation is one call."""

    @asynccontextmanager
    async def started(traits: Traits) -> AsyncIterator[Running]:
        hienergy = HiEnergy(traits)
        known: dict[str, Json] = {"upstream_refuses_duplicates": "yes"}
        async with gateway_and_upstream(hienergy.answer, tmp_path, **known) as (gateway, upstream):
            hienergy.upstream = upstream
            yield Running(gateway, hienergy)

    return started


@pytest.fixture(params=list(BATCH_FACES.values()), ids=list(BATCH_FACES))
def face(request: pytest.FixtureRequest) -> BatchFace:
    chosen: BatchFace = request.param
    return chosen


REFUSES: Final = Traits(duplicates=Duplicates.CONFLICT_WITH_CONTACT)


def _contacts(*names: str) -> list[dict[str, Json]]:
    return [
        {"advertiser_id": 2001, "email": f"{name}@example.com", "idempotency_key": f"key-{name}"}
        for name in names
    ]


async def test_every_contact_is_created_once_and_its_repeat_is_a_replay(
    start: Start, face: BatchFace
) -> None:
    names = [f"c{number}" for number in range(25)]
    async with start(REFUSES) as (gateway, hienergy):
        first = await face.submit(gateway, _contacts(*names, "c3"), KEY)
        again = await face.submit(gateway, _contacts(*names), KEY)

    assert [answer.outcome for answer in first.answers] == ["CONTACT"] * 26
    assert [answer.is_replay for answer in first.answers] == [*[False] * 25, True]
    assert all(answer.is_replay for answer in again.answers)
    assert len(hienergy.contacts) == 25


@pytest.mark.parametrize(("key", "outcome"), [("wrong", "UNAUTHORIZED"), (MEMBER_KEY, "FORBIDDEN")])
async def test_a_refused_key_refuses_the_whole_batch_after_one_call(
    start: Start, face: BatchFace, key: str, outcome: str
) -> None:
    async with start(REFUSES) as (gateway, hienergy):
        batch = await face.submit(gateway, _contacts("a", "b", "c"), key)

    assert batch.refusal is not None
    assert batch.refusal.outcome == outcome
    assert len(hienergy.requests) == 1


async def test_a_lost_answer_is_unknown_and_the_others_are_created(
    start: Start, face: BatchFace
) -> None:
    names = [f"c{number}" for number in range(5)]
    async with start(REFUSES) as (gateway, hienergy):
        hienergy.faults.extend([Fault.CLOSED_AFTER])
        first = await face.submit(gateway, _contacts(*names), KEY)
        again = await face.submit(gateway, _contacts(*names), KEY)

    outcomes = [answer.outcome for answer in first.answers]
    assert outcomes == ["OUTCOME_UNKNOWN", *["CONTACT"] * 4]
    assert len(hienergy.contacts) == 5
    assert {answer.outcome for answer in again.answers} <= {"CONTACT", "OUTCOME_UNKNOWN"}


async def test_a_maintenance_stops_the_batch_and_its_repeat_creates_the_rest(
    start: Start, face: BatchFace
) -> None:
    names = [f"c{number}" for number in range(MANY)]
    async with start(REFUSES) as (gateway, hienergy):
        hienergy.faults.extend([Fault.NONE, Fault.NONE, *[Fault.REFUSED_BEFORE] * MANY])
        first = await face.submit(gateway, _contacts(*names), KEY)
        hienergy.faults.clear()
        outcomes = Counter(answer.outcome for answer in first.answers)

    assert outcomes["CONTACT"] == len(hienergy.contacts) == 2
    assert 1 <= outcomes["SERVICE_UNAVAILABLE"] <= MAX_CONCURRENT_CREATIONS
    assert outcomes["NOT_TRIED"] == MANY - 2 - outcomes["SERVICE_UNAVAILABLE"]


async def test_what_the_hour_does_not_allow_is_rate_limited(start: Start, face: BatchFace) -> None:
    names = [f"c{number}" for number in range(MANY)]
    traits = Traits(duplicates=Duplicates.CONFLICT_WITH_CONTACT, calls_per_hour=12)
    async with start(traits) as (gateway, hienergy):
        batch = await face.submit(gateway, _contacts(*names), KEY)

    outcomes = Counter(answer.outcome for answer in batch.answers)
    assert outcomes == {"CONTACT": 12, "RATE_LIMITED": MANY - 12}
    assert len(hienergy.requests) <= 12 + MAX_CONCURRENT_CREATIONS
    assert all(
        0 < (answer.retry_after_seconds or 0) <= 3600
        for answer in batch.answers
        if answer.outcome == "RATE_LIMITED"
    )


async def test_an_unreachable_hienergy_refuses_the_whole_batch(start: Start) -> None:
    async with start(REFUSES) as (gateway, hienergy):
        hienergy.faults.append(Fault.REFUSED_BEFORE)
        response = await gateway.post_json(
            "/api/v1/contacts/batch", {"contacts": _contacts("a", "b")}, {"X-Api-Key": KEY}
        )

    assert response.status_code == 503
    assert hienergy.contacts == []
    assert len(hienergy.requests) == 1
