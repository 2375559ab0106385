"""Single flight: concurrent and later calls with one key share one result."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Generic, TypeVar

Key = TypeVar("Key")
Result = TypeVar("Result")


class _AbandonedError(Exception):
    """The caller that was loading the result was cancelled."""


class SingleFlight(Generic[Key, Result]):
    """Loads the result of each key once.

    A DataLoader does the same and also batches keys, for which it starts a task. This is for what
    cannot be batched.
    """

    def __init__(self) -> None:
        self._results: Final[dict[Key, Result]] = {}
        self._in_flight: Final[dict[Key, asyncio.Future[Result]]] = {}

    async def get(self, key: Key, load: Callable[[], Awaitable[Result]]) -> Result:
        """Return the result of a key. What `load` raises is raised to every caller of the key."""
        while key not in self._results:
            in_flight = self._in_flight.get(key)
            if in_flight is None:
                self._results[key] = await self._load(key, load)
                break
            try:
                # Shielded: a cancelled caller must not cancel the load of another.
                return await asyncio.shield(in_flight)
            except _AbandonedError:
                continue
        return self._results[key]

    def put(self, results: Mapping[Key, Result]) -> None:
        """Add results that were loaded elsewhere."""
        self._results.update(results)

    async def _load(self, key: Key, load: Callable[[], Awaitable[Result]]) -> Result:
        in_flight = self._in_flight[key] = asyncio.get_running_loop().create_future()
        # Retrieve the exception, so that asyncio does not report one that no other caller awaits.
        in_flight.add_done_callback(asyncio.Future.exception)
        try:
            result = await load()
        except Exception as error:
            in_flight.set_exception(error)
            raise
        except BaseException:
            del self._in_flight[key]
            in_flight.set_exception(_AbandonedError())
            raise
        in_flight.set_result(result)
        return result
