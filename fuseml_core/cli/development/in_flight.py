"""Calls that have begun and not ended: an author sees one that hangs while it hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

#: Seconds after which a call is told for the first time; then after twice as long, and so on.
PATIENCE = 2.0


@dataclass
class _Call:
    hook: str
    began: float
    tell_after: float


class InFlight:
    """The calls in flight of one process.

    Args:
        tell: Takes the hook of a call that goes on, and the seconds so far.
    """

    def __init__(self, tell: Callable[[str, float], None]) -> None:
        self._tell = tell
        self._changed = threading.Condition()
        self._calls: dict[int, _Call] = {}
        self._teller: threading.Thread | None = None

    def begin(self, number: int, hook: str, wait: float = 0.0) -> None:
        """A call has begun.

        Args:
            number: Tells it from the others.
            hook: Of which hook.
            wait: Seconds that it was asked to wait for something, which nobody wonders about.
        """
        with self._changed:
            self._calls[number] = _Call(hook, time.monotonic(), wait + PATIENCE)
            if self._teller is None:
                self._teller = threading.Thread(target=self._run, name="fuseml-in-flight", daemon=True)
                self._teller.start()
            self._changed.notify()

    def end(self, number: int) -> None:
        """A call has ended."""
        with self._changed:
            self._calls.pop(number, None)
            self._changed.notify()

    def abandon(self) -> list[tuple[str, float]]:
        """The process has ended: forget its calls. Returns the hook and the seconds of each."""
        with self._changed:
            left = [(call.hook, time.monotonic() - call.began) for call in self._calls.values()]
            self._calls.clear()
            self._changed.notify()
        return left

    def _run(self) -> None:
        """Tell about calls as they become long; ends when there is none in flight."""
        while True:
            with self._changed:
                if not self._calls:
                    self._teller = None
                    return
                now = time.monotonic()
                late = [call for call in self._calls.values() if now - call.began >= call.tell_after]
                for call in late:
                    call.tell_after = 2 * (now - call.began)
                if not late:
                    self._changed.wait(min(call.began + call.tell_after for call in self._calls.values()) - now)
                    continue
            for call in late:
                self._tell(call.hook, now - call.began)
