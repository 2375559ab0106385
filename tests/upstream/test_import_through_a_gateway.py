"""What each answer of a running gateway to a batch becomes in an import."""

import json

import pytest

from contact_gateway.access.principals import Credential
from contact_gateway.contact_files.imported_rows import (
    ImportStoppedError,
    Outcome,
    Postponed,
    RowOutcome,
    Submitted,
)
from contact_gateway.contacts.fields import MAX_ID
from contact_gateway.contacts.policy import OnConflict
from contact_gateway.contacts.source import SourceUnavailable
from contact_gateway.upstream.client import UpstreamClient
from contact_gateway.upstream.through import CHUNK_SIZE, RunningGateway
from support.clock import WATCHDOG_SECONDS
from support.upstream import Recording, Request, recorded, recorded_upstream

pytestmark = pytest.mark.anyio

CELLS = {"advertiser_id": "1001", "email": "maya@example.com", "name": "Maya"}
ROW = Submitted(CELLS, CELLS)
RESOURCE = {
    "id": "7",
    "type": "contact",
    "attributes": {"advertiser_id": 1001, "email": "maya@example.com", "name": "Maya"},
}


def error(code: str, message: str = "It is so.", **details: object) -> dict[str, object]:
    return {"error": {"code": code, "message": message, "details": details}}


async def answered(
    status: int, body: object, rows: int = 1, headers: dict[str, str] | None = None
) -> list[RowOutcome | Postponed]:
    answer = recorded(status, json.dumps(body), headers=headers)
    async with (
        recorded_upstream(lambda _: answer) as upstream,
        UpstreamClient(upstream.url, timeout_seconds=WATCHDOG_SECONDS, max_connections=1) as client,
    ):
        gateway = RunningGateway(
            client, Credential.of("key"), dry_run=False, on_conflict=OnConflict.REFUSE
        )
        return list(await gateway.create([ROW] * rows))


@pytest.mark.parametrize(
    ("entry", "outcome"),
    [
        ({"data": RESOURCE, "meta": {}}, RowOutcome(Outcome.CREATED, 7)),
        ({"data": {**RESOURCE, "id": str(MAX_ID)}}, RowOutcome(Outcome.CREATED, MAX_ID)),
        ({"data": RESOURCE, "meta": {"replayed": True}}, RowOutcome(Outcome.EXISTS, 7)),
        ({"data": RESOURCE, "meta": {"existed": True}}, RowOutcome(Outcome.EXISTS, 7)),
        ({"data": RESOURCE, "meta": {"dry_run": True}}, RowOutcome(Outcome.CHECKED)),
        (error("CONFLICT", existing=RESOURCE), RowOutcome(Outcome.EXISTS, 7)),
        (
            error(
                "CONFLICT",
                existing={**RESOURCE, "attributes": {"advertiser_id": 1001, "name": "M."}},
            ),
            RowOutcome(Outcome.CONFLICT, 7, "It is so."),
        ),
        (error("CONFLICT"), RowOutcome(Outcome.CONFLICT, message="It is so.")),
        (
            error("INVALID_INPUT", problems=[{"path": "contacts.0.email", "message": "Wrong."}]),
            RowOutcome(Outcome.INVALID, None, "Correct `email`.", {"email": "Wrong."}),
        ),
        (error("INVALID_INPUT"), RowOutcome(Outcome.INVALID, message="It is so.")),
        (
            error("NOT_FOUND"),
            RowOutcome(Outcome.NOT_FOUND, None, "It is so.", {"advertiser_id": "It is so."}),
        ),
        (error("OUTCOME_UNKNOWN"), RowOutcome(Outcome.UNKNOWN, message="It is so.")),
        (error("FORBIDDEN"), RowOutcome(Outcome.REFUSED, message="It is so.")),
        (error("OF_A_LATER_VERSION"), RowOutcome(Outcome.REFUSED, message="It is so.")),
        (error("RATE_LIMITED", retry_after_seconds=9), Postponed(9)),
        (error("SERVICE_UNAVAILABLE", retry_after_seconds=2), Postponed(2, "It is so.")),
        (error("NOT_TRIED"), Postponed(1, "It is so.")),
        (error("UNAUTHORIZED"), Postponed(1, "It is so.")),
    ],
    ids=[
        *("created", "created-with-the-largest-id", "replayed", "existed", "checked"),
        *("equal", "conflict", "conflict-without-contact", "invalid", "invalid-without-problems"),
        *("not-found", "unknown", "forbidden", "later-code"),
        *("limited", "unavailable", "not-tried", "expired"),
    ],
)
async def test_each_answer_to_a_row_has_its_outcome(
    entry: dict[str, object], outcome: RowOutcome | Postponed
) -> None:
    assert await answered(200, {"data": [{"index": 0, **entry}]}) == [outcome]


async def test_a_limit_on_the_whole_batch_postpones_all_rows() -> None:
    outcomes = await answered(429, error("RATE_LIMITED"), rows=2, headers={"Retry-After": "30"})

    assert outcomes == [Postponed(30)] * 2


@pytest.mark.parametrize(("status", "code"), [(401, "UNAUTHORIZED"), (403, "FORBIDDEN")])
async def test_a_refused_key_stops_the_import(status: int, code: str) -> None:
    with pytest.raises(ImportStoppedError, match=r"It is so\."):
        await answered(status, error(code))


async def test_a_refusal_of_a_proxy_is_named_by_its_status() -> None:
    with pytest.raises(ImportStoppedError, match=r"The gateway responds with 403\."):
        await answered(403, {"message": "Forbidden"})


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_a_fault_or_an_outage_may_be_repeated(status: int) -> None:
    with pytest.raises(SourceUnavailable):
        await answered(status, error("INTERNAL_ERROR"))


@pytest.mark.parametrize("body", [{}, {"data": []}, [], "x"], ids=["empty", "none", "list", "text"])
async def test_a_success_without_the_outcomes_may_be_repeated(body: object) -> None:
    with pytest.raises(SourceUnavailable):
        await answered(200, body)


async def test_a_row_that_is_too_large_alone_is_refused() -> None:
    (outcome,) = await answered(413, error("PAYLOAD_TOO_LARGE", "The body is too large."))

    assert outcome == RowOutcome(Outcome.REFUSED, message="The body is too large.")


async def test_a_batch_that_is_too_large_is_sent_in_halves_from_then_on() -> None:
    def answer(request: Request) -> Recording:
        contacts = json.loads(request.body)["contacts"]
        if len(contacts) > 30:
            return recorded(422, json.dumps(error("INVALID_INPUT")))
        data = [{"data": RESOURCE, "meta": {}}] * len(contacts)
        return recorded(200, json.dumps({"data": data}))

    async with (
        recorded_upstream(answer) as upstream,
        UpstreamClient(upstream.url, timeout_seconds=WATCHDOG_SECONDS, max_connections=1) as client,
    ):
        gateway = RunningGateway(
            client, Credential.of("key"), dry_run=False, on_conflict=OnConflict.REFUSE
        )
        outcomes = await gateway.create([ROW] * CHUNK_SIZE)

    assert len(outcomes) == CHUNK_SIZE
    assert gateway.chunk_size == 25


@pytest.mark.parametrize(("status", "code"), [(500, "INTERNAL_ERROR"), (401, "UNAUTHORIZED")])
async def test_the_half_that_has_outcomes_keeps_them_if_the_other_has_none(
    status: int, code: str
) -> None:
    answers = iter(
        [
            recorded(413, json.dumps(error("PAYLOAD_TOO_LARGE"))),
            recorded(200, json.dumps({"data": [{"data": RESOURCE, "meta": {}}]})),
            recorded(status, json.dumps(error(code))),
        ]
    )
    async with (
        recorded_upstream(lambda _: next(answers)) as upstream,
        UpstreamClient(upstream.url, timeout_seconds=WATCHDOG_SECONDS, max_connections=1) as client,
    ):
        gateway = RunningGateway(
            client, Credential.of("key"), dry_run=False, on_conflict=OnConflict.REFUSE
        )
        created, postponed = await gateway.create([ROW] * 2)

    assert created == RowOutcome(Outcome.CREATED, 7)
    assert isinstance(postponed, Postponed)
    assert postponed.reason is not None
