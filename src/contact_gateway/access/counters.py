"""Fixed-window counters, in this process or on a Redis-compatible server that several hosts share.

While the server does not respond, each process counts on its own: a less exact limit is better than
a gateway that stops.
"""

import time
from dataclasses import dataclass
from typing import Final, NamedTuple

import structlog

from contact_gateway.access.quota import Quota

RETRY_AFTER_SECONDS: Final = 5.0
"""How long a server that did not respond is left alone."""

_TIMEOUT_SECONDS: Final = 0.5
_PURGE_INTERVAL_SECONDS: Final = 60.0
_PREFIX: Final = "contact-gateway"

_log = structlog.get_logger(__name__)


class Limit(NamedTuple):
    """So many events in a window of so many seconds."""

    amount: int
    seconds: int


class Counters:
    """Counts events by key, each key in windows of its limit.

    It counts in a dictionary, or on a server by the library `limits`, whose own storage in memory
    is several times slower.

    Args:
        url: the server, such as `redis://HOST:PORT/DB`; None counts in memory.
    """

    def __init__(self, url: str | None = None) -> None:
        self._server: Final = None if url is None else _RedisCounters(url)
        self._retry_at = 0.0
        self._windows: dict[tuple[Limit, str], _Window] = {}
        self._purged_at = 0.0

    async def close(self) -> None:
        """Close the connections to the server, if there is one."""
        if self._server is not None:
            await self._server.close()

    async def hit(self, limit: Limit, key: str, events: int = 1) -> Quota:
        """Count events; `excess` says how many of them were too many.

        Without events, return what is left: no window is opened.
        """
        if self._server is not None and time.monotonic() >= self._retry_at:
            try:
                return await self._server.hit(limit, key, events)
            except self._server.error as error:
                self._back_off(error)
        now = time.time()
        window = self._windows.get((limit, key))
        if window is None or not window.is_open(limit, now):
            if not events:
                return _Window(now).quota(limit, events)
            self._purge(now)
            window = self._windows[limit, key] = _Window(now + limit.seconds)
        window.count += events
        return window.quota(limit, events)

    def _back_off(self, error: Exception) -> None:
        now = time.monotonic()
        if now < self._retry_at:
            # A concurrent call has failed and logged it.
            return
        self._retry_at = now + RETRY_AFTER_SECONDS
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

    def is_open(self, limit: Limit, now: float) -> bool:
        """Return whether the window counts now.

        It does not if it ends later than a window that opens now: then the clock was set back.
        """
        return now < self.ends_at <= now + limit.seconds

    def quota(self, limit: Limit, events: int) -> Quota:
        """Return the quota after events that are counted already, as the latest of the window."""
        amount, seconds = limit
        left = amount - self.count
        if left >= 0:
            return Quota(amount, left, self.ends_at, 0, seconds)
        return Quota(amount, 0, self.ends_at, min(events, -left), seconds)


class _RedisCounters:
    """Counts on a Redis-compatible server. If that does not respond, `error` is raised."""

    def __init__(self, url: str) -> None:
        # They come with the optional extra `redis`.
        from limits.aio.storage import RedisStorage  # noqa: PLC0415
        from limits.errors import StorageError  # noqa: PLC0415
        from redis.asyncio import ConnectionPool  # noqa: PLC0415

        self.error: Final[type[Exception]] = StorageError
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

    async def hit(self, limit: Limit, key: str, events: int) -> Quota:
        """Count events."""
        name, seconds = f"{key}/{limit.amount}/{limit.seconds}", limit.seconds
        count = await (
            self._storage.incr(name, seconds, events) if events else self._storage.get(name)
        )
        ends_at = await self._storage.get_expiry(name)
        # The server may have set its clock back, which keeps a window open for longer.
        return _Window(min(ends_at, time.time() + seconds), count).quota(limit, events)

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.aclose()
