"""How often a component is asked for events: one that can wait at once again, one that cannot as often as it says."""

from __future__ import annotations

import math
import time
from typing import Protocol

from fuseml_sdk.types import AgentDescription, StoreDescription

#: An answer without news in less than this many seconds is of a component that did not wait, whatever it declares.
QUICK = 0.2
#: So many quick answers with news follow each other without a pause; after them even news come no faster than that.
BURST = 20
#: Seconds after which a component is asked again, however long the interval that it declares.
LONGEST = 3600.0


class Described(Protocol):
    """A store or an agent."""

    def describe(self) -> StoreDescription | AgentDescription:
        """What it says of itself."""
        ...


class Rhythm:
    """Tells the pauses between the calls of one component's `events` hook.

    Args:
        component: Says in its description how often to ask when it cannot wait.
    """

    def __init__(self, component: Described) -> None:
        self._component = component
        self._interval: float | None = None
        self._known = False
        self._began = 0.0
        self._quick = 0

    def begin(self) -> None:
        """Note that events are asked for now. Raises what describe raises, the first time."""
        if not self._known:
            self._interval = self._component.describe().events_interval
            self._known = True
        self._began = time.monotonic()

    def pause(self, *, news: bool) -> float:
        """Seconds to wait after an answer; `news` tells whether it held what was not known before."""
        if self._interval is not None and math.isfinite(self._interval):
            return min(max(self._interval, QUICK), LONGEST)
        took = time.monotonic() - self._began
        self._quick = self._quick + 1 if took < QUICK else 0
        return 0.0 if took >= QUICK or (news and self._quick <= BURST) else QUICK - took
