"""The call that is being served: its deadline and the ids that tie logs and traces together.

Plugins read it with :func:`current` to stop in time or to pass the trace on; hosts and runtimes set it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a hook.

    Attributes:
        deadline: When the caller stops waiting, in seconds of `time.monotonic()`; None means never.
        id: Names this call in the logs of both sides.
        traceparent: W3C trace context; empty if nobody traces.
    """

    deadline: float | None = None
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    traceparent: str = ""

    def remaining(self) -> float | None:
        """Seconds until the deadline, not below zero; None without a deadline."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    @property
    def expired(self) -> bool:
        """Whether the caller has stopped waiting."""
        return self.deadline is not None and time.monotonic() >= self.deadline


_current: ContextVar[Call | None] = ContextVar("fuseml_call", default=None)


def current() -> Call:
    """The call being served in this context; one without deadline outside of any."""
    return _current.get() or Call()


@contextmanager
def serving(call: Call) -> Iterator[Call]:
    """Make `call` the current one inside the block."""
    token = _current.set(call)
    try:
        yield call
    finally:
        _current.reset(token)
