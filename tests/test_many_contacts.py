"""Batches: many submissions at once, each with its own outcome, the same on all faces."""

from itertools import count
from pathlib import Path
from typing import Final

import pytest

from contact_gateway.store import contacts, source
from contact_gateway.store.connection_threads import LostRaceError
from support.faces import BATCH_FACES, FACES, BatchFace, Face, Json
from support.gateway import Gateway, credentials, running_gateway

pytestmark = pytest.mark.anyio


@pytest.fixture(params=list(BATCH_FACES.values()), ids=list(BATCH_FACES))
def face(request: pytest.FixtureRequest) -> BatchFace:
    chosen: BatchFace = request.param
    return chosen


def _contact(name: str, advertiser_id: int = 1001, **others: Json) -> dict[str, Json]:
    return {"advertiser_id": advertiser_id, "email": f"{name}@example.com", **others}


MIXED: Final = (
    _contact("first"),
    _contact("second", advertiser_id=3001),
    {"advertiser_id": "x", "email": "no address"},
    _contact("FIRST", advertiser_id=2002),
    _contact("third", advertiser_id=2002),
)
UNUSABLE_KEY: Final = ("Idempotency-Key", "INVALID_IDEMPOTENCY_KEY")


async def test_each_submission_has_its_own_outcome_in_order(
    gateway: Gateway, face: BatchFace
) -> None:
    batch = await face.submit(gateway, [*MIXED], gateway.admin)

    assert [answer.outcome for answer in batch.answers] == [
        "CONTACT",
        "NOT_FOUND",
        "INVALID_INPUT",
        "CONFLICT",
        "CONTACT",
    ]
    assert batch.counts == {"created": 2, "existed": 0, "refused": 3}
    assert batch.answers[3].contact == batch.answers[0].contact
    assert batch.answers[2].problems == {
        ("contacts.2.advertiser_id", "INVALID_TYPE"),
        ("contacts.2.email", "INVALID_EMAIL"),
    }
    assert await gateway.contact_rows() == 2


async def test_contacts_have_ids_in_the_order_of_their_submissions(
    gateway: Gateway, face: BatchFace
) -> None:
    names = [f"c{number}" for number in range(40, 0, -1)]
    batch = await face.submit(gateway, [_contact(name) for name in names], gateway.admin)

    contacts = [answer.contact or {} for answer in batch.answers]
    assert [each["email"] for each in contacts] == [f"{name}@example.com" for name in names]
    ids = [int(each["id"]) for each in contacts]
    assert ids == sorted(ids)


async def test_a_batch_of_none_has_no_outcomes(gateway: Gateway, face: BatchFace) -> None:
    batch = await face.submit(gateway, [], gateway.admin)

    assert (batch.refusal, batch.answers) == (None, [])
    assert batch.counts == {"created": 0, "existed": 0, "refused": 0}


async def test_a_batch_of_none_counts_as_one_operation(tmp_path: Path, face: BatchFace) -> None:
    async with running_gateway(tmp_path, rate_limit_per_hour=2) as gateway:
        sizes = (0, 1, 1, 0)
        batches = [
            await face.submit(gateway, [_contact(f"c{number}")] * size, gateway.admin)
            for number, size in enumerate(sizes)
        ]

    outcomes = [[answer.outcome for answer in batch.answers] for batch in batches]
    assert outcomes == [[], ["CONTACT"], ["RATE_LIMITED"], []]


async def test_a_repeated_batch_replays_what_has_keys_and_refuses_the_rest(
    gateway: Gateway, face: BatchFace
) -> None:
    contacts = [_contact("a", idempotency_key="a"), _contact("b")]
    first = await face.submit(gateway, contacts, gateway.admin)
    second = await face.submit(gateway, contacts, gateway.admin)

    assert [answer.is_replay for answer in first.answers] == [False, False]
    assert [(answer.outcome, answer.is_replay) for answer in second.answers] == [
        ("CONTACT", True),
        ("CONFLICT", False),
    ]
    assert second.answers[0].contact == first.answers[0].contact
    assert await gateway.contact_rows() == 2


@pytest.mark.parametrize("single", FACES.values(), ids=[f"single by {name}" for name in FACES])
async def test_a_key_is_the_same_in_a_batch_and_alone(
    gateway: Gateway, face: BatchFace, single: Face
) -> None:
    alone = await single.submit(gateway, _contact("a"), gateway.admin, idempotency_key="k")
    batch = await face.submit(gateway, [_contact("a", idempotency_key="k")], gateway.admin)

    assert batch.answers[0].is_replay
    assert batch.answers[0].contact == alone.contact


async def test_one_key_twice_in_a_batch_creates_one_contact(
    gateway: Gateway, face: BatchFace
) -> None:
    same, other = _contact("a", idempotency_key="k"), _contact("b", idempotency_key="k")
    batch = await face.submit(gateway, [same, same, other], gateway.admin)

    assert [(answer.outcome, answer.is_replay) for answer in batch.answers] == [
        ("CONTACT", False),
        ("CONTACT", True),
        ("IDEMPOTENCY_KEY_REUSED", False),
    ]
    assert await gateway.contact_rows() == 1


async def test_the_key_of_a_batch_makes_its_repeat_safe(gateway: Gateway, face: BatchFace) -> None:
    contacts = [_contact("a"), _contact("b", idempotency_key="own")]
    first = await face.submit(gateway, contacts, gateway.admin, idempotency_key="batch")
    again = await face.submit(gateway, contacts, gateway.admin, idempotency_key="batch")
    other = await face.submit(gateway, [_contact("c")], gateway.admin, idempotency_key="batch")
    own = await face.submit(gateway, [contacts[1]], gateway.admin)

    assert [answer.is_replay for answer in again.answers] == [True, True]
    assert [answer.contact for answer in again.answers] == [
        answer.contact for answer in first.answers
    ]
    assert [answer.outcome for answer in other.answers] == ["IDEMPOTENCY_KEY_REUSED"]
    assert own.answers[0].is_replay


async def test_a_dry_run_creates_nothing(gateway: Gateway, face: BatchFace) -> None:
    batch = await face.submit(gateway, [*MIXED], gateway.admin, dry_run="true")

    assert [answer.outcome for answer in batch.answers] == [
        "PREVIEW",
        "NOT_FOUND",
        "INVALID_INPUT",
        "PREVIEW",
        "PREVIEW",
    ]
    assert batch.counts == {"created": 0, "existed": 0, "refused": 2}
    assert await gateway.contact_rows() == 0


async def test_the_existing_contact_is_returned_where_it_is_asked_for(
    gateway: Gateway, face: BatchFace
) -> None:
    first = await face.submit(gateway, [_contact("a", phone="1")], gateway.admin)
    changed, new = _contact("A", advertiser_id=2001, phone="2"), _contact("b")
    batch = await face.submit(
        gateway, [changed, new, changed], gateway.admin, on_conflict="return_existing"
    )

    assert [answer.outcome for answer in batch.answers] == ["EXISTING", "CONTACT", "EXISTING"]
    assert batch.counts == {"created": 1, "existed": 2, "refused": 0}
    assert batch.answers[0].contact == first.answers[0].contact
    assert await gateway.contact_rows() == 2


async def test_an_unusable_option_refuses_the_whole_batch(
    gateway: Gateway, face: BatchFace
) -> None:
    batch = await face.submit(gateway, [_contact("a")], gateway.admin, idempotency_key="two words")

    assert batch.refusal is not None
    assert batch.refusal.outcome == "INVALID_INPUT"
    assert batch.refusal.problems == {UNUSABLE_KEY}
    assert await gateway.contact_rows() == 0


@pytest.mark.parametrize("name", ["REST", "MCP"])
@pytest.mark.parametrize(
    ("contacts", "code"),
    [
        pytest.param(None, "REQUIRED", id="null"),
        pytest.param({}, "INVALID_TYPE", id="an object"),
        pytest.param("x", "INVALID_TYPE", id="a text"),
    ],
)
async def test_contacts_are_a_list(
    gateway: Gateway, name: str, contacts: object, code: str
) -> None:
    face = BATCH_FACES[name]
    batch = await face.submit(gateway, contacts, gateway.admin)
    with_an_option = await face.submit(gateway, contacts, gateway.admin, idempotency_key="a b")

    assert batch.refusal is not None
    assert batch.refusal.problems == {("contacts", code)}
    assert with_an_option.refusal is not None
    assert with_an_option.refusal.problems == {("contacts", code), UNUSABLE_KEY}


@pytest.mark.parametrize("name", ["REST", "MCP"])
async def test_an_entry_that_is_no_contact_is_refused_alone(gateway: Gateway, name: str) -> None:
    entries: list[Json] = [
        None,
        5,
        [],
        _contact("a", idempotency_key=5),
        _contact("b", idempotency_key=[]),
    ]
    batch = await BATCH_FACES[name].submit(gateway, [*entries, _contact("c")], gateway.admin)

    assert [answer.problems for answer in batch.answers] == [
        {("contacts.0", "REQUIRED")},
        {("contacts.1", "INVALID_TYPE")},
        {("contacts.2", "INVALID_TYPE")},
        {("contacts.3.idempotency_key", "INVALID_IDEMPOTENCY_KEY")},
        {("contacts.4.idempotency_key", "INVALID_IDEMPOTENCY_KEY")},
        frozenset(),
    ]
    assert batch.counts == {"created": 1, "existed": 0, "refused": 5}


async def test_unknown_fields_are_named_where_they_are(gateway: Gateway) -> None:
    response = await gateway.post_json(
        "/api/v1/contacts/batch",
        {
            "contacts": [_contact("a", wat=1), _contact("b", dry_run=True)],
            "extra": "k",
        },
        credentials(gateway.admin),
    )

    document = response.json()
    created, refused = document["data"]
    assert document["meta"]["ignored_fields"] == ["extra"]
    assert created["meta"] == {"ignored_fields": ["contacts.0.wat"]}
    (problem,) = refused["error"]["details"]["problems"]
    assert problem["path"] == "contacts.1.dry_run"
    assert await gateway.contact_rows() == 1


async def test_an_idempotency_key_that_would_be_ignored_is_refused(gateway: Gateway) -> None:
    """A caller who believes it to be in force repeats the batch."""

    async def problem(entry: dict[str, Json], **beside: str) -> str:
        body = {"contacts": [entry], **beside}
        headers = credentials(gateway.admin)
        document = (await gateway.post_json("/api/v1/contacts/batch", body, headers)).json()
        refused = document if "error" in document else document["data"][0]
        (problem,) = refused["error"]["details"]["problems"]
        assert "`Idempotency-Key`" in problem["message"]
        return str(problem["path"])

    assert await problem(_contact("a"), idempotency_key="k") == "Idempotency-Key"
    assert await problem(_contact("a", idempotencyKey="k")) == "contacts.0.idempotencyKey"
    assert await gateway.contact_rows() == 0


async def test_an_unknown_field_of_a_tool_refuses_the_call(gateway: Gateway) -> None:
    batch = await BATCH_FACES["MCP"].submit(gateway, [_contact("a", emial="x")], gateway.admin)

    assert batch.refusal is not None
    assert batch.refusal.problems == {("contacts.0.emial", "UNKNOWN_PARAMETER")}


async def test_submissions_beyond_the_budget_are_refused_one_by_one(
    tmp_path: Path, face: BatchFace
) -> None:
    async with running_gateway(tmp_path, rate_limit_per_hour=3) as gateway:
        contacts = [_contact(name) for name in "abcde"]
        batch = await face.submit(gateway, contacts, gateway.admin)
        nothing = await face.submit(gateway, contacts, gateway.admin)

        outcomes = [answer.outcome for answer in batch.answers]
        assert outcomes == [*["CONTACT"] * 3, *["RATE_LIMITED"] * 2]
        last = batch.answers[-1]
        assert 0 < (last.retry_after_seconds or 0) <= 3600
        assert last.headers["X-RateLimit-Remaining"] == "0"
        assert [answer.outcome for answer in nothing.answers] == ["RATE_LIMITED"] * 5
        assert await gateway.contact_rows() == 3


async def test_more_contacts_than_allowed_are_refused_as_a_whole(
    tmp_path: Path, face: BatchFace
) -> None:
    async with running_gateway(tmp_path, max_batch_size=2) as gateway:
        contacts = [_contact(name) for name in "abc"]
        batch = await face.submit(gateway, contacts, gateway.admin)
        again = await face.submit(gateway, contacts, gateway.admin, idempotency_key="a b")
        allowed = await face.submit(gateway, contacts[:2], gateway.admin)

        assert batch.refusal is not None
        assert batch.refusal.outcome == "INVALID_INPUT"
        assert batch.refusal.problems == {("contacts", "TOO_LONG")}
        assert batch.refusal.headers["X-RateLimit-Remaining"] == "9999"
        assert again.refusal is not None
        assert again.refusal.problems == {("contacts", "TOO_LONG"), UNUSABLE_KEY}
        assert allowed.counts == {"created": 2, "existed": 0, "refused": 0}
        assert await gateway.contact_rows() == 2


async def test_a_refused_batch_counts_as_one_operation(tmp_path: Path, face: BatchFace) -> None:
    async with running_gateway(tmp_path, max_batch_size=1, rate_limit_per_hour=1) as gateway:
        contacts = [_contact("a"), _contact("b")]
        refusals = [await face.submit(gateway, contacts, gateway.admin) for _ in range(2)]

    assert [each.refusal and each.refusal.outcome for each in refusals] == [
        "INVALID_INPUT",
        "RATE_LIMITED",
    ]


async def test_a_whole_refusal_reads_no_submission(gateway: Gateway, face: BatchFace) -> None:
    batch = await face.submit(gateway, [{"advertiser_id": 0, "email": ""}], gateway.member)

    assert batch.refusal is not None
    assert (batch.refusal.outcome, batch.refusal.problems) == ("FORBIDDEN", frozenset())


@pytest.mark.parametrize("name", ["on_conflict", "onConflict"])
async def test_an_existing_contact_alone_is_returned_too(gateway: Gateway, name: str) -> None:
    created = await FACES["REST"].submit(gateway, _contact("a"), gateway.admin)
    rest = await gateway.post_json(
        "/api/v1/contacts",
        {"contact": _contact("a", phone="2")},
        credentials(gateway.admin),
        params={name: "RETURN_EXISTING"},
    )
    graphql = await gateway.graphql(
        'mutation { createContact(input: {advertiserId: 2001, email: "A@example.com"}'
        "  onConflict: RETURN_EXISTING) { ... on Contact { id existed } } }",
        gateway.admin,
    )
    mcp = await gateway.mcp(
        "add_contact_for_advertiser",
        gateway.admin,
        advertiser="northwind",
        email="a@example.com",
        on_conflict="return_existing",
    )

    assert created.contact is not None
    an_id = created.contact["id"]
    assert rest.status_code == 200
    assert (rest.json()["data"]["id"], rest.json()["meta"]) == (an_id, {"existed": True})
    assert rest.headers["Location"] == f"/api/v1/contacts/{an_id}"
    assert graphql.json()["data"]["createContact"] == {"id": an_id, "existed": True}
    assert mcp.json()["result"]["structuredContent"]["meta"] == {"existed": True}
    assert await gateway.contact_rows() == 1


async def test_an_unknown_wish_for_conflicts_is_refused(gateway: Gateway) -> None:
    response = await gateway.post_json(
        "/api/v1/contacts",
        {"contact": _contact("a")},
        credentials(gateway.admin),
        params={"on_conflict": "update"},
    )

    (problem,) = response.json()["error"]["details"]["problems"]
    assert (problem["path"], problem["code"]) == ("on_conflict", "INVALID_ARGUMENTS")
    assert problem["message"] == "Use one of refuse, return_existing."
    assert await gateway.contact_rows() == 0


async def test_a_store_that_fails_in_between_says_what_is_done(
    tmp_path: Path, face: BatchFace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each transaction of this batch has two submissions, and all but the first lose their race."""
    create = contacts.create
    calls = count()

    def create_once(*arguments: Json) -> Json:
        if next(calls):
            raise LostRaceError
        return create(*arguments)

    monkeypatch.setattr(contacts, "create", create_once)
    monkeypatch.setattr(source, "MAX_CREATIONS_PER_TRANSACTION", 2)
    async with running_gateway(tmp_path) as gateway:
        batch = await face.submit(gateway, [_contact(name) for name in "abcde"], gateway.admin)
        rows = await gateway.contact_rows()

    assert [answer.outcome for answer in batch.answers] == [
        *["CONTACT"] * 2,
        *["SERVICE_UNAVAILABLE"] * 2,
        "NOT_TRIED",
    ]
    assert batch.answers[2].retry_after_seconds == 1
    assert batch.counts == {"created": 2, "existed": 0, "refused": 3}
    assert rows == 2


async def test_a_store_that_does_not_respond_refuses_the_whole_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def create_never(*_: Json) -> Json:
        raise LostRaceError

    monkeypatch.setattr(contacts, "create", create_never)
    async with running_gateway(tmp_path) as gateway:
        response = await gateway.post_json(
            "/api/v1/contacts/batch",
            {"contacts": [_contact("a"), _contact("b")]},
            credentials(gateway.admin),
        )

    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"
    assert response.json()["error"]["details"] == {"retry_after_seconds": 1}
