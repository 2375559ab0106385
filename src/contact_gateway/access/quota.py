"""A key's budget at one moment."""

import math
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quota:
    """What a key has left of its budget.

    The window opens with a key's first operation and closes an hour later, at `resets_at`
    (seconds since the epoch).
    """

    limit: int
    remaining: int
    resets_at: float
    exceeded: bool = False

    def seconds_left(self) -> int:
        """Return the whole seconds after which the budget is full again, at least one."""
        return max(1, math.ceil(self.resets_at - time.time()))
