"""Slowing down those who guess passwords."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

#: Wrong guesses that are free, and the longest wait in seconds.
FREE, LONGEST = 5, 300.0
#: Guessers remembered at the same time, and seconds after which one is forgotten.
REMEMBERED, FORGOTTEN = 10_000, 900.0


class Throttle:
    """Counts wrong passwords by key, such as an address; each one over `FREE` doubles the wait.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, *keys: str) -> float:
        """Return seconds until any of these may try again; 0 now."""
        now = self._clock()
        with self._lock:
            return max((self._until(key, now) - now for key in keys), default=0.0)

    def failed(self, *keys: str) -> None:
        """Count a wrong password."""
        now = self._clock()
        with self._lock:
            for key in keys:
                count, last = self._failures.pop(key, (0, now))
                self._failures[key] = (1 if now - last > FORGOTTEN else count + 1, now)
            while len(self._failures) > REMEMBERED:
                self._failures.popitem(last=False)

    def succeeded(self, *keys: str) -> None:
        """Forget the wrong passwords before a right one."""
        with self._lock:
            for key in keys:
                self._failures.pop(key, None)

    def _until(self, key: str, now: float) -> float:
        count, last = self._failures.get(key, (0, 0.0))
        if count < FREE or now - last > FORGOTTEN:
            return now
        return last + min(2.0 ** (count - FREE), LONGEST)
