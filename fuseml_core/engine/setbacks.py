"""What is done after an error that nobody expected: the thing it met rests for a while, and the log says it once."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import structlog

log = structlog.get_logger(__name__)

#: Seconds that something rests after its first error; doubles with each further one, to the longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0
#: Seconds between two lines of the log about errors of one kind.
SAY_EVERY = 60.0
#: Kinds, and things that rest, that are remembered at most: a hostile agent may invent names for ever.
MOST = 10_000


@dataclass(slots=True)
class _Rest:
    """How long something rests: its last pause in seconds, and the end of it by the monotonic clock."""

    pause: float
    until: float


@dataclass(slots=True)
class _Kind:
    """Errors of one kind: how many since the last line of the log, in all, and when that line was written."""

    new: int
    count: int
    said_at: float


class Setbacks:
    """Does things one by one, so that one which goes wrong does not stop the others.

    What raised an error is left alone for 0.2 s, then twice as long each time up to 10 s, until it succeeds. What else
    there is goes on meanwhile. An error is logged with its traceback when the first of its kind comes, and after that
    as a count once a minute.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._resting: dict[str, _Rest] = {}
        self._kinds: dict[str, _Kind] = {}

    def attempt(self, what: str, act: Callable[[], object]) -> bool:
        """Do something unless it rests after an error.

        Args:
            what: Names it; what rests is told by this name, and the log says it.
            act: Does it; whatever it raises is logged.

        Returns:
            Whether it was done.
        """
        if self.rests(what):
            return False
        try:
            act()
        except Exception as error:
            self._note(what, error)
            return False
        if self._resting:
            with self._lock:
                self._resting.pop(what, None)
        return True

    def rests(self, what: str) -> bool:
        """Whether something is left alone for now."""
        with self._lock:
            rest = self._resting.get(what)
            return rest is not None and time.monotonic() < rest.until

    def _note(self, what: str, error: Exception) -> None:
        now, kind = time.monotonic(), _kind(error)
        with self._lock:
            before = self._resting.get(what)
            pause = min(before.pause * 2, LONGEST_PAUSE) if before is not None else FIRST_PAUSE
            self._resting[what] = _Rest(pause, now + pause)
            _shorten(self._resting)
            known = self._kinds.setdefault(kind, _Kind(0, 0, float("-inf")))
            _shorten(self._kinds)
            known.new, known.count = known.new + 1, known.count + 1
            first, due = known.count == 1, now - known.said_at >= SAY_EVERY
            new = known.new
            if due:
                known.new, known.said_at = 0, now
        if first:
            log.error("the engine met an error and goes on", what=what, pause=pause, exc_info=error)
        elif due:
            log.error("the engine met the same error again", what=what, error=str(error)[:500], kind=kind, times=new,
                      in_all=known.count)


def _kind(error: Exception) -> str:
    """The class of an error and where it was raised; messages differ with what they are about."""
    frames = traceback.extract_tb(error.__traceback__)
    own = next((f for f in reversed(frames) if "fuseml" in f.filename), frames[-1] if frames else None)
    return f"{type(error).__name__} at {own.name}:{own.lineno}" if own is not None else type(error).__name__


def _shorten(entries: dict[str, _Rest] | dict[str, _Kind]) -> None:
    while len(entries) > MOST:
        entries.pop(next(iter(entries)))
