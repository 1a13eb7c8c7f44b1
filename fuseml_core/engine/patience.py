"""How long the engine has waited for something that others should do, and when it asks again."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

#: Seconds between the first two attempts; doubles to the longest.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0
#: Things that are remembered at most: a hostile agent may invent names for ever.
MOST = 10_000


@dataclass(slots=True)
class _Wait:
    """When the waiting began, and when to act next, by the monotonic clock; the next pause in seconds."""

    since: float
    next: float
    pause: float


class Patience:
    """Remembers what is waited for, by name; nothing of it outlives the process. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waits: dict[str, _Wait] = {}

    def waited(self, what: str) -> float:
        """Seconds since this was first called for it; 0 the first time."""
        with self._lock:
            return time.monotonic() - self._wait(what).since

    def due(self, what: str) -> bool:
        """Whether to act now: at once the first time, then after pauses that double."""
        with self._lock:
            wait, now = self._wait(what), time.monotonic()
            if now < wait.next:
                return False
            wait.next, wait.pause = now + wait.pause, min(wait.pause * 2, LONGEST_PAUSE)
            return True

    def forget(self, what: str) -> None:
        """It has happened: waiting for it begins anew."""
        if self._waits:
            with self._lock:
                self._waits.pop(what, None)

    def _wait(self, what: str) -> _Wait:
        now = time.monotonic()
        wait = self._waits.setdefault(what, _Wait(now, now, FIRST_PAUSE))
        while len(self._waits) > MOST:
            self._waits.pop(next(iter(self._waits)))
        return wait
