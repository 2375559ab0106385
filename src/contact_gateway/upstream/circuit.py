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


class CircuitOpenError(Exception):
    """Upstream is down for all; it is no use to ask before `seconds` have passed."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"open for {seconds:.1f} seconds")
        self.seconds = seconds


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
        self._tried_from: float | None = None
        self._is_tried = False
        self._era = 0

    def admit(self) -> int:
        """Ask to make a call, whose end is then told by `succeeded`, `failed` or `abandoned`.

        Returns:
            The era in which it was admitted. What an older one's calls failed of is known already.

        Raises:
            CircuitOpenError: it may not be made now.
        """
        if self._tried_from is not None:
            seconds_left = self._tried_from - self._now()
            if seconds_left > 0 or self._is_tried:
                raise CircuitOpenError(max(seconds_left, 1.0))
            self._is_tried = True
        return self._era

    def succeeded(self) -> None:
        """Tell that a call came back, be it late: upstream is there."""
        self._failures = 0
        self._pause = FIRST_PAUSE_SECONDS
        self._tried_from = None
        self._is_tried = False

    def failed(self, era: int) -> None:
        """Tell that a call did not come back."""
        if era != self._era:
            return
        self._failures += 1
        if self._is_tried:
            self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)
        elif self._failures < FAILURES_THAT_OPEN:
            return
        self._is_tried = False
        self._era += 1
        self._tried_from = self._now() + self._pause * random.uniform(0.8, 1.2)  # noqa: S311 - no secret

    def abandoned(self, era: int) -> None:
        """Tell that a call was given up by its caller, which says nothing of upstream."""
        if era == self._era:
            self._is_tried = False
