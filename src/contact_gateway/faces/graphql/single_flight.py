"""Single flight: concurrent and later calls with the same arguments share one result."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Final, TypeVar, TypeVarTuple

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


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
        while (call := self._calls.get(key)) is not None and not call.done():
            # A cancelled caller must not cancel the load of another.
            await asyncio.wait((call,))
        if call is None:
            call = self._calls[key] = asyncio.get_running_loop().create_future()
            try:
                call.set_result(await load(*arguments))
            except Exception as error:  # noqa: BLE001 - it is raised below, and to the others
                call.set_exception(error)
            except BaseException:
                # One of the waiting callers loads next.
                del self._calls[key]
                call.cancel()
                raise
        result: Result = call.result()
        return result
