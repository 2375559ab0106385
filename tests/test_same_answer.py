"""The contract's table: the same submission has the same outcome and effect on all faces.

It holds on the gateway's own store, in each database system, and in front of another gateway as
upstream.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import http_sf
import pytest

from support.databases import Engine, databases_on
from support.faces import BATCH_FACES, FACES, Answer, Face, Json
from support.gateway import BIG_ID, Gateway, running_gateway
from support.proxy import FaultyProxy
from support.upstream import UpstreamGateway, upstream_gateway

pytestmark = pytest.mark.anyio

MAYA = {"advertiser_id": 1001, "email": "maya@example.com"}
EXISTING = {"advertiser_id": 1001, "email": "existing@example.com"}


@dataclass(frozen=True, slots=True)
class Case:
    """A row of the table: a submission and its expected outcome."""

    name: str
    outcome: str
    rest_status: int
    key: str | None = "admin"
    contact: Mapping[str, Json] = field(default_factory=lambda: MAYA)
    idempotency_key: str | None = None
    dry_run: bool = False
    problems: frozenset[tuple[str, str]] = frozenset()
    on_record: int | None = None
    # In front of upstream, the input is validated before upstream checks the key.
    is_validated_first: bool = False


INVALID = {"advertiser_id": "x", "email": "no address", "linkedin_profile_url": "javascript:x"}
INVALID_PROBLEMS = frozenset(
    {
        ("contact.advertiser_id", "INVALID_TYPE"),
        ("contact.email", "INVALID_EMAIL"),
        ("contact.linkedin_profile_url", "INVALID_URL"),
    }
)
UNRESOLVED = {"advertiser_id": 3001, "email": "existing@example.com"}

TABLE = (
    Case("no key", "UNAUTHORIZED", 401, key=None),
    Case("no key, and all else wrong too", "UNAUTHORIZED", 401, key=None, contact=INVALID),
    Case("a key with a typo", "UNAUTHORIZED", 401, key="malformed"),
    Case("an unknown key", "UNAUTHORIZED", 401, key="unknown"),
    Case("an expired key", "UNAUTHORIZED", 401, key="expired"),
    Case("a revoked key", "UNAUTHORIZED", 401, key="revoked"),
    Case("a member's key", "FORBIDDEN", 403, key="member"),
    Case(
        "a member's key, and all else wrong too",
        "FORBIDDEN",
        403,
        key="member",
        contact=INVALID,
        is_validated_first=True,
    ),
    Case(
        "an unknown key, and all else wrong too",
        "UNAUTHORIZED",
        401,
        key="unknown",
        contact=INVALID,
        is_validated_first=True,
    ),
    Case("every problem at once", "INVALID_INPUT", 422, contact=INVALID, problems=INVALID_PROBLEMS),
    Case(
        "an invalid idempotency key and an invalid contact",
        "INVALID_INPUT",
        422,
        contact=INVALID,
        idempotency_key="two words",
        problems=INVALID_PROBLEMS | {("Idempotency-Key", "INVALID_IDEMPOTENCY_KEY")},
    ),
    Case(
        "invalid input under a used idempotency key",
        "INVALID_INPUT",
        422,
        contact=INVALID,
        idempotency_key="used",
        problems=INVALID_PROBLEMS,
    ),
    Case(
        "a used idempotency key with another input, for no advertiser",
        "IDEMPOTENCY_KEY_REUSED",
        422,
        contact=UNRESOLVED,
        idempotency_key="used",
    ),
    Case("an unknown advertiser", "NOT_FOUND", 404, contact=MAYA | {"advertiser_id": 999}),
    Case("a network record without a HiEnergy one", "NOT_FOUND", 404, contact=UNRESOLVED),
    Case("a taken address", "CONFLICT", 409, contact=EXISTING),
    Case(
        "a taken address in another case, by a network record",
        "CONFLICT",
        409,
        contact={"advertiser_id": 2001, "email": "EXISTING@Example.COM"},
    ),
    Case("a taken address, tried dry", "CONFLICT", 409, contact=EXISTING, dry_run=True),
    Case("a replay", "CONTACT", 201, contact=EXISTING, idempotency_key="used", on_record=1001),
    Case("a HiEnergy advertiser", "CONTACT", 201, on_record=1001),
    Case(
        "a network advertiser: the contact lies on its HiEnergy record",
        "CONTACT",
        201,
        contact=MAYA | {"advertiser_id": "2002"},
        on_record=1001,
    ),
    Case(
        "ids above 2^53 survive",
        "CONTACT",
        201,
        contact=MAYA | {"advertiser_id": 2006},
        on_record=BIG_ID,
    ),
    Case(
        "an address taken on another record only",
        "CONTACT",
        201,
        contact=EXISTING | {"advertiser_id": 1002},
        on_record=1002,
    ),
    Case(
        "a replay, tried dry",
        "PREVIEW",
        200,
        contact=EXISTING,
        idempotency_key="used",
        dry_run=True,
        on_record=1001,
    ),
    Case("a dry run", "PREVIEW", 200, dry_run=True, on_record=1001),
    Case("a dry run for no advertiser", "NOT_FOUND", 404, contact=UNRESOLVED, dry_run=True),
    Case("a dry run by a member", "FORBIDDEN", 403, key="member", dry_run=True),
)


ENTRY_NAMES: Final = {"Idempotency-Key": "idempotency_key"}
"""Where an entry of a batch has what a single submission has in a header."""


def _key_of(case: Case, gateway: Gateway) -> str | None:
    keys = {"malformed": gateway.admin[:-1] + ("a" if gateway.admin[-1] != "a" else "b")}
    return None if case.key is None else keys.get(case.key) or str(getattr(gateway, case.key))


async def _submit(face: Face, gateway: Gateway, case: Case) -> Answer:
    return await face.submit(
        gateway,
        case.contact,
        _key_of(case, gateway),
        idempotency_key=case.idempotency_key,
        dry_run=case.dry_run,
    )


async def _with_an_existing_contact(gateway: Gateway) -> None:
    answer = await FACES["REST"].submit(gateway, EXISTING, gateway.admin, idempotency_key="used")
    assert answer.outcome == "CONTACT"


@pytest.fixture(params=["on SQLite", "on PostgreSQL", "in front of upstream"], scope="module")
def where(request: pytest.FixtureRequest) -> Iterator[str]:
    is_postgresql = request.param == "on PostgreSQL"
    with databases_on(Engine.POSTGRESQL if is_postgresql else Engine.SQLITE):
        yield str(request.param)


KNOWN_OF_A_GATEWAY: Final[Mapping[str, object]] = {
    "upstream_refuses_duplicates": "yes",
    "upstream_honours_dry_run": "yes",
}
"""What an operator knows of an upstream API that is a gateway."""


@pytest.fixture(scope="module")
async def gateway_of_module(
    where: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> AsyncIterator[Gateway]:
    """Return one gateway for all tests; upstream is behind a proxy."""
    folder = tmp_path_factory.mktemp("gateway")
    if where != "in front of upstream":
        async with running_gateway(folder, key_guesses_per_minute=10_000) as running:
            yield running
        return
    upstream: UpstreamGateway = request.getfixturevalue("shared_upstream")
    with FaultyProxy(upstream.url).running() as proxy:
        settings = {"upstream_url": proxy.url, **KNOWN_OF_A_GATEWAY}
        async with running_gateway(folder, upstream.store, **settings) as running:
            yield running


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
async def test_every_face_gives_the_outcome_of_the_table(
    gateway: Gateway, where: str, case: Case
) -> None:
    if where == "in front of upstream" and case.is_validated_first:
        case = replace(case, outcome="INVALID_INPUT", rest_status=422, problems=INVALID_PROBLEMS)
    answers, rows = [], []
    for name, face in FACES.items():
        await gateway.delete_contacts()
        await _with_an_existing_contact(gateway)
        answer = await _submit(face, gateway, case)
        rows.append(await gateway.contact_rows())
        answers.append(answer)
        assert answer.outcome == case.outcome
        assert answer.problems == case.problems
        assert answer.status == (case.rest_status if name == "REST" else 200)
        if answer.request_id is not None:
            assert answer.request_id == answer.headers["X-Request-Id"]
        _check_rate_limit_fields(answer.headers, None if "upstream" in where else 3600)
        if case.on_record is not None:
            assert answer.contact is not None
            assert answer.contact["advertiser_id"] == str(case.on_record)

    first, *others = (_comparable(answer) for answer in answers)
    assert others == [first] * len(others)
    creates = case.outcome == "CONTACT" and case.idempotency_key is None
    assert rows == [2 if creates else 1] * len(FACES)


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
async def test_a_batch_of_one_has_the_outcome_of_the_table(
    gateway: Gateway, where: str, case: Case
) -> None:
    """In front of upstream too, an invalid contact is refused before the key is checked."""
    if where == "in front of upstream" and case.is_validated_first:
        case = replace(case, outcome="INVALID_INPUT", rest_status=422, problems=INVALID_PROBLEMS)
    entry = dict(case.contact)
    if case.idempotency_key is not None:
        entry["idempotency_key"] = case.idempotency_key
    options = {"dry_run": "true"} if case.dry_run else {}
    problems = frozenset(
        (f"contacts.0.{ENTRY_NAMES.get(path, path.removeprefix('contact.'))}", code)
        for path, code in case.problems
    )
    for name, face in BATCH_FACES.items():
        await gateway.delete_contacts()
        await _with_an_existing_contact(gateway)
        batch = await face.submit(gateway, [entry], _key_of(case, gateway), **options)
        rows = await gateway.contact_rows()
        answer = batch.refusal or batch.answers[0]
        is_refused_as_a_whole = case.outcome in {"UNAUTHORIZED", "FORBIDDEN"}
        assert (batch.refusal is not None) is is_refused_as_a_whole
        assert answer.outcome == case.outcome
        assert answer.problems == problems
        assert answer.status == (200 if name == "GraphQL" else case.rest_status) or name == "MCP"
        if case.on_record is not None:
            assert answer.contact is not None
            assert answer.contact["advertiser_id"] == str(case.on_record)
        assert rows == (2 if case.outcome == "CONTACT" and case.idempotency_key is None else 1)


def _check_rate_limit_fields(headers: Mapping[str, str], window: int | None) -> None:
    """Check that the fields of the IETF's draft say the same as the older headers."""
    names = {"X-RateLimit-Limit", "RateLimit-Policy", "RateLimit"}
    assert {name in headers for name in names} == {"X-RateLimit-Limit" in headers}
    if "X-RateLimit-Limit" not in headers:
        return
    limit, remaining = (int(headers[f"X-RateLimit-{name}"]) for name in ("Limit", "Remaining"))
    assert _structured_item(headers["RateLimit-Policy"]) == (
        {"q": limit} if window is None else {"q": limit, "w": window}
    )
    left = _structured_item(headers["RateLimit"])
    assert left["r"] == remaining
    # A gateway as upstream reports an end also for a window that has not begun.
    assert ("t" in left) is (remaining < limit or window is None)
    # `X-RateLimit-Reset` of upstream is rounded up to whole seconds, and so is what is left of it.
    assert 0 < left.get("t", 1) <= (3601 if window is None else window)


def _structured_item(field_value: str) -> Mapping[str, Json]:
    """Return the parameters of the one item of a structured field."""
    items: Json = http_sf.parse(field_value.encode(), tltype="list")
    ((name, parameters),) = items
    assert name == "default"
    return dict(parameters)


def _comparable(answer: Answer) -> Answer:
    if answer.contact is None:
        return answer
    timeless = {
        name: value
        for name, value in answer.contact.items()
        if not name.endswith("_at") and name != "id"
    }
    return Answer(
        outcome=answer.outcome,
        contact=timeless,
        problems=answer.problems,
        retry_after_seconds=answer.retry_after_seconds,
        message=answer.message,
    )


@pytest.fixture(params=list(FACES.values()), ids=list(FACES))
def face(request: pytest.FixtureRequest) -> Face:
    chosen: Face = request.param
    return chosen


@pytest.fixture(params=list(FACES.values()), ids=[f"then {name}" for name in FACES])
def other_face(request: pytest.FixtureRequest) -> Face:
    chosen: Face = request.param
    return chosen


async def test_a_replay_by_any_face_returns_the_same_contact(
    gateway: Gateway, face: Face, other_face: Face
) -> None:
    submitted = MAYA | {"given_name": "Maya", "family_name": "Lindqvist"}
    first = await face.submit(gateway, submitted, gateway.admin, idempotency_key="k")
    again = dict(reversed(submitted.items())) | {"advertiser_id": "1001", "phone": "  "}
    second = await other_face.submit(gateway, again, gateway.admin, idempotency_key="k")

    assert first.outcome == "CONTACT"
    assert second == first
    assert await gateway.contact_rows() == 1


async def test_an_idempotency_key_in_quotes_is_the_same_key(
    gateway: Gateway, face: Face, other_face: Face
) -> None:
    quoted = await face.submit(gateway, MAYA, gateway.admin, idempotency_key=r'"k-\"1\\"')
    bare = await other_face.submit(gateway, MAYA, gateway.admin, idempotency_key='k-"1\\')

    assert quoted.outcome == "CONTACT"
    assert bare == quoted
    assert await gateway.contact_rows() == 1


@pytest.mark.parametrize(
    ("first", "same"),
    [
        pytest.param("\u017fam@example.com", "SAM@example.com", id="long s"),
        pytest.param("stra\u00dfe@example.com", "STRASSE@example.com", id="sharp s"),
        pytest.param("\ufb01@example.com", "FI@example.com", id="ligature"),
        pytest.param("jose\u0301@example.com", "JOS\u00c9@example.com", id="composed"),
        pytest.param("a@b\u00fccher.example", "A@XN--BCHER-KVA.example", id="domain in ASCII"),
        pytest.param("a@example.com", "\u200b\ta@\uff25xample.com\n", id="wide, with blanks"),
    ],
)
async def test_an_address_is_taken_however_it_is_written(
    gateway: Gateway, face: Face, other_face: Face, first: str, same: str
) -> None:
    created = await face.submit(gateway, MAYA | {"email": first}, gateway.admin)
    taken = await other_face.submit(gateway, MAYA | {"email": same}, gateway.admin)

    assert (created.outcome, taken.outcome) == ("CONTACT", "CONFLICT")
    assert taken.contact == created.contact
    assert await gateway.contact_rows() == 1


@pytest.mark.parametrize("q", ["jos\u00e9", "JOSE\u0301", "\u200bJos\u00e9\n"], ids=ascii)
@pytest.mark.parametrize("name", ["Jose\u0301 M.", "\tJOS\u00c9 M."], ids=ascii)
async def test_every_face_finds_a_name_in_each_of_its_forms(
    gateway: Gateway, face: Face, name: str, q: str
) -> None:
    created = await face.submit(gateway, MAYA | {"name": name}, gateway.admin)
    query = "query ($q: String) { contacts(q: $q) { nodes { id } } }"

    rest = (await gateway.rest("/contacts", gateway.member, q=q)).json()
    graphql = (await gateway.graphql(query, gateway.member, {"q": q})).json()
    mcp = (await gateway.mcp("search_contacts", gateway.member, q=q)).json()["result"]

    assert created.contact is not None
    assert [record["id"] for record in rest["data"]] == [created.contact["id"]]
    assert graphql["data"]["contacts"]["nodes"] == [{"id": created.contact["id"]}]
    assert mcp["structuredContent"]["data"] == rest["data"]


async def test_idempotency_keys_belong_to_their_api_key(gateway: Gateway, face: Face) -> None:
    await face.submit(gateway, MAYA, gateway.admin, idempotency_key="k")
    other = await face.submit(gateway, EXISTING, gateway.other_admin, idempotency_key="k")

    assert other.outcome == "CONTACT"
    assert await gateway.contact_rows() == 2


async def test_a_refused_submission_may_be_repeated_with_its_idempotency_key(
    gateway: Gateway, face: Face, other_face: Face
) -> None:
    refused = await face.submit(gateway, UNRESOLVED, gateway.admin, idempotency_key="k")
    corrected = await other_face.submit(gateway, EXISTING, gateway.admin, idempotency_key="k")

    assert (refused.outcome, corrected.outcome) == ("NOT_FOUND", "CONTACT")


async def test_a_dry_run_uses_up_no_idempotency_key(gateway: Gateway, face: Face) -> None:
    await face.submit(gateway, MAYA, gateway.admin, idempotency_key="k", dry_run=True)
    created = await face.submit(gateway, EXISTING, gateway.admin, idempotency_key="k")

    assert created.outcome == "CONTACT"


async def test_concurrent_callers_with_one_idempotency_key_all_get_one_contact(
    gateway: Gateway,
) -> None:
    answers = await asyncio.gather(
        *(
            face.submit(gateway, MAYA, gateway.admin, idempotency_key="k")
            for face in FACES.values()
            for _ in range(10)
        )
    )

    assert {answer.outcome for answer in answers} == {"CONTACT"}
    assert all(answer.contact == answers[0].contact for answer in answers)
    assert await gateway.contact_rows() == 1


async def test_concurrent_submissions_of_one_address_create_one_contact(gateway: Gateway) -> None:
    answers = await asyncio.gather(
        *(face.submit(gateway, MAYA, gateway.admin) for face in FACES.values() for _ in range(10))
    )

    assert Counter(answer.outcome for answer in answers) == {"CONTACT": 1, "CONFLICT": 29}
    assert await gateway.contact_rows() == 1


@pytest.fixture(scope="module")
def upstream_with_a_budget_of_one(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[UpstreamGateway]:
    folder = tmp_path_factory.mktemp("upstream")
    with upstream_gateway(folder, CONTACT_GATEWAY_RATE_LIMIT_PER_HOUR="1") as upstream:
        yield upstream


Start = Callable[[Path], AbstractAsyncContextManager[Gateway]]


@pytest.fixture
def start_with_a_budget_of_one(where: str, request: pytest.FixtureRequest) -> Start:
    if where != "in front of upstream":
        return lambda folder: running_gateway(folder, rate_limit_per_hour=1)
    upstream: UpstreamGateway = request.getfixturevalue("upstream_with_a_budget_of_one")
    return lambda folder: running_gateway(
        folder, upstream.store, upstream_url=upstream.url, **KNOWN_OF_A_GATEWAY
    )


async def test_a_spent_budget_comes_after_the_role_and_before_the_input(
    start_with_a_budget_of_one: Start, where: str, tmp_path: Path, face: Face
) -> None:
    # In front of upstream, an invalid input is refused before the budget is checked.
    wrong = UNRESOLVED if where == "in front of upstream" else INVALID
    async with start_with_a_budget_of_one(tmp_path) as gateway:
        # The upstream process serves all faces, so each face spends the budget of another key.
        keys = (gateway.admin, gateway.other_admin, gateway.third_admin)
        admin = keys[list(FACES.values()).index(face)]
        email = f"{type(face).__name__}@example.com"
        first = await face.submit(gateway, MAYA | {"email": email}, admin)
        assert first.outcome == "CONTACT"
        assert first.headers["X-RateLimit-Limit"] == "1"
        assert first.headers["X-RateLimit-Remaining"] == "0"

        refused = await face.submit(gateway, wrong, admin)
        assert refused.outcome == "RATE_LIMITED"
        assert refused.retry_after_seconds is not None
        assert 0 < refused.retry_after_seconds <= 3600
        assert refused.headers["X-RateLimit-Remaining"] == "0"
        if refused.status != 200:
            assert refused.status == 429
            assert refused.headers["Retry-After"] == str(refused.retry_after_seconds)

        for _ in range(3):
            member = await face.submit(gateway, wrong, gateway.member)
            assert member.outcome == "FORBIDDEN"
