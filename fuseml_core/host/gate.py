"""Limits how many hook calls a plugin gets at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from fuseml_sdk.calls import Call
from fuseml_sdk.errors import NotReady

#: Calls at once while the plugin has not said otherwise in `describe().concurrency`.
DEFAULT_CONCURRENCY = 8


class GateClosed(Exception):
    """The component behind the gate was taken away or replaced before the call was let in."""


class Gate:
    """A counting lock whose limit may change and that can be closed for good."""

    def __init__(self, limit: int = DEFAULT_CONCURRENCY) -> None:
        self._limit = limit
        self._active = 0
        self._idle = 0
        self._closed = False
        self._changed = threading.Condition()

    def resize(self, limit: int) -> None:
        """Allow `limit` calls at once from now on."""
        with self._changed:
            self._limit = max(1, limit)
            self._changed.notify_all()

    @contextmanager
    def entered(self, call: Call, title: str, *, idle: bool = False) -> Iterator[None]:
        """Hold a place inside the block.

        Args:
            call: Says how long to wait for the place.
            title: Whom the call is for.
            idle: The call only waits for something to happen; nobody misses it when it is given up.

        Raises:
            GateClosed: Nobody is let in any more.
            NotReady: No place became free before the call's deadline.
        """
        self.enter(call, title, idle=idle)
        try:
            yield
        finally:
            self.leave(idle=idle)

    def enter(self, call: Call, title: str, *, idle: bool = False) -> None:
        """Take a place, waiting until the call's deadline; raises as :meth:`entered` does."""
        with self._changed:
            free = self._changed.wait_for(lambda: self._closed or self._active < self._limit, call.remaining())
            if self._closed:
                raise GateClosed(title)
            if not free:
                raise NotReady(f"{title} is busy with {self._active} calls",
                               hint="Call again later, or raise `concurrency` in the plugin's description.")
            self._active += 1
            self._idle += idle

    def leave(self, *, idle: bool = False) -> None:
        """Give the place back."""
        with self._changed:
            self._active -= 1
            self._idle -= idle
            self._changed.notify_all()

    def close(self, seconds: float) -> bool:
        """Let nobody in any more and wait until no call is inside but idle ones.

        Returns:
            False if some still were after `seconds`.
        """
        until = time.monotonic() + seconds
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            while self._active > self._idle:
                left = until - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    return self._active <= self._idle
        return True
