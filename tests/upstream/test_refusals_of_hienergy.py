"""HiEnergy's refusals, in each format that it may use."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from support.faces import FACES, Face, Json
from support.gateway import Gateway
from support.hienergy import Duplicates, ErrorBody, HiEnergy, Traits
from support.hienergy_callers import MEMBER_KEY, jwt
from support.upstream import KEY, gateway_and_upstream

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("face", FACES.values(), ids=list(FACES)),
]

MAYA: Final[dict[str, Json]] = {"advertiser_id": 2001, "email": "maya@example.com"}
UNLISTED: Final = {**MAYA, "advertiser_id": 3001}
NO_ERROR_IN_JSON: Final = {ErrorBody.HTML, ErrorBody.EMPTY}
REFUSED_DUPLICATES: Final = [
    each for each in Duplicates if each.name.startswith(("CONFLICT", "TAKEN"))
]


@asynccontextmanager
async def _in_front_of(traits: Traits, folder: Path) -> AsyncIterator[tuple[Gateway, HiEnergy]]:
    hienergy = HiEnergy(traits)
    async with gateway_and_upstream(hienergy.answer, folder) as (gateway, _):
        yield gateway, hienergy


@pytest.mark.parametrize("body", ErrorBody, ids=lambda body: body.name)
async def test_each_refusal_has_its_outcome(face: Face, body: ErrorBody, tmp_path: Path) -> None:
    async with _in_front_of(Traits(error_body=body), tmp_path) as (gateway, hienergy):
        outcomes = [
            (await face.submit(gateway, contact, key)).outcome
            for contact, key in (
                (MAYA, "unknown-key"),
                (MAYA, jwt(good=False)),
                (MAYA, MEMBER_KEY),
                (MAYA, jwt(role="member")),
                (UNLISTED, KEY),
            )
        ]

    missing = "SERVICE_UNAVAILABLE" if body in NO_ERROR_IN_JSON else "NOT_FOUND"
    assert outcomes == ["UNAUTHORIZED"] * 2 + ["FORBIDDEN"] * 2 + [missing]
    assert hienergy.contacts == []


@pytest.mark.parametrize("duplicates", REFUSED_DUPLICATES, ids=lambda each: each.name)
async def test_a_taken_address_is_a_conflict(
    face: Face, duplicates: Duplicates, tmp_path: Path
) -> None:
    async with _in_front_of(Traits(duplicates=duplicates), tmp_path) as (gateway, hienergy):
        answers = [await face.submit(gateway, MAYA, KEY) for _ in range(2)]

    assert [answer.outcome for answer in answers] == ["CONTACT", "CONFLICT"]
    assert len(hienergy.contacts) == 1


@pytest.mark.parametrize("is_relative", [True, False], ids=["seconds left", "since 1970"])
async def test_a_rate_limit_says_when_to_retry(
    face: Face, tmp_path: Path, *, is_relative: bool
) -> None:
    traits = Traits(calls_per_hour=0, reset_in_seconds_from_now=is_relative)
    began_at = int(time.time())
    async with _in_front_of(traits, tmp_path) as (gateway, _):
        answer = await face.submit(gateway, MAYA, KEY)

    assert answer.outcome == "RATE_LIMITED"
    assert 1 <= (answer.retry_after_seconds or 0) <= 3600
    assert began_at <= int(answer.headers["X-RateLimit-Reset"]) <= time.time() + 3601
