"""When a component that fails may be started again."""

from __future__ import annotations

import time
from collections.abc import Callable


class RestartPolicy:
    """Backoff with a circuit breaker: the first restart is immediate, later ones wait, and then a pause is made.

    Not thread-safe by itself; its owner holds a lock.

    Args:
        first: Seconds before the second restart; doubled for each further one.
        threshold: Failures in a row after which the breaker opens.
        pause: Seconds that it stays open; then one start is tried.
        stable: Seconds of running after which earlier failures are forgotten.
        clock: Monotonic seconds.
    """

    def __init__(self, *, first: float = 0.5, threshold: int = 5, pause: float = 30.0, stable: float = 60.0,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._first = first
        self._threshold = threshold
        self._pause = pause
        self._stable = stable
        self._clock = clock
        self._not_before = 0.0
        self.failures = 0

    def failed(self, ran_for: float) -> None:
        """Note a crash or a failed start after `ran_for` seconds of readiness."""
        self.failures = 1 if ran_for >= self._stable else self.failures + 1
        if self.failures >= self._threshold:
            wait = self._pause
        else:
            wait = self._first * 2 ** (self.failures - 2) if self.failures > 1 else 0.0
        self._not_before = self._clock() + wait

    @property
    def delay(self) -> float:
        """Seconds until a start is allowed."""
        return max(0.0, self._not_before - self._clock())

    @property
    def is_open(self) -> bool:
        """Whether the breaker refuses starts at this moment."""
        return self.failures >= self._threshold and self.delay > 0
