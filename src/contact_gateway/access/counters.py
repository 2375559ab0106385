"""Counting in fixed windows: in this process, or on a server that many hosts share.

The server speaks Redis's protocol. While it does not answer, each process counts by itself: a
limit that is less exact is better than a gateway that stands still.
"""

import time
from dataclasses import dataclass
from typing import Final

import structlog
from limits import RateLimitItem
from limits.aio.storage import RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter
from limits.errors import StorageError

from contact_gateway.access.quota import Quota

ASKED_AGAIN_AFTER_SECONDS: Final = 5.0
_TIMEOUT_SECONDS: Final = 0.5
_TIDIED_EVERY_SECONDS: Final = 60.0
_PREFIX: Final = "contact-gateway"

_log = structlog.get_logger(__name__)


class Counters:
    """Counts what happens to each of many keys.

    Args:
        url: `redis://HOST:PORT/DB` or the like; None to count in this process's memory.
    """

    def __init__(self, url: str | None = None) -> None:
        self._own: Final = _Own()
        self._server: Final = None if url is None else _Server(url)
        self._asked_from = 0.0

    async def close(self) -> None:
        """Close the connections to the server, if there is one."""
        if self._server is not None:
            await self._server.close()

    async def hit(self, limit: RateLimitItem, key: str) -> Quota:
        """Count one; the window says whether it was one too many."""
        if self._server is not None and time.monotonic() >= self._asked_from:
            try:
                return await self._server.hit(limit, key)
            except StorageError as error:
                self._note(error)
        return self._own.hit(limit, key)

    async def read(self, limit: RateLimitItem, key: str) -> Quota:
        """Return what is left, and count nothing."""
        if self._server is not None and time.monotonic() >= self._asked_from:
            try:
                return await self._server.read(limit, key)
            except StorageError as error:
                self._note(error)
        return self._own.read(limit, key)

    def _note(self, error: StorageError) -> None:
        """Leave a server alone for a while that does not answer."""
        self._asked_from = time.monotonic() + ASKED_AGAIN_AFTER_SECONDS
        _log.warning(
            "the rate limits' server does not answer; this process counts by itself",
            # The text may hold the server's address and password.
            cause=type(error.__cause__).__name__,
        )


class _Own:
    """Counts in this process. It is asked for each request, so it goes no detours."""

    def __init__(self) -> None:
        self._open: Final[dict[tuple[RateLimitItem, str], _Counted]] = {}
        self._tidied_at = 0.0

    def hit(self, limit: RateLimitItem, key: str) -> Quota:
        """Count one, in a window that opens now unless one is open."""
        now = time.time()
        counted = self._open.get((limit, key))
        if counted is None or counted.ends_at <= now:
            self._tidy(now)
            counted = self._open[limit, key] = _Counted(now + limit.get_expiry())
        counted.count += 1
        return _window(limit, counted)

    def read(self, limit: RateLimitItem, key: str) -> Quota:
        """Return what is left, and count nothing."""
        now = time.time()
        counted = self._open.get((limit, key))
        return _window(
            limit, _Counted(now) if counted is None or counted.ends_at <= now else counted
        )

    def _tidy(self, now: float) -> None:
        """Forget the windows that are over."""
        if now - self._tidied_at < _TIDIED_EVERY_SECONDS:
            return
        self._tidied_at = now
        for key in [key for key, counted in self._open.items() if counted.ends_at <= now]:
            del self._open[key]


@dataclass(slots=True)
class _Counted:
    ends_at: float
    count: int = 0


def _window(limit: RateLimitItem, counted: _Counted) -> Quota:
    return Quota(
        limit=limit.amount,
        remaining=max(0, limit.amount - counted.count),
        resets_at=counted.ends_at,
        exceeded=counted.count > limit.amount,
    )


class _Server:
    """Counts on a server."""

    def __init__(self, url: str) -> None:
        # It comes with an extra that few need.
        from redis.asyncio import ConnectionPool  # noqa: PLC0415

        self._pool: Final = ConnectionPool.from_url(
            url, socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=_TIMEOUT_SECONDS
        )
        storage = RedisStorage(
            f"async+{url}",
            wrap_exceptions=True,
            implementation="redispy",
            key_prefix=_PREFIX,
            connection_pool=self._pool,  # type: ignore[arg-type]  # as it is documented
        )
        self._limiter: Final = FixedWindowRateLimiter(storage)

    async def hit(self, limit: RateLimitItem, key: str) -> Quota:
        """Count one."""
        within = await self._limiter.hit(limit, key)
        return await self.read(limit, key, exceeded=not within)

    async def read(self, limit: RateLimitItem, key: str, *, exceeded: bool = False) -> Quota:
        """Return what is left, and count nothing."""
        stats = await self._limiter.get_window_stats(limit, key)
        return Quota(
            limit=limit.amount,
            remaining=max(0, stats.remaining),
            resets_at=stats.reset_time,
            exceeded=exceeded,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.aclose()
