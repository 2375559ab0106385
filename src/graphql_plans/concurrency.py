"""Awaiting the values of sibling fields and list items."""

import asyncio
from collections.abc import Awaitable, Sequence
from types import CoroutineType
from typing import Final, Protocol, TypeVar, cast

from graphql.pyutils import gather_with_cancel

_Key_contra = TypeVar("_Key_contra", contravariant=True)


class _Results(Protocol[_Key_contra]):
    """A dict by response key, or a list by index."""

    def __getitem__(self, key: _Key_contra, /) -> object: ...
    def __setitem__(self, key: _Key_contra, value: object, /) -> None: ...


async def gather_results(
    results: _Results[_Key_contra], pending: Sequence[_Key_contra]
) -> _Results[_Key_contra]:
    """Await the results at the pending keys concurrently; return all results."""
    if len(pending) == 1:
        key = pending[0]
        results[key] = await cast(Awaitable[object], results[key])
        return results
    values = await gather_with_cancel(*(cast(Awaitable[object], results[key]) for key in pending))
    for key, value in zip(pending, values, strict=True):
        results[key] = value
    return results


def settle_in_background(awaitables: Sequence[Awaitable[object]]) -> None:
    """Run the siblings of a failed field to their end, and discard their results."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        for awaitable in awaitables:
            if isinstance(awaitable, CoroutineType):
                awaitable.close()
        return
    future = asyncio.gather(*awaitables, return_exceptions=True)
    _in_flight.add(future)
    future.add_done_callback(_in_flight.discard)


# The event loop has only weak references to its tasks.
_in_flight: Final[set[asyncio.Future[list[object]]]] = set()
