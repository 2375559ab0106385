"""How much each key may do in an hour."""

import math
import time
from dataclasses import dataclass
from typing import Final, Protocol

from limits import RateLimitItemPerHour
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter

from contact_gateway.access.principals import Principal


@dataclass(frozen=True, slots=True)
class Window:
    """What a key has left of its budget.

    The window opens with a key's first operation and closes an hour later, at `resets_at`
    (seconds since the epoch).
    """

    limit: int
    remaining: int
    resets_at: float
    exceeded: bool = False

    def seconds_left(self) -> int:
        """Return the whole seconds after which the budget is full again, at least one."""
        return max(1, math.ceil(self.resets_at - time.time()))


class Budget(Protocol):
    """Counts each key's operations."""

    async def spend(self, principal: Principal) -> Window | None:
        """Count one operation; the window says whether it was one too many. None: no limit."""
        ...

    async def window(self, principal: Principal) -> Window | None:
        """Return what is left, and count nothing. None: no limit."""
        ...


class Unlimited:
    """The budget of a gateway without a rate limit."""

    async def spend(self, principal: Principal) -> None:
        """Count nothing."""

    async def window(self, principal: Principal) -> None:
        """Report nothing."""


class HourlyBudget:
    """So many operations an hour for each key, counted in this process's memory."""

    def __init__(self, per_hour: int) -> None:
        self._limit: Final = RateLimitItemPerHour(per_hour)
        self._limiter: Final = FixedWindowRateLimiter(MemoryStorage())

    async def spend(self, principal: Principal) -> Window:
        """Count one operation, also one over the limit."""
        within = await self._limiter.hit(self._limit, str(principal.key_id))
        return await self._read(principal, exceeded=not within)

    async def window(self, principal: Principal) -> Window:
        """Return what is left."""
        return await self._read(principal, exceeded=False)

    async def _read(self, principal: Principal, *, exceeded: bool) -> Window:
        stats = await self._limiter.get_window_stats(self._limit, str(principal.key_id))
        return Window(
            limit=self._limit.amount,
            remaining=max(0, stats.remaining),
            resets_at=stats.reset_time,
            exceeded=exceeded,
        )


def hourly_budget(per_hour: int) -> Budget:
    """Return the budget of `per_hour` operations a key; 0 means that nothing is counted."""
    return HourlyBudget(per_hour) if per_hour else Unlimited()
