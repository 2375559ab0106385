"""The ways in which one idempotency key made two contacts, or a contact was reported as a failure.

Each is a trait of HiEnergy's published documentation. Each test failed before the gateway counted
only what HiEnergy shows, and never what it does not show.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from support.faces import FACES, Answer, Face, Json
from support.gateway import Gateway
from support.hienergy import Duplicates, Fault, HiEnergy, Shown, Traits, jwt
from support.upstream import KEY, Recording, Request, gateway_and_upstream, recorded

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("engine")]

MAYA: Final[dict[str, Json]] = {"advertiser_id": 2001, "email": "maya@example.com"}


class Running(NamedTuple):
    """A gateway in front of a fake HiEnergy."""

    gateway: Gateway
    hienergy: HiEnergy


Start = Callable[[Traits], AbstractAsyncContextManager[Running]]


@pytest.fixture(params=list(FACES.values()), ids=list(FACES))
def face(request: pytest.FixtureRequest) -> Face:
    chosen: Face = request.param
    return chosen


@pytest.fixture
def start(tmp_path: Path) -> Start:
    @asynccontextmanager
    async def started(traits: Traits) -> AsyncIterator[Running]:
        hienergy = HiEnergy(traits)
        async with gateway_and_upstream(hienergy.answer, tmp_path) as (gateway, _):
            yield Running(gateway, hienergy)

    return started


async def _lose_and_repeat(running: Running, face: Face) -> tuple[Answer, Answer]:
    running.hienergy.faults.append(Fault.CLOSED_AFTER)
    first, second = [
        await face.submit(running.gateway, MAYA, KEY, idempotency_key="k") for _ in range(2)
    ]
    return first, second


@pytest.mark.parametrize(
    "traits",
    [
        pytest.param(Traits(shows_times=True), id="a new contact is unrated, so in no list"),
        pytest.param(
            Traits(shows_times=True, rates_new_contacts=True, list_lag=20), id="lists lag"
        ),
        pytest.param(
            Traits(shows_times=True, rates_new_contacts=True, has_advertiser_contacts=False),
            id="the owner is another record, and no hienergy_id is shown",
        ),
        pytest.param(Traits(rates_new_contacts=True), id="contacts show no times"),
        pytest.param(
            Traits(rates_new_contacts=True, filters_work=False, rows_without_email=True),
            id="filters are ignored",
        ),
    ],
)
async def test_a_lost_answer_and_a_repeat_make_one_contact(
    start: Start, face: Face, traits: Traits
) -> None:
    async with start(traits) as running:
        first, second = await _lose_and_repeat(running, face)

    assert first.outcome == "OUTCOME_UNKNOWN"
    assert second.outcome in {"OUTCOME_UNKNOWN", "CONTACT"}
    assert len(running.hienergy.contacts) == 1


async def test_a_repeat_finds_a_contact_that_a_list_shows(start: Start, face: Face) -> None:
    traits = Traits(shows_times=True, rates_new_contacts=True, shows_hienergy_id=True)
    async with start(traits) as running:
        first, second = await _lose_and_repeat(running, face)

    assert (first.outcome, second.outcome) == ("OUTCOME_UNKNOWN", "CONTACT")
    assert len(running.hienergy.contacts) == 1


async def test_a_renewed_token_of_one_person_makes_one_contact(start: Start, face: Face) -> None:
    async with start(Traits()) as running:
        answers = [
            await face.submit(running.gateway, MAYA, jwt("maya", n=n), idempotency_key="k")
            for n in (1, 2, 3)
        ]

    assert [answer.outcome for answer in answers] == ["CONTACT"] * 3
    assert len({str(answer.contact) for answer in answers}) == 1
    assert len(running.hienergy.contacts) == 1


async def test_a_refused_input_can_be_corrected_under_its_key(start: Start, face: Face) -> None:
    unlisted = {**MAYA, "advertiser_id": 3001}
    async with start(Traits(honours_idempotency_key=True)) as running:
        first, second = [
            await face.submit(running.gateway, contact, KEY, idempotency_key="k")
            for contact in (unlisted, MAYA)
        ]

    assert (first.outcome, second.outcome) == ("NOT_FOUND", "CONTACT")


async def test_keys_of_two_people_are_two_keys(start: Start, face: Face) -> None:
    async with start(Traits()) as running:
        answers = [
            await face.submit(
                running.gateway,
                {**MAYA, "email": f"{sub}@example.com"},
                jwt(sub),
                idempotency_key="k",
            )
            for sub in ("maya", "noor")
        ]

    assert [answer.outcome for answer in answers] == ["CONTACT", "CONTACT"]


async def test_a_forged_token_learns_nothing_of_another_persons_key(
    start: Start, face: Face
) -> None:
    async with start(Traits()) as running:
        await face.submit(running.gateway, MAYA, jwt("maya"), idempotency_key="k")
        forged = await face.submit(
            running.gateway, MAYA, jwt("maya", good=False), idempotency_key="k"
        )

    assert forged.outcome == "UNAUTHORIZED"


async def test_a_404_of_every_list_accepts_no_credential(tmp_path: Path, face: Face) -> None:
    """A route that does not exist may answer before HiEnergy checks the credential."""
    hienergy = HiEnergy()
    has_lists = True

    def answer(request: Request) -> Recording:
        if request.method == "GET" and not has_lists:
            return recorded(404, '{"error": "Not Found"}')
        return hienergy.answer(request)

    async with gateway_and_upstream(answer, tmp_path) as (gateway, _):
        await face.submit(gateway, MAYA, jwt("maya"), idempotency_key="k")
        has_lists = False
        forged = await face.submit(gateway, MAYA, jwt("maya", good=False), idempotency_key="k")

    assert forged.outcome == "SERVICE_UNAVAILABLE"


@pytest.mark.parametrize("shown", [Shown.FULL, Shown.ID_ALONE], ids=lambda shown: shown.name)
async def test_a_success_with_few_fields_is_a_contact(
    start: Start, face: Face, shown: Shown
) -> None:
    traits = Traits(creation_shows=shown, shows_owner=False, shows_blank=False)
    async with start(traits) as running:
        first, second = [
            await face.submit(running.gateway, {**MAYA, "name": "Maya"}, KEY, idempotency_key="k")
            for _ in range(2)
        ]

    assert first.outcome == "CONTACT"
    assert first.contact is not None
    assert (first.contact["email"], first.contact["name"]) == ("maya@example.com", "Maya")
    assert second == first
    assert len(running.hienergy.contacts) == 1


@pytest.mark.parametrize("shown", [Shown.EMPTY_DATA, Shown.NO_CONTENT], ids=lambda one: one.name)
@pytest.mark.parametrize("key", ["k", None], ids=["with a key", "without a key"])
async def test_a_success_without_an_id_is_unknown_and_not_sent_again(
    start: Start, face: Face, shown: Shown, key: str | None
) -> None:
    async with start(Traits(creation_shows=shown)) as running:
        first = await face.submit(running.gateway, MAYA, KEY, idempotency_key=key)
        second = await face.submit(running.gateway, MAYA, KEY, idempotency_key="k")

    assert first.outcome == "OUTCOME_UNKNOWN"
    assert first.message is not None
    assert "created the contact" in first.message
    # Without a key, a repeat is sent.
    assert ("is not sent again" in first.message) == (key is not None)
    assert ("may create a second one" in first.message) == (key is None)
    if key is not None:
        assert second.outcome == "OUTCOME_UNKNOWN"
        assert len(running.hienergy.contacts) == 1


async def test_a_dry_run_creates_nothing_where_dry_run_is_ignored(start: Start, face: Face) -> None:
    async with start(Traits()) as running:
        answer = await face.submit(running.gateway, MAYA, KEY, dry_run=True)

    assert answer.outcome == "PREVIEW"
    assert running.hienergy.contacts == []


@pytest.mark.parametrize(
    "duplicates",
    [one for one in Duplicates if one is not Duplicates.CREATED_AGAIN],
    ids=lambda one: one.name,
)
async def test_a_duplicate_is_a_conflict_in_every_shape(
    start: Start, face: Face, duplicates: Duplicates
) -> None:
    traits = Traits(
        duplicates=duplicates, shows_times=True, has_advertiser_contacts=False, list_lag=4
    )
    async with start(traits) as running:
        older = running.hienergy.now().replace(year=2025)
        running.hienergy.add("maya@example.com", created_at=older, rating=0)
        answers = [
            await face.submit(running.gateway, MAYA, KEY, idempotency_key=key)
            for key in (None, "k")
        ]

    assert [answer.outcome for answer in answers] == ["CONFLICT", "CONFLICT"]
    assert len(running.hienergy.contacts) == 1


async def test_the_existing_contact_of_a_conflict_is_shown(start: Start, face: Face) -> None:
    async with start(Traits(shows_hienergy_id=True)) as running:
        running.hienergy.add("maya@example.com", rating=1)
        answer = await face.submit(running.gateway, MAYA, KEY)

    assert answer.outcome == "CONFLICT"
    assert answer.contact is not None
    assert answer.contact["id"] == "1"
    assert running.hienergy.creations == []


async def test_a_contact_that_shows_the_day_of_its_creation_is_created(
    start: Start, face: Face
) -> None:
    """The beginning of the day was older than the call, so the new contact was a conflict."""
    async with start(Traits(shows_times=True, shows_days=True)) as running:
        answers = [
            await face.submit(running.gateway, MAYA, KEY, idempotency_key="k") for _ in range(2)
        ]

    assert [answer.outcome for answer in answers] == ["CONTACT", "CONTACT"]
    assert len(running.hienergy.contacts) == 1


@pytest.mark.parametrize("hours", [-1, 1], ids=["an hour behind", "an hour ahead"])
async def test_a_contact_without_times_is_created_although_the_clocks_differ(
    start: Start, face: Face, hours: int
) -> None:
    """Its time is that of our clock, and was compared with the clock of HiEnergy's `Date`."""
    async with start(Traits()) as running:
        running.hienergy.now = lambda: datetime.now(UTC) + timedelta(hours=hours)
        answers = [
            await face.submit(running.gateway, MAYA, KEY, idempotency_key="k") for _ in range(2)
        ]

    assert [answer.outcome for answer in answers] == ["CONTACT", "CONTACT"]
    assert len(running.hienergy.contacts) == 1
