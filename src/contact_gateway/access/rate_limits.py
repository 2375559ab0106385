"""The rate limit: how many operations a key may make in an hour."""

from collections.abc import Awaitable
from typing import Final

from contact_gateway.access.counters import Counters, Limit
from contact_gateway.access.quota import Quota

_SECONDS: Final = 3600


class HourlyRateLimit:
    """Counts the operations of each key in windows of an hour."""

    def __init__(self, per_hour: int, counters: Counters | None = None) -> None:
        self._limit: Final = Limit(per_hour, _SECONDS)
        self._counters: Final = counters or Counters()

    def hit(self, quota_key: str, operations: int = 1) -> Awaitable[Quota]:
        """Count operations, even those over the limit."""
        return self._counters.hit(self._limit, quota_key, operations)

    def read(self, quota_key: str) -> Awaitable[Quota]:
        """Return what is left, without counting."""
        return self._counters.hit(self._limit, quota_key, 0)
