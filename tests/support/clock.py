"""Clocks that a test moves, and the one limit on waiting."""

import asyncio
from typing import Final, TypeVar

from anyio.lowlevel import checkpoint

T = TypeVar("T")

WATCHDOG_SECONDS: Final = 300
"""How long to wait for another thread or process. Only a hang takes this long."""


class ManualClock:
    """A clock that stands still until a test moves it, in seconds."""

    def __init__(self, seconds: float = 1000.0) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds

    async def advance(self, seconds: float) -> None:
        """Move the clock, and let the event loop run the timers that are due."""
        self.seconds += seconds
        await checkpoint()

    async def advance_until_done(self, task: asyncio.Task[T]) -> None:
        """Move the clock a second at a time, until a task is done."""
        while not task.done():
            await self.advance(1)
