"""Clocks that a test moves, and the one limit on waiting."""

from typing import Final

from anyio.lowlevel import checkpoint

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
