"""Keys under attack: guesses are limited, a revoked key ends, and no secret is shown."""

import asyncio
import io
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from contact_gateway.access import counters
from contact_gateway.access.api_keys import mint
from support.clock import WATCHDOG_SECONDS
from support.databases import Engine
from support.faces import BATCH_FACES, FACES, BatchFace, Face, Json
from support.gateway import Gateway, credentials, running_gateway
from support.programs import redis_server
from support.upstream import Recording, Request, gateway_and_upstream, recorded

pytestmark = pytest.mark.anyio

LIMIT: Final = 3
NOON: Final = 1_750_000_000.0
MAYA: Final[dict[str, Json]] = {"advertiser_id": 2001, "email": "maya@example.com"}
VIEWER: Final = "{ viewer { role } }"
EVERY_FACE = pytest.mark.parametrize("face", FACES.values(), ids=list(FACES))


@pytest.fixture(autouse=True)
def _noon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the system clock, so that the minute of a limit does not end."""
    monkeypatch.setattr(time, "time", lambda: NOON)


@pytest.fixture
async def limited(
    tmp_path: Path,
    engine: Engine,  # noqa: ARG001 - of this engine
) -> AsyncIterator[Gateway]:
    """Run a gateway behind a trusted proxy that accepts a few wrong keys from an address."""
    async with running_gateway(
        tmp_path, key_guesses_per_minute=LIMIT, trusted_proxies="127.0.0.1"
    ) as gateway:
        yield gateway


def _from(gateway: Gateway, address: str) -> None:
    gateway.client.headers["X-Forwarded-For"] = address


@pytest.mark.parametrize("kind", ["unknown", "malformed"])
@EVERY_FACE
async def test_guesses_are_limited_by_address(limited: Gateway, face: Face, kind: str) -> None:
    _from(limited, "192.0.2.1")
    guesses = [mint().text if kind == "unknown" else f"cgw_{n}" for n in range(LIMIT + 2)]
    answers = [await face.submit(limited, MAYA, guess) for guess in guesses]

    outcomes = [answer.outcome for answer in answers]
    assert outcomes == ["UNAUTHORIZED"] * (LIMIT + 1) + ["RATE_LIMITED"]
    assert answers[-1].retry_after_seconds == 60


@EVERY_FACE
async def test_a_right_guess_after_too_many_wrong_ones_is_refused(
    limited: Gateway, face: Face
) -> None:
    _from(limited, "192.0.2.1")
    for _ in range(LIMIT + 1):
        await face.submit(limited, MAYA, mint().text)

    assert (await face.submit(limited, MAYA, limited.admin)).outcome == "RATE_LIMITED"
    assert await limited.contact_rows() == 0


@EVERY_FACE
async def test_reads_are_limited_like_creations(limited: Gateway, face: Face) -> None:
    _from(limited, "192.0.2.1")
    for _ in range(LIMIT + 1):
        await face.submit(limited, MAYA, mint().text)
    rest = await limited.rest("/contacts", limited.admin)
    graphql = await limited.graphql(VIEWER, limited.admin)

    assert rest.status_code == 429
    assert rest.json()["error"]["code"] == "RATE_LIMITED"
    assert int(rest.headers["Retry-After"]) >= 1
    assert graphql.json()["errors"][0]["extensions"]["code"] == "RATE_LIMITED"


@pytest.mark.parametrize("face", BATCH_FACES.values(), ids=list(BATCH_FACES))
async def test_batches_are_limited_like_creations(limited: Gateway, face: BatchFace) -> None:
    _from(limited, "192.0.2.1")
    for _ in range(LIMIT + 1):
        await face.submit(limited, [MAYA], mint().text)
    batch = await face.submit(limited, [MAYA], limited.admin)

    assert batch.refusal is not None
    assert (batch.refusal.outcome, batch.refusal.retry_after_seconds) == ("RATE_LIMITED", 60)
    assert await limited.contact_rows() == 0


async def test_another_address_is_not_limited(limited: Gateway) -> None:
    _from(limited, "192.0.2.1")
    for _ in range(LIMIT + 1):
        await limited.rest("/contacts", mint().text)
    _from(limited, "192.0.2.2")

    assert (await limited.rest("/contacts", limited.admin)).status_code == 200


async def test_a_key_that_was_right_before_is_accepted_behind_the_same_address(
    limited: Gateway,
) -> None:
    _from(limited, "192.0.2.1")
    await limited.rest("/contacts", limited.member)
    for _ in range(LIMIT + 1):
        await limited.rest("/contacts", mint().text)

    assert (await limited.rest("/contacts", limited.member)).status_code == 200
    assert (await limited.rest("/contacts", limited.admin)).status_code == 429


@pytest.mark.parametrize("key", ["expired", "revoked"])
async def test_an_expired_or_revoked_key_is_not_a_guess(limited: Gateway, key: str) -> None:
    _from(limited, "192.0.2.1")
    for _ in range(LIMIT + 2):
        await limited.rest("/contacts", getattr(limited, key))

    assert (await limited.rest("/contacts", limited.admin)).status_code == 200


async def test_a_missing_key_is_not_a_guess(limited: Gateway) -> None:
    for _ in range(LIMIT + 2):
        await limited.rest("/contacts")

    assert (await limited.rest("/contacts", limited.admin)).status_code == 200


async def test_an_address_from_an_untrusted_header_is_ignored(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, key_guesses_per_minute=LIMIT) as gateway:
        for number in range(LIMIT + 1):
            _from(gateway, f"192.0.2.{number}")
            await gateway.rest("/contacts", mint().text)

        assert (await gateway.rest("/contacts", gateway.admin)).status_code == 429


async def test_guesses_may_be_unlimited(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, key_guesses_per_minute=0) as gateway:
        answers = [await gateway.rest("/contacts", mint().text) for _ in range(101)]

    assert {answer.status_code for answer in answers} == {401}


@EVERY_FACE
async def test_refusals_of_upstream_are_counted(tmp_path: Path, face: Face) -> None:
    def answering(_: Request) -> Recording:
        return recorded(401)

    async with gateway_and_upstream(
        answering, tmp_path, key_guesses_per_minute=LIMIT, upstream_refuses_duplicates="yes"
    ) as chain:
        gateway, upstream = chain
        answers = [await face.submit(gateway, MAYA, f"guess-{n}") for n in range(LIMIT + 2)]

    assert [answer.outcome for answer in answers] == [
        *["UNAUTHORIZED"] * (LIMIT + 1),
        "RATE_LIMITED",
    ]
    assert len(upstream.requests) == LIMIT + 1


async def test_hosts_with_one_server_count_guesses_and_budgets_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counters, "_TIMEOUT_SECONDS", WATCHDOG_SECONDS)
    with redis_server(tmp_path) as port:
        shared = {
            "rate_limit_url": f"redis://127.0.0.1:{port}/0",
            "key_guesses_per_minute": LIMIT,
            "rate_limit_per_hour": 3,
        }
        for folder in ("one", "two"):
            (tmp_path / folder).mkdir()
        async with (
            running_gateway(tmp_path / "one", **shared) as one,
            running_gateway(tmp_path / "two", **shared) as two,
        ):
            left = [
                (await gateway.rest("/contacts", gateway.admin)).headers["X-RateLimit-Remaining"]
                for gateway in (one, two)
            ]
            for gateway in (one, two, one):
                await gateway.rest("/contacts", mint().text)
            # This host learns from the count of the server that the limit is exceeded.
            refused = [(await two.rest("/contacts", mint().text)).status_code for _ in range(2)]

    assert left == ["2", "1"]
    assert refused == [401, 429]


@EVERY_FACE
async def test_no_outcome_of_a_submission_logs_or_shows_a_key_or_an_address(
    gateway: Gateway, face: Face, log: io.StringIO
) -> None:
    unknown = mint().text
    keys = [gateway.admin, gateway.member, gateway.expired, gateway.revoked, unknown, "cgw_typo"]
    submissions: list[dict[str, Json]] = [
        MAYA,
        MAYA | {"email": "secret-person@"},
        MAYA | {"advertiser_id": 3001},
        MAYA | {"phone": "+1 555 0100", "email": "noor@example.com"},
        {"advertiser_id": "x", "email": "secret-person@example.com"},
    ]
    answers = [
        await face.submit(gateway, contact, key, idempotency_key="idem-secret")
        for key in keys
        for contact in submissions
    ]

    await asyncio.sleep(0)
    logged = log.getvalue()
    assert logged.count('"event":"request"') == len(answers)
    for secret in (*keys, "secret-person", "maya@", "noor@", "+1 555 0100", "idem-secret"):
        assert secret not in logged
    for key in keys:
        assert not any(key in (answer.message or "") for answer in answers)


@pytest.mark.parametrize(
    "path",
    ["/healthz", "/readyz", "/nowhere", "/api/v1/contacts", "/api/v1/schema", "/graphql?query={a}"],
)
@pytest.mark.parametrize("key", [None, "admin"])
async def test_every_response_has_the_security_headers(
    gateway: Gateway, path: str, key: str | None
) -> None:
    presented = credentials(None if key is None else gateway.admin)
    for method in ("GET", "POST", "DELETE"):
        response = await gateway.client.request(method, path, headers=presented)

        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        policy = "default-src 'none'; frame-ancestors 'none'"
        assert response.headers["Content-Security-Policy"] == policy
        assert "Access-Control-Allow-Origin" not in response.headers


WITH_A_POLICY = """
    mutation ($p: OnConflict) { createContacts(submissions: [], onConflict: $p) { __typename } }
"""


@pytest.mark.parametrize(
    ("document", "variables"),
    [
        pytest.param(
            "mutation ($i: CreateContactInput!) { createContact(input: $i) { __typename } }",
            {"i": {"email": "secret-person@example.com"}},
            id="a variable without a field",
        ),
        pytest.param(
            "mutation ($i: CreateContactInput!) { createContact(input: $i) { __typename } }",
            {"i": {"advertiserId": "1", "email": ["secret-person@example.com"]}},
            id="a variable of another type",
        ),
        pytest.param(
            "mutation ($i: CreateContactInput!) { createContact(input: $i) { __typename } }",
            {"i": "secret-person@example.com"},
            id="a variable that is no object",
        ),
        pytest.param(
            "mutation ($i: CreateContactInput!) { createContact(input: $i) { __typename } }",
            {"i": {"advertiserId": "1", "email": "secret-person@example.com", "givenNam": "A"}},
            id="a variable with a misspelt field",
        ),
        pytest.param(
            WITH_A_POLICY,
            {"p": "secret-person@example.com"},
            id="a variable for an enum",
        ),
        pytest.param(
            WITH_A_POLICY,
            {"p": "secret-person " * 100},
            id="a long variable for an enum",
        ),
        pytest.param(
            'mutation { createContact(input: "secret-person@example.com") { __typename } }',
            {},
            id="a text for an object",
        ),
        pytest.param(
            'mutation { createContact(input: {email: "secret-person@example.com"}) { id } }',
            {},
            id="an object without a field",
        ),
        pytest.param(
            '{ contacts(page: "secret-person@example.com") { nodes { id } } }', {}, id="a number"
        ),
        pytest.param('{ "secret-person@example.com" }', {}, id="a text for a name"),
        pytest.param('{ """secret-person@example.com""" }', {}, id="a block for a name"),
        pytest.param(
            '{ viewer { label } } "secret-person@example.com', {}, id="a text without end"
        ),
        pytest.param(
            '{ viewer { label } } "b" "secret-person@example.com"', {}, id="a text after another"
        ),
    ],
)
async def test_no_error_repeats_what_was_submitted(
    gateway: Gateway, document: str, variables: dict[str, Json]
) -> None:
    response = await gateway.graphql(document, gateway.admin, variables)

    assert response.json()["errors"]
    assert "secret-person" not in response.text
