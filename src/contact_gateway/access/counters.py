"""Counting in fixed windows: in this process, or on a server that many hosts share.

The server speaks Redis's protocol. While it does not answer, each process counts by itself: a
limit that is less exact is better than a gateway that stands still.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog
from limits import RateLimitItem
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter
from limits.errors import StorageError

from contact_gateway.access.windows import Window

T = TypeVar("T")

ASKED_AGAIN_AFTER_SECONDS: Final = 5.0
_TIMEOUT_SECONDS: Final = 0.5
_PREFIX: Final = "contact-gateway"

_log = structlog.get_logger(__name__)


class Counters:
    """Counts what happens to each of many keys.

    Args:
        url: `redis://HOST:PORT/DB` or the like; None to count in this process's memory.
    """

    def __init__(self, url: str | None = None) -> None:
        self._own: Final = FixedWindowRateLimiter(MemoryStorage())
        self._server: Final = None if url is None else _Server(url)
        self._asked_from = 0.0

    async def close(self) -> None:
        """Close the connections to the server, if there is one."""
        if self._server is not None:
            await self._server.close()

    async def hit(self, limit: RateLimitItem, key: str) -> Window:
        """Count one; the window says whether it was one too many."""
        within = await self._answered(lambda limiter: limiter.hit(limit, key))
        return await self.read(limit, key, exceeded=not within)

    async def read(self, limit: RateLimitItem, key: str, *, exceeded: bool = False) -> Window:
        """Return what is left, and count nothing."""
        stats = await self._answered(lambda limiter: limiter.get_window_stats(limit, key))
        return Window(
            limit=limit.amount,
            remaining=max(0, stats.remaining),
            resets_at=stats.reset_time,
            exceeded=exceeded,
        )

    async def _answered(self, ask: Callable[[FixedWindowRateLimiter], Awaitable[T]]) -> T:
        """Ask the server, if it is there and answers, or else what this process has counted."""
        if self._server is not None and time.monotonic() >= self._asked_from:
            try:
                return await ask(self._server.limiter)
            except StorageError as error:
                self._note(error)
        return await ask(self._own)

    def _note(self, error: StorageError) -> None:
        """Leave a server alone for a while that does not answer."""
        self._asked_from = time.monotonic() + ASKED_AGAIN_AFTER_SECONDS
        _log.warning(
            "the rate limits' server does not answer; this process counts by itself",
            # The text may hold the server's address and password.
            cause=type(error.__cause__).__name__,
        )


class _Server:
    """A limiter on a server, and the connections to it."""

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
        self.limiter: Final = FixedWindowRateLimiter(storage)

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.aclose()
