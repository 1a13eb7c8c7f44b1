"""How far transfers have come: counted in bytes and blobs, told at most a few times a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from fuseml_sdk.errors import Cancelled

#: Seconds between two reports, except for the first and the last.
INTERVAL = 0.1


@dataclass(frozen=True, slots=True)
class Moved:
    """A moment of a transfer; sizes in bytes.

    Attributes:
        blobs, of_blobs: Finished ones, and all.
        size, of_size: Bytes that have been moved or were there already, and all.
    """

    blobs: int
    of_blobs: int
    size: int
    of_size: int


#: Takes one moment at a time; called from several threads, never twice at once.
Report = Callable[[Moved], None]
#: Told how many bytes of one blob have been moved so far; the number falls when something is sent again.
Watch = Callable[[int], None]


class Meter:
    """Adds up what several threads move.

    Args:
        report: Whom to tell; nobody if None.
    """

    def __init__(self, report: Report | None) -> None:
        self._report = report
        self._blobs = self._of_blobs = self._size = self._of_size = 0
        self._told, self._stopped = 0.0, False
        self._lock = threading.Lock()

    def expect(self, blobs: int, size: int) -> None:
        """Add blobs with `size` bytes together to what has to be moved."""
        with self._lock:
            self._of_blobs, self._of_size = self._of_blobs + blobs, self._of_size + size

    def blob(self) -> Watch:
        """Return what to call with the bytes moved so far of one more blob."""
        before = 0

        def watch(position: int) -> None:
            nonlocal before
            change, before = position - before, position
            self._move(0, change)

        return watch

    def finished(self, watch: Watch, size: int) -> None:
        """Count a blob of `size` bytes as done."""
        watch(size)
        self._move(1, 0)

    def skipped(self, watch: Watch, size: int) -> None:
        """Take a blob of `size` bytes that was there already out of what has to be moved."""
        watch(0)
        with self._lock:
            self._of_blobs, self._of_size = self._of_blobs - 1, self._of_size - size

    def stop(self) -> None:
        """Make every `watch` raise `Cancelled`, so that threads stop in the middle of a blob."""
        self._stopped = True

    def _move(self, blobs: int, size: int) -> None:
        if self._stopped:
            raise Cancelled("the transfer was stopped")
        with self._lock:
            self._blobs, self._size = self._blobs + blobs, self._size + size
            if not (blobs or size):
                return
            now, done = time.monotonic(), self._blobs == self._of_blobs and blobs
            if self._report and (done or now - self._told >= INTERVAL):
                self._told = now
                self._report(Moved(self._blobs, self._of_blobs, self._size, self._of_size))


def lines(verb: str, say: Callable[[str], None] | None) -> Report | None:
    """Turn moments into lines of text such as `uploading 3 of 5 (1.2 MiB of 8.0 MiB)`, at most one a second.

    Args:
        verb: What is going on.
        say: Takes one line; None takes nothing.
    """
    if say is None:
        return None
    told = -1.0

    def report(moved: Moved) -> None:
        nonlocal told
        now, number = time.monotonic(), min(moved.blobs + 1, moved.of_blobs)
        if told < 0 or now - told >= 1.0:
            told = now
            say(f"{verb} {number} of {moved.of_blobs} ({size_text(moved.size)} of {size_text(moved.of_size)})")

    return report


def both(*reports: Report | None) -> Report | None:
    """Tell several at once; None among them want nothing."""
    wanted = [report for report in reports if report is not None]

    def report(moved: Moved) -> None:
        for each in wanted:
            each(moved)

    return report if wanted else None


def size_text(size: int) -> str:
    """A number of bytes for people: `812 B`, `1.2 MiB`."""
    amount = float(size)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"
