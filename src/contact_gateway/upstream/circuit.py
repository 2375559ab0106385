"""A circuit breaker: while upstream is down, calls fail at once.

Unlike the libraries' breakers, a half-open circuit admits one trial call and refuses all others
until the trial ends.
"""

import random
import time
from collections.abc import Callable
from typing import Final

FAILURE_THRESHOLD: Final = 5
MIN_BACKOFF_SECONDS: Final = 1.0
MAX_BACKOFF_SECONDS: Final = 30.0


class CircuitOpenError(Exception):
    """The circuit is open. Retry after `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"open for {seconds:.1f} seconds")
        self.seconds = seconds


class Circuit:
    """Opens after several failures in a row; after a backoff, one trial call may close it.

    The backoff doubles with each failed trial. Its jitter keeps many gateways from retrying at the
    same moment.

    Args:
        now: a monotonic clock, in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now: Final = now
        self._failures = 0
        self._backoff_seconds = MIN_BACKOFF_SECONDS
        self._retry_at: float | None = None
        self._is_half_open = False
        self._generation = 0

    def admit(self) -> int:
        """Admit a call, whose end must be recorded by one of the methods below.

        Returns:
            The circuit's generation, one for each time that it opened. Failures of calls from
            before it opened do not count again.

        Raises:
            CircuitOpenError: the circuit is open, or its trial call is in flight.
        """
        if self._retry_at is not None:
            seconds_left = self._retry_at - self._now()
            if seconds_left > 0 or self._is_half_open:
                raise CircuitOpenError(max(seconds_left, 1.0))
            self._is_half_open = True
        return self._generation

    def record_success(self) -> None:
        """Close the circuit: a response shows that upstream is up, however old its call is."""
        self._failures = 0
        self._backoff_seconds = MIN_BACKOFF_SECONDS
        self._retry_at = None
        self._is_half_open = False

    def record_failure(self, generation: int) -> None:
        """Count a failure; open the circuit if it is one too many, or that of the trial call."""
        if generation != self._generation:
            return
        self._failures += 1
        if self._is_half_open:
            self._backoff_seconds = min(self._backoff_seconds * 2, MAX_BACKOFF_SECONDS)
        elif self._failures < FAILURE_THRESHOLD:
            return
        self._is_half_open = False
        self._generation += 1
        jitter = random.uniform(0.8, 1.2)  # noqa: S311 - no secret
        self._retry_at = self._now() + self._backoff_seconds * jitter

    def record_cancellation(self, generation: int) -> None:
        """Make room for another trial call: a cancelled call is neither success nor failure."""
        if generation == self._generation:
            self._is_half_open = False
