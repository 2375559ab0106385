"""How much each key may do in an hour."""

from typing import Final, Protocol

from limits import RateLimitItemPerHour

from contact_gateway.access.counters import Counters
from contact_gateway.access.principals import AnyPrincipal, ForwardedPrincipal, Principal
from contact_gateway.access.quota import Quota


class Budget(Protocol):
    """Counts each key's operations."""

    async def spend(self, principal: AnyPrincipal, /) -> Quota | None:
        """Count one operation; the window says whether it was one too many. None: no limit."""
        ...

    async def window(self, principal: AnyPrincipal, /) -> Quota | None:
        """Return what is left, and count nothing. None: no limit."""
        ...


class Unlimited:
    """The budget of a gateway without a rate limit."""

    async def spend(self, _: AnyPrincipal) -> None:
        """Count nothing."""

    async def window(self, _: AnyPrincipal) -> None:
        """Report nothing."""


class KeptBySource:
    """The budget where the source counts: nothing is counted here, what it reports is told."""

    async def spend(self, _: AnyPrincipal) -> None:
        """Count nothing: the source does, and refuses by itself."""

    async def window(self, principal: AnyPrincipal) -> Quota | None:
        """Return what the source reported while it served this request."""
        return principal.reported.window if isinstance(principal, ForwardedPrincipal) else None


class HourlyBudget:
    """So many operations an hour for each key."""

    def __init__(self, per_hour: int, counters: Counters | None = None) -> None:
        self._limit: Final = RateLimitItemPerHour(per_hour)
        self._counters: Final = counters or Counters()

    async def spend(self, principal: AnyPrincipal) -> Quota:
        """Count one operation, also one over the limit."""
        return await self._counters.hit(self._limit, _counted_by(principal))

    async def window(self, principal: AnyPrincipal) -> Quota:
        """Return what is left."""
        return await self._counters.read(self._limit, _counted_by(principal))


def _counted_by(principal: AnyPrincipal) -> str:
    if not isinstance(principal, Principal):
        raise TypeError("only the gateway's own keys have a budget here")
    return str(principal.key_id)


def hourly_budget(per_hour: int, counters: Counters | None = None) -> Budget:
    """Return the budget of `per_hour` operations a key; 0 means that nothing is counted."""
    return HourlyBudget(per_hour, counters) if per_hour else Unlimited()
