"""Ends plugin processes that nobody has called for a while. Their sockets stay, so the next call starts them again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import structlog

from fuseml_core.host.gate import Gate

log = structlog.get_logger(__name__)

#: Seconds between two looks, at most and at least.
_LONGEST, _SHORTEST = 15.0, 0.05


@dataclass(frozen=True)
class Candidate:
    """A component whose process may be ended.

    Attributes:
        title: How people know it.
        gate: Where its calls pass.
        rest: Ends the process until the next call; False if there is none or it must not be ended.
        seconds: How long it must not have been called.
    """

    title: str
    gate: Gate
    rest: Callable[[], bool]
    seconds: float


class Eviction:
    """Looks through the components from time to time, in a thread that ends when there are none.

    A process is ended only while its gate is shut: no call can be in flight, and one that comes just then waits and
    is served by the next process.

    Args:
        candidates: Gives the components as they are now.
        clock: Monotonic seconds.
    """

    def __init__(self, candidates: Callable[[], Iterable[Candidate]], *,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._candidates = candidates
        self._clock = clock
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._changed = threading.Event()

    def changed(self) -> None:
        """Note that components were added or removed."""
        with self._lock:
            self._changed.set()
            if self._thread is None and any(True for _ in self._candidates()):
                self._thread = threading.Thread(target=self._run, name="fuseml-eviction", daemon=True)
                self._thread.start()

    def look(self) -> list[str]:
        """End the processes that are due; gives the titles of their components."""
        ended = []
        for candidate in self._candidates():
            if not self._due(candidate):
                continue
            with candidate.gate.paused() as free:
                if free and self._due(candidate) and candidate.rest():
                    ended.append(candidate.title)
                    log.info("plugin process ended until the next call", component=candidate.title,
                             idle_seconds=candidate.seconds)
        return ended

    def _due(self, candidate: Candidate) -> bool:
        return self._clock() - candidate.gate.last_left >= candidate.seconds

    def _run(self) -> None:
        while True:
            with self._lock:
                waits = [candidate.seconds for candidate in self._candidates()]
                if not waits:
                    self._thread = None
                    return
                self._changed.clear()
            self._changed.wait(min(_LONGEST, max(_SHORTEST, min(waits) / 4)))
            self.look()


def candidates(entries: Iterable[tuple[Any, ...]], default: float | None) -> Iterable[Candidate]:
    """Those of a host's components that may be ended.

    Args:
        entries: Hostings with their gates.
        default: Seconds for components that do not say otherwise; None for never.
    """
    for hosting, gate, *_ in entries:
        own = hosting.component.idle_seconds
        seconds = default if own is not None and own < 0 else own
        if seconds is not None and hasattr(hosting, "rest"):
            yield Candidate(hosting.component.title, gate, hosting.rest, seconds)
