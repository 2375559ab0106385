"""Fixed-window counters, in this process or on a Redis-compatible server that several hosts share.

While the server does not respond, each process counts on its own: a less exact limit is better than
a gateway that stops.
"""

import time
from dataclasses import dataclass
from typing import Final

import structlog
from limits import RateLimitItem
from limits.aio.storage import RedisStorage
from limits.errors import StorageError

from contact_gateway.access.quota import Quota

RETRY_AFTER_SECONDS: Final = 5.0
"""How long a server that did not respond is left alone."""

_TIMEOUT_SECONDS: Final = 0.5
_PURGE_INTERVAL_SECONDS: Final = 60.0
_PREFIX: Final = "contact-gateway"

_log = structlog.get_logger(__name__)


class Counters:
    """Counts events by key, each key in windows of its limit.

    In memory, it does so in a dictionary: the library's own storage is several times slower.

    Args:
        url: the server, such as `redis://HOST:PORT/DB`; None counts in memory.
    """

    def __init__(self, url: str | None = None) -> None:
        self._server: Final = None if url is None else _RedisCounters(url)
        self._retry_at = 0.0
        self._windows: dict[tuple[RateLimitItem, str], _Window] = {}
        self._purged_at = 0.0

    async def close(self) -> None:
        """Close the connections to the server, if there is one."""
        if self._server is not None:
            await self._server.close()

    async def hit(self, limit: RateLimitItem, key: str, events: int = 1) -> Quota:
        """Count events; `excess` says how many of them were too many.

        Without events, return what is left: no window is opened.
        """
        if self._server is not None and time.monotonic() >= self._retry_at:
            try:
                return await self._server.hit(limit, key, events)
            except StorageError as error:
                self._back_off(error)
        now = time.time()
        window = self._windows.get((limit, key))
        if window is None or not window.is_open(limit, now):
            if not events:
                return _Window(now).quota(limit, events)
            self._purge(now)
            window = self._windows[limit, key] = _Window(now + limit.get_expiry())
        window.count += events
        return window.quota(limit, events)

    def _back_off(self, error: StorageError) -> None:
        self._retry_at = time.monotonic() + RETRY_AFTER_SECONDS
        _log.warning(
            "rate limit server does not respond; counting in this process",
            # Only the type: the text may contain the server's address and password.
            cause=type(error.__cause__).__name__,
        )

    def _purge(self, now: float) -> None:
        """Delete the windows that have ended."""
        # Negative after the clock was set back.
        if 0 <= now - self._purged_at < _PURGE_INTERVAL_SECONDS:
            return
        self._purged_at = now
        self._windows = {
            (limit, key): window
            for (limit, key), window in self._windows.items()
            if window.is_open(limit, now)
        }


@dataclass(slots=True)
class _Window:
    ends_at: float
    count: int = 0

    def is_open(self, limit: RateLimitItem, now: float) -> bool:
        """Return whether the window counts now.

        It does not if it ends later than a window that opens now: then the clock was set back.
        """
        return now < self.ends_at <= now + limit.get_expiry()

    def quota(self, limit: RateLimitItem, events: int) -> Quota:
        """Return the quota after events that are counted already, as the latest of the window."""
        return Quota(
            limit=limit.amount,
            remaining=max(0, limit.amount - self.count),
            resets_at=self.ends_at,
            excess=min(events, max(0, self.count - limit.amount)),
            window_seconds=limit.get_expiry(),
        )


class _RedisCounters:
    """Counts on a Redis-compatible server."""

    def __init__(self, url: str) -> None:
        # The client comes with the optional extra `redis`.
        from redis.asyncio import ConnectionPool  # noqa: PLC0415

        self._pool: Final = ConnectionPool.from_url(
            url, socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=_TIMEOUT_SECONDS
        )
        self._storage: Final = RedisStorage(
            f"async+{url}",
            wrap_exceptions=True,
            implementation="redispy",
            key_prefix=_PREFIX,
            connection_pool=self._pool,  # type: ignore[arg-type]  # as the library documents it
        )

    async def hit(self, limit: RateLimitItem, key: str, events: int) -> Quota:
        """Count events."""
        name, seconds = limit.key_for(key), limit.get_expiry()
        count = await (
            self._storage.incr(name, seconds, events) if events else self._storage.get(name)
        )
        ends_at = await self._storage.get_expiry(name)
        # The server may have set its clock back, which keeps a window open for longer.
        return _Window(min(ends_at, time.time() + seconds), count).quota(limit, events)

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.aclose()
