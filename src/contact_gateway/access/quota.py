"""What is left of a key's hourly quota."""

import math
import time
from typing import NamedTuple


class Quota(NamedTuple):
    """A quota at one moment.

    The counting window opens with a key's first operation and ends at `resets_at` (seconds since
    the epoch). `excess` is how many of the operations just counted were too many. `window_seconds`
    is the length of the window; None where the source of truth counts, and does not report it.
    """

    limit: int
    remaining: int
    resets_at: float
    excess: int = 0
    window_seconds: int | None = None

    @property
    def exceeded(self) -> bool:
        """Whether an operation was too many."""
        return self.excess > 0

    def seconds_left(self) -> int:
        """Return the whole seconds until the window ends, at least 1."""
        return max(1, math.ceil(self.resets_at - time.time()))
