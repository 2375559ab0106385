"""A batch starts once the jobs that arrive together are queued."""

import asyncio
import math

import pytest
from anyio.lowlevel import checkpoint

from contact_gateway.store import batching
from contact_gateway.store.batching import fill_batch

pytestmark = pytest.mark.anyio

BATCH_SIZE = 10


@pytest.fixture(autouse=True)
def no_maximum_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine must not start a batch early."""
    monkeypatch.setattr(batching, "MAX_DELAY_SECONDS", math.inf)


async def _enqueue(queue: list[str], *, turns_apart: int, count: int) -> None:
    """Add jobs to a queue, each some turns of the event loop after the last one."""
    for _ in range(count):
        for _ in range(turns_apart):
            await checkpoint()
        queue.append("job")


async def _length_at_start(turns_apart: int, count: int) -> int:
    """Return how long the queue is when the batch of its first job starts."""
    queue = ["first job"]
    enqueueing = asyncio.create_task(_enqueue(queue, turns_apart=turns_apart, count=count))
    await fill_batch(queue, BATCH_SIZE)
    length = len(queue)
    await enqueueing
    return length


async def test_a_lone_job_waits_for_a_few_turns_only() -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await checkpoint()
            turns += 1

    counting = asyncio.create_task(count_turns())
    await fill_batch(["first job"], BATCH_SIZE)
    counting.cancel()

    assert turns <= 5


@pytest.mark.parametrize("turns_apart", [1, 2])
async def test_a_batch_includes_jobs_that_arrive_within_a_few_turns(turns_apart: int) -> None:
    assert await _length_at_start(turns_apart, 5) == 6


async def test_a_batch_does_not_wait_for_a_late_job() -> None:
    assert await _length_at_start(20, 1) == 1


async def test_a_full_batch_starts_at_once() -> None:
    assert await _length_at_start(1, 2 * BATCH_SIZE) == BATCH_SIZE


async def test_a_batch_starts_after_the_maximum_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "MAX_DELAY_SECONDS", 0)

    assert await _length_at_start(1, 5) == 1
