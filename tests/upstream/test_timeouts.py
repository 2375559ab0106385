"""The timeouts of reads and of creations, as the settings have them."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from support.clock import ManualClock
from support.faces import FACES
from support.gateway import Gateway
from support.upstream import KEY, End, Recording, gateway_and_upstream

pytestmark = pytest.mark.anyio


async def _create(gateway: Gateway) -> str:
    contact = {"advertiser_id": 2001, "email": "maya@example.com"}
    return (await FACES["REST"].submit(gateway, contact, KEY)).outcome


async def _view(gateway: Gateway) -> str:
    response = await gateway.graphql("{ viewer { role } }", KEY)
    code: str = response.json()["errors"][0]["extensions"]["code"]
    return code


async def _seconds_without_an_answer(
    call: Callable[[Gateway], Awaitable[str]], folder: Path, clock: ManualClock
) -> tuple[str, float]:
    """Return the outcome of a call that upstream never answers, and how long it took."""
    async with gateway_and_upstream(
        lambda _: Recording(b"", End.STALL),
        folder,
        upstream_timeout_seconds=10,
        upstream_create_timeout_seconds=60,
        upstream_refuses_duplicates="yes",
    ) as (gateway, upstream):
        began_at = clock.seconds
        task = asyncio.ensure_future(call(gateway))
        await upstream.is_stalled.wait()
        await clock.advance_until_done(task)
        return await task, clock.seconds - began_at


async def test_a_creation_has_a_timeout_of_its_own(
    tmp_path: Path, stopped_clock: ManualClock
) -> None:
    outcome, seconds = await _seconds_without_an_answer(_create, tmp_path, stopped_clock)

    assert outcome == "OUTCOME_UNKNOWN"
    assert seconds >= 60


async def test_a_read_that_is_sent_as_a_creation_has_the_timeout_of_a_read(
    tmp_path: Path, stopped_clock: ManualClock
) -> None:
    outcome, seconds = await _seconds_without_an_answer(_view, tmp_path, stopped_clock)

    assert outcome == "SERVICE_UNAVAILABLE"
    assert 10 <= seconds < 60
