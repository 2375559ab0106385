"""Single flight: concurrent and later calls with the same arguments share one result."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Hashable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeVar, TypeVarTuple

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


class _AbandonedError(Exception):
    """The caller that was loading the result was cancelled."""


class SingleFlight:
    """Calls each function once for the same arguments.

    A DataLoader does the same and also batches keys, for which it starts a task. This is for what
    cannot be batched.
    """

    def __init__(self) -> None:
        # Any: the types of the functions' arguments and results.
        self._results: Final[defaultdict[Hashable, dict[Any, Any]]] = defaultdict(dict)
        self._in_flight: Final[dict[Hashable, asyncio.Future[Any]]] = {}

    async def get(
        self, load: Callable[[*Arguments], Awaitable[Result]], *arguments: *Arguments
    ) -> Result:
        """Return the result of a call. What `load` raises is raised to every caller of it."""
        results: dict[tuple[*Arguments], Result] = self._results[load]
        while arguments not in results:
            key = load, arguments
            in_flight = self._in_flight.get(key)
            if in_flight is None:
                results[arguments] = await self._load(key, load(*arguments))
            else:
                with suppress(_AbandonedError):
                    # Shielded: a cancelled caller must not cancel the load of another.
                    await asyncio.shield(in_flight)
        return results[arguments]

    def put(
        self,
        load: Callable[[*Arguments], Awaitable[Result]],
        results: Mapping[tuple[*Arguments], Result],
    ) -> None:
        """Add results of a function that were loaded elsewhere, by its arguments."""
        self._results[load].update(results)

    async def _load(self, key: Hashable, loading: Awaitable[Result]) -> Result:
        in_flight = self._in_flight[key] = asyncio.get_running_loop().create_future()
        # Retrieve the exception, so that asyncio does not report one that no other caller awaits.
        in_flight.add_done_callback(asyncio.Future.exception)
        try:
            result = await loading
        except Exception as error:
            in_flight.set_exception(error)
            raise
        except BaseException:
            del self._in_flight[key]
            in_flight.set_exception(_AbandonedError())
            raise
        in_flight.set_result(result)
        return result
