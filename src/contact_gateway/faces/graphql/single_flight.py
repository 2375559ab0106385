"""Single flight: concurrent and later calls with the same arguments share one result."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
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
        # Any: the types of the functions' results.
        self._calls: Final[dict[Hashable, asyncio.Future[Any]]] = {}

    async def get(
        self, load: Callable[[*Arguments], Awaitable[Result]], *arguments: *Arguments
    ) -> Result:
        """Return the result of a call. What `load` raises is raised to every caller of it."""
        key = load, arguments
        while (call := self._calls.get(key)) is not None:
            with suppress(_AbandonedError):
                # Shielded: a cancelled caller must not cancel the load of another.
                shared: Result = await asyncio.shield(call)
                return shared
        call = self._calls[key] = asyncio.get_running_loop().create_future()
        try:
            result = await load(*arguments)
        except BaseException as error:
            if isinstance(error, Exception):
                call.set_exception(error)
            else:
                del self._calls[key]
                call.set_exception(_AbandonedError())
            # Retrieve it, so that asyncio does not report one that no other caller awaits.
            call.exception()
            raise
        call.set_result(result)
        return result
