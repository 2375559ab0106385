"""What is left of a key's hourly quota."""

import math
import time
from typing import NamedTuple


class Quota(NamedTuple):
    """A quota at one moment.

    The counting window opens with a key's first operation and ends at `resets_at` (seconds since
    the epoch). `exceeded` is true for an operation that was one too many. `window_seconds` is the
    length of the window; None where the source of truth counts, and does not report it.
    """

    limit: int
    remaining: int
    resets_at: float
    exceeded: bool = False
    window_seconds: int | None = None

    def seconds_left(self) -> int:
        """Return the whole seconds until the window ends, at least 1."""
        return max(1, math.ceil(self.resets_at - time.time()))
