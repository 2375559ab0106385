"""A circuit breaker: while upstream is down for all, nobody waits for it.

The libraries' breakers let every call through once their pause is over; here one call tries, and
the others are refused until it has come back.
"""

import random
import time
from collections.abc import Callable
from typing import Final

FAILURES_THAT_OPEN: Final = 5
FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 30.0


class Circuit:
    """Closed while calls come back; open, for a while, after several in a row have not.

    The pause doubles with each trial that fails, and is spread by chance, so that many gateways
    do not try at one moment.

    Args:
        now: a monotonic clock, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now: Final = now
        self._failures = 0
        self._pause = FIRST_PAUSE_SECONDS
        self._opens_until: float | None = None
        self._is_tried = False

    def admit(self) -> float | None:
        """Ask to make a call, whose end is then told by `succeeded`, `failed` or `abandoned`.

        Returns:
            None where it may be made; else the seconds after which to ask again.
        """
        if self._opens_until is None:
            return None
        seconds_left = self._opens_until - self._now()
        if seconds_left > 0 or self._is_tried:
            return max(seconds_left, 1.0)
        self._is_tried = True
        return None

    def succeeded(self) -> None:
        """Tell that a call came back: upstream is there."""
        self._failures = 0
        self._pause = FIRST_PAUSE_SECONDS
        self._opens_until = None
        self._is_tried = False

    def failed(self) -> None:
        """Tell that a call did not come back."""
        self._failures += 1
        if self._is_tried:
            self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)
        elif self._failures < FAILURES_THAT_OPEN:
            return
        self._is_tried = False
        self._opens_until = self._now() + self._pause * random.uniform(0.8, 1.2)  # noqa: S311 - no secret

    def abandoned(self) -> None:
        """Tell that a call was given up by its caller, which says nothing of upstream."""
        self._is_tried = False
