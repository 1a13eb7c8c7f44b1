"""Limits how many hook calls a plugin gets at once, and how many may wait for a place."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from fuseml_sdk.calls import Call
from fuseml_sdk.errors import NotReady

#: Calls at once while the plugin has not said otherwise in `describe().concurrency`.
DEFAULT_CONCURRENCY = 8
#: Calls at once, whatever the plugin says: each of them is a thread of the server.
MAX_CONCURRENCY = 1024
#: Calls that may wait for a place.
DEFAULT_QUEUE = 64


class GateClosed(Exception):
    """The component behind the gate was taken away or replaced before the call was let in."""


class Gate:
    """A counting lock whose limit may change and that can be closed for good; those who wait are let in by turns.

    A place is an item in a list, so that taking a free one and giving it back needs no lock: both are one step of the
    interpreter. Everything else happens under the lock, and `attention` sends those who leave there.

    Args:
        limit: Calls at once.
        queue: Calls that may wait; more are refused at once, so that a slow plugin does not pile up its callers.
    """

    def __init__(self, limit: int = DEFAULT_CONCURRENCY, queue: int = DEFAULT_QUEUE) -> None:
        self._limit = limit
        self._queue = queue
        self._made = limit
        self._idle = 0
        self._closed = False
        self._paused = False
        self._lock = threading.Lock()
        self._waiting: deque[_Place] = deque()
        self._left = threading.Condition(self._lock)
        self._busy_seconds = 0.0
        #: The free places. Who takes one must give it back, and then call :meth:`settle` if `attention` is set.
        self.places: list[None] = [None] * limit
        #: Whether somebody waits, for a place or for the last to leave.
        self.attention = False
        #: When the last one left, in seconds of `time.monotonic()`; before any, when the gate was made.
        self.last_left = time.monotonic()

    @property
    def active(self) -> int:
        """Calls inside."""
        return self._made - len(self.places)

    @property
    def waiting(self) -> int:
        """Calls that wait for a place."""
        return len(self._waiting)

    def resize(self, limit: int) -> None:
        """Allow `limit` calls at once from now on; at least one, and at most :data:`MAX_CONCURRENCY`."""
        limit = min(max(1, limit), MAX_CONCURRENCY)
        if limit == self._limit:
            return
        with self._lock:
            self._limit = limit
            self._settle()

    @contextmanager
    def entered(self, call: Call, title: str, *, idle: bool = False) -> Iterator[None]:
        """Hold a place inside the block.

        Args:
            call: Says how long to wait for the place.
            title: Whom the call is for.
            idle: The call only waits for something to happen; nobody misses it when it is given up.

        Raises:
            GateClosed: Nobody is let in any more.
            NotReady: No place became free before the call's deadline, or too many wait already.
        """
        self.enter(call, title, idle=idle)
        try:
            yield
        finally:
            self.leave(idle=idle)

    def enter(self, call: Call, title: str, *, idle: bool = False) -> None:
        """Take a place, waiting until the call's deadline; raises as :meth:`entered` does."""
        with self._lock:
            if self._closed:
                raise GateClosed(title)
            if self._take():
                self._idle += idle
                return
            if len(self._waiting) >= self._queue:
                raise self._crowded(title)
            place = _Place(idle)
            self._waiting.append(place)
            self._settle()  # Somebody may have left without seeing that we wait.
        place.ready.wait(call.remaining())
        with self._lock:
            if place.granted:
                return
            if self._closed:
                raise GateClosed(title)
            self._waiting.remove(place)
            self._settle()
            raise NotReady(f"{title} is busy with {self.active} calls",
                           hint="Call again later, or raise `concurrency` in the plugin's description.")

    def leave(self, *, idle: bool = False, seconds: float = 0.0) -> None:
        """Give the place back.

        Args:
            idle: As for :meth:`enter`.
            seconds: How long it was held; foretells how long others will wait.
        """
        with self._lock:
            self._idle -= idle
            self._busy_seconds += (seconds - self._busy_seconds) / 16
            self.last_left = time.monotonic()
            self.places.append(None)
            self._settle()

    def settle(self) -> None:
        """What whoever has left without the lock must call when there is `attention`."""
        with self._lock:
            self._settle()

    @contextmanager
    def paused(self) -> Iterator[bool]:
        """Let nobody in inside the block: they wait. Gives False, and does nothing, if somebody is inside already."""
        with self._lock:
            before, self._paused = self._paused, True
            self._settle()
            free = not (before or self._closed or self.active or self._waiting)
            if not free:
                self._paused = before
                self._settle()
        try:
            yield free
        finally:
            if free:
                with self._lock:
                    self._paused = False
                    self._settle()

    def close(self, seconds: float) -> bool:
        """Let nobody in any more and wait until no call is inside but idle ones.

        Returns:
            False if some still were after `seconds`.
        """
        until = time.monotonic() + seconds
        with self._lock:
            self._closed = True
            for place in self._waiting:
                place.ready.set()
            self._waiting.clear()
            self._settle()
            while self.active > self._idle:
                left = until - time.monotonic()
                if left <= 0 or not self._left.wait(left):
                    return self.active <= self._idle
        return True

    def _take(self) -> bool:
        try:
            self.places.pop()
        except IndexError:
            return False
        return True

    def _settle(self) -> None:
        """Make as many places as there may be, and let in who waits longest. Needs the lock."""
        # Set first: who leaves from here on comes by when we are done.
        self.attention = True
        wanted = 0 if self._closed or self._paused else self._limit
        while self._made < wanted:
            self._made += 1
            self.places.append(None)
        while self._made > wanted and self._take():
            self._made -= 1
        while self._waiting and self._take():
            place = self._waiting.popleft()
            place.granted = True
            self._idle += place.idle
            place.ready.set()
        if self._closed:
            self._left.notify_all()
        self.attention = bool(self._waiting) or self._made != wanted

    def _crowded(self, title: str) -> NotReady:
        wait = max(1.0, self._busy_seconds * len(self._waiting) / self._limit)
        return NotReady(f"{title} is busy with {self.active} calls, and {len(self._waiting)} more wait",
                        hint=f"Call again in {wait:.0f} s, or raise `concurrency` in the plugin's description.",
                        details={"retry_after": round(wait, 1)})


class _Place:
    """Somebody who waits to be let in."""

    __slots__ = ("granted", "idle", "ready")

    def __init__(self, idle: bool) -> None:
        self.ready = threading.Event()
        self.granted = False
        self.idle = idle
