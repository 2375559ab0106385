"""When a batch starts: once the jobs that arrive together are queued."""

import asyncio
import time
from collections.abc import Sized
from typing import Final

MAX_DELAY_SECONDS: Final = 0.005
"""How long the first job in a queue waits for others at most: about as long as a commit takes."""

# A request needs this many turns of the event loop from its socket to the queue.
_TURNS_TO_QUEUE: Final = 3


async def fill_batch(queue: Sized, batch_size: int) -> None:
    """Return once the queue has stopped growing, or holds a full batch.

    A batch that started earlier would take only some of the jobs that arrive together, and the
    others would wait for a whole batch. A lone job waits for three empty turns of the event loop,
    which take microseconds.
    """
    deadline = time.monotonic() + MAX_DELAY_SECONDS
    empty_turns, length = 0, len(queue)
    while empty_turns < _TURNS_TO_QUEUE and length < batch_size and time.monotonic() < deadline:
        await asyncio.sleep(0)
        empty_turns = empty_turns + 1 if len(queue) == length else 0
        length = len(queue)
