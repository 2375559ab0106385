"""What each outcome of `createContacts` becomes in an import."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from contact_gateway.access.principals import Credential, KeyRefusal
from contact_gateway.contact_files.imported_rows import (
    ImportStoppedError,
    Outcome,
    Postponed,
    RowOutcome,
    Submitted,
)
from contact_gateway.contact_files.resolver import Resolver
from contact_gateway.contacts.admission import Submission
from contact_gateway.contacts.outcomes import (
    BatchedOutcome,
    Conflict,
    Created,
    Existing,
    Forbidden,
    IdempotencyKeyReused,
    InvalidInput,
    NotFound,
    NotTried,
    OutcomeUnknown,
    RateLimited,
    Unauthorized,
    Unavailable,
)
from contact_gateway.contacts.problems import Problem, ProblemCode
from contact_gateway.contacts.source import Access, Creation
from support.contacts import stored, submitted
from support.fake_source import FakeSource

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 1, 31, tzinfo=UTC)
CELLS = {"advertiser_id": "1001", "email": "Maya@Example.com", "name": "Maya "}
ROW = Submitted(CELLS, CELLS)
CONTACT = stored(submitted(advertiser_id=1001, email="maya@example.com", name="Maya"), NOW, id_=7)
OTHER = stored(submitted(advertiser_id=1001, email="maya@example.com", name="M."), NOW, id_=7)


class Answering(FakeSource):
    """A source that gives the same outcomes, and records what it is asked for."""

    def __init__(self, *outcomes: BatchedOutcome) -> None:
        super().__init__()
        self.outcomes = outcomes
        self.keys: list[str | None] = []

    async def create_contacts(self, creations: Sequence[Creation]) -> Sequence[BatchedOutcome]:
        self.keys += [creation.idempotency_key for creation in creations]
        return self.outcomes


async def resolved(
    source: Answering, rows: int = 1, *, uses_keys: bool = True
) -> list[RowOutcome | Postponed]:
    async def authenticate(_: Credential) -> Access | KeyRefusal:
        return source

    resolver = Resolver(
        "The source", 50, authenticate, Credential.of("x"), Submission(None), uses_keys
    )
    return list(await resolver.create([ROW] * rows))


@pytest.mark.parametrize(
    ("outcome", "row_outcome"),
    [
        (Created(CONTACT), RowOutcome(Outcome.CREATED, 7)),
        (Created(CONTACT, replayed=True), RowOutcome(Outcome.EXISTS, 7)),
        (Existing(CONTACT), RowOutcome(Outcome.EXISTS, 7)),
        (Conflict(CONTACT, "Taken."), RowOutcome(Outcome.EXISTS, 7)),
        (Conflict(OTHER, "Taken."), RowOutcome(Outcome.CONFLICT, 7, "Taken.")),
        (Conflict(None, "Taken."), RowOutcome(Outcome.CONFLICT, message="Taken.")),
        (
            InvalidInput((Problem(("contact", "phone"), ProblemCode.REFUSED, "No."),)),
            RowOutcome(Outcome.INVALID, None, "Correct `phone`.", {"phone": "No."}),
        ),
        (
            NotFound("No advertiser."),
            RowOutcome(
                Outcome.NOT_FOUND, None, "No advertiser.", {"advertiser_id": "No advertiser."}
            ),
        ),
        (
            OutcomeUnknown("Lost.", 60, 1001, NOW),
            RowOutcome(Outcome.UNKNOWN, message="Lost."),
        ),
        (
            IdempotencyKeyReused("Used before."),
            RowOutcome(Outcome.REFUSED, message="Used before."),
        ),
        (RateLimited(30), Postponed(30)),
        (Unavailable("Down.", 9), Postponed(9, "Down.")),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, RowOutcome | Postponed) else "",
)
async def test_each_outcome_is_one_of_the_row(
    outcome: BatchedOutcome, row_outcome: RowOutcome | Postponed
) -> None:
    assert await resolved(Answering(outcome)) == [row_outcome]


async def test_the_rows_after_an_expired_key_stay_open() -> None:
    source = Answering(
        Created(CONTACT), Unauthorized(KeyRefusal.REFUSED, "Expired."), NotTried("Not tried.")
    )

    assert await resolved(source, rows=3) == [
        RowOutcome(Outcome.CREATED, 7),
        Postponed(0, "Expired."),
        Postponed(0, "Not tried."),
    ]


async def test_rows_that_were_not_tried_are_sent_again() -> None:
    source = Answering(Unavailable("Down.", 9), NotTried("Not tried."))

    assert await resolved(source, rows=2) == [Postponed(9, "Down."), Postponed(0, "Not tried.")]


@pytest.mark.parametrize(
    "refusal", [Unauthorized(KeyRefusal.REFUSED), Forbidden("Admins only.")], ids=["401", "403"]
)
async def test_a_refused_key_stops_the_import(refusal: Unauthorized | Forbidden) -> None:
    with pytest.raises(ImportStoppedError):
        await resolved(Answering(refusal))


@pytest.mark.parametrize("uses_keys", [True, False], ids=["keys", "no-keys"])
async def test_rows_have_keys_where_the_caller_has_one(*, uses_keys: bool) -> None:
    source = Answering(Created(CONTACT))

    await resolved(source, uses_keys=uses_keys)

    assert source.keys == [ROW.idempotency_key() if uses_keys else None]


async def test_a_contact_with_another_value_is_not_the_row() -> None:
    conflict = Conflict(CONTACT._replace(phone="+46 8"), "Taken.")

    (outcome,) = await resolved(Answering(conflict))

    assert isinstance(outcome, RowOutcome)
    assert outcome.outcome is Outcome.CONFLICT
