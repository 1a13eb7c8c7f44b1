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
    """Counts wrong passwords by key, such as an address; each one over those that are free doubles the wait.

    Args:
        clock: Seconds that only grow.
        free: Wrong guesses without a wait.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, free: int = FREE) -> None:
        self._clock, self._free = clock, free
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, key: str) -> float:
        """Return seconds until a key may try again; 0 now."""
        now = self._clock()
        with self._lock:
            return self._until(key, now) - now

    def failed(self, key: str) -> None:
        """Count a wrong password."""
        now = self._clock()
        with self._lock:
            count, last = self._failures.pop(key, (0, now))
            self._failures[key] = (1 if now - last > FORGOTTEN else count + 1, now)
            while len(self._failures) > REMEMBERED:
                self._failures.popitem(last=False)

    def succeeded(self, key: str) -> None:
        """Forget the wrong passwords before a right one."""
        with self._lock:
            self._failures.pop(key, None)

    def _until(self, key: str, now: float) -> float:
        count, last = self._failures.get(key, (0, 0.0))
        if count < self._free or now - last > FORGOTTEN:
            return now
        return last + min(2.0 ** min(count - self._free, 30), LONGEST)
