"""When to begin a batch: once those who have come already are in it."""

import asyncio
import time
from collections.abc import Sized
from typing import Final

AT_MOST_SECONDS: Final = 0.005
"""How long the first may wait for others."""

# So many turns of the event loop take a request from its connection to where it waits.
_TURNS_ON_THE_WAY: Final = 3


async def fill_batch(waiting: Sized, enough: int) -> None:
    """Return once nobody else is on their way, or enough are waiting.

    What begins a turn earlier would take a few of those who come together, and let the others wait
    for a whole batch. A lone caller waits for some empty turns, which take microseconds; who comes
    first of very many, no longer than a commit takes.
    """
    begun_by = time.monotonic() + AT_MOST_SECONDS
    empty_turns, before = 0, len(waiting)
    while empty_turns < _TURNS_ON_THE_WAY and before < enough and time.monotonic() < begun_by:
        await asyncio.sleep(0)
        empty_turns = empty_turns + 1 if len(waiting) == before else 0
        before = len(waiting)
