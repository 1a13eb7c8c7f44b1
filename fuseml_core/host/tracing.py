"""Which calls were made lately, and the W3C trace context that ties them together."""

from __future__ import annotations

import random
import re
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase

import structlog

from fuseml_sdk import calls

log = structlog.get_logger(__name__)

#: Set to 1, or to a pattern of hook names such as `store_*`, it writes every such call to the server's log.
VARIABLE = "FUSEML_TRACE_HOOKS"
#: Calls that are remembered.
KEPT = 1000
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
# Ids must be unlikely to meet, not hard to guess; this one is seeded by the operating system and ten times as fast.
_random = random.Random()  # noqa: S311


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One call that ended.

    Attributes:
        at: When it ended, in seconds since the epoch.
        component: Id of the component.
        hook: Name of the hook.
        call_id: Names it in the logs of both sides.
        traceparent: W3C trace context that the plugin got.
        duration: Seconds, waiting for a place included.
        outcome: `ok`, or the class of the error.
    """

    at: float
    component: str
    hook: str
    call_id: str
    traceparent: str
    duration: float
    outcome: str


class TracedCall(calls.Call):
    """A call that is a span of its own below the call being served, or the first one of a new trace.

    Ids are made when somebody asks: most calls within the server are never looked at.

    Args:
        deadline: In seconds of `time.monotonic()`.
        parent: The call during which this one is made; None, or one without a trace, begins a trace.
    """

    def __init__(self, deadline: float | None, parent: calls.Call | None = None) -> None:
        self.deadline = deadline
        self.parent = parent

    @property
    def traceparent(self) -> str:
        """The context that the plugin gets: the trace of the caller, and a span id of this call alone."""
        if not self._traceparent:
            self._traceparent = child(self.parent.traceparent if self.parent else "")
        return self._traceparent


def child(parent: str) -> str:
    """A trace context below `parent`, by W3C Trace Context level 1, section 3.2."""
    span = f"{_random.getrandbits(64) or 1:016x}"
    if _TRACEPARENT.fullmatch(parent):
        return f"{parent[:36]}{span}{parent[52:]}"
    return f"00-{_random.getrandbits(128) or 1:032x}-{span}-01"


class Trace:
    """Remembers the last calls, and writes those that are asked for to the log.

    Args:
        environ: Where :data:`VARIABLE` is looked up.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        wanted = environ.get(VARIABLE, "")
        self._pattern = "*" if wanted in ("1", "true", "yes") else "" if wanted in ("0", "false", "no") else wanted
        #: Whether nothing is written, so that remembering is all there is to do.
        self.quiet = not self._pattern
        self._offset = time.time() - time.monotonic()
        #: Seconds of `time.monotonic()` at the end, component, hook, call, duration and outcome.
        self.ring: deque[tuple[float, str, str, calls.Call, float, str]] = deque(maxlen=KEPT)

    def add(self, ended: float, component: str, hook: str, call: calls.Call, duration: float, outcome: str) -> None:
        """Remember a call that ended.

        Args:
            ended: Seconds of `time.monotonic()`.
            component: See :class:`CallRecord`.
            hook: See there.
            call: Gives the ids.
            duration: See there.
            outcome: Class of the error; empty for none.
        """
        entry = (ended, component, hook, call, duration, outcome)
        self.ring.append(entry)
        if self._pattern and fnmatchcase(hook, self._pattern):
            log.info("hook call", **asdict(_record(entry, self._wall())))

    def records(self, component: str | None = None) -> list[CallRecord]:
        """The last calls, oldest first, of one component or of all."""
        offset = self._wall()
        return [_record(entry, offset) for entry in list(self.ring) if component in (None, entry[1])]

    def _wall(self) -> float:
        """What the clock on the wall shows more than the monotonic one.

        Who asks for the calls after the last one that he has seen must meet the same times, so this changes only when
        the clock was set.
        """
        now = time.time() - time.monotonic()
        if abs(now - self._offset) > 1.0:
            self._offset = now
        return self._offset


def _record(entry: tuple[float, str, str, calls.Call, float, str], offset: float) -> CallRecord:
    ended, component, hook, call, duration, outcome = entry
    return CallRecord(ended + offset, component, hook, call.id, call.traceparent, duration, outcome or "ok")
