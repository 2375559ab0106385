"""A batch is begun once those who have come are in it."""

import asyncio

import pytest
from anyio.lowlevel import checkpoint

from contact_gateway.store import batching
from contact_gateway.store.batching import fill_batch

pytestmark = pytest.mark.anyio

ENOUGH = 10


async def _come(waiting: list[str], *, turns_apart: int, count: int) -> None:
    """Let callers come, one after so many turns of the event loop each."""
    for _ in range(count):
        for _ in range(turns_apart):
            await checkpoint()
        waiting.append("caller")


async def _waited_for(turns_apart: int, count: int) -> int:
    """Return how many are in a batch that the first of some callers begins."""
    waiting = ["the first"]
    coming = asyncio.create_task(_come(waiting, turns_apart=turns_apart, count=count))
    await fill_batch(waiting, ENOUGH)
    found = len(waiting)
    await coming
    return found


async def test_a_lone_caller_waits_for_nobody() -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await checkpoint()
            turns += 1

    counting = asyncio.create_task(count_turns())
    await fill_batch(["the first"], ENOUGH)
    counting.cancel()

    assert turns <= 5


@pytest.mark.parametrize("turns_apart", [1, 2])
async def test_those_on_their_way_are_waited_for(turns_apart: int) -> None:
    assert await _waited_for(turns_apart, 5) == 6


async def test_who_comes_much_later_is_not_waited_for() -> None:
    assert await _waited_for(20, 1) == 1


async def test_nobody_is_waited_for_once_there_are_enough() -> None:
    assert await _waited_for(1, 2 * ENOUGH) == ENOUGH


async def test_the_first_waits_no_longer_than_a_commit_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batching, "AT_MOST_SECONDS", 0)

    assert await _waited_for(1, 5) == 1
