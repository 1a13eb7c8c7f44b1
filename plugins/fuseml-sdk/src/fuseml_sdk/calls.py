"""The call that is being served: its deadline and the ids that tie logs and traces together.

Plugins read it with :func:`current` to stop in time or to pass the trace on; hosts and runtimes set it.
"""

from __future__ import annotations

import os
import random
import threading
import time
from contextvars import ContextVar

from fuseml_sdk.errors import Cancelled

_lazy = threading.Lock()
# Ids must be unlikely to meet, not hard to guess: seeded by the operating system, and by nobody who wants the same
# numbers again, as programs for machine learning do.
_random = random.Random()  # noqa: S311
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)


class Call:
    """One call of a hook.

    Args:
        deadline: When the caller stops waiting, in seconds of `time.monotonic()`; None means never.
        id: Names this call in the logs of both sides; made up when it is first asked for.
        traceparent: W3C trace context; empty if nobody traces.
    """

    # Kept with the class until somebody sets them: a call is made for each hook, and most need none of these.
    _id = ""
    _traceparent = ""
    _cancelled = False
    _signal: threading.Event | None = None

    def __init__(self, deadline: float | None = None, id: str = "", traceparent: str = "") -> None:  # noqa: A002
        self.deadline = deadline
        if id:
            self._id = id
        if traceparent:
            self._traceparent = traceparent

    @property
    def id(self) -> str:
        """Names this call in the logs of both sides."""
        if not self._id:
            with _lazy:
                self._id = self._id or f"{_random.getrandbits(64):016x}"
        return self._id

    @property
    def traceparent(self) -> str:
        """W3C trace context to send along with whatever the hook asks of others; empty if nobody traces."""
        return self._traceparent

    def remaining(self) -> float | None:
        """Seconds until the deadline, not below zero; None without a deadline."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    @property
    def expired(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the answer any more: the caller has given up, or the deadline has passed."""
        return self._cancelled or self.expired

    def cancel(self) -> None:
        """Note that the caller has given up; for hosts and runtimes."""
        self._cancelled = True
        with _lazy:
            signal = self._signal
        if signal is not None:
            signal.set()

    def wait(self, seconds: float) -> bool:
        """Sleep, but no longer than somebody waits for the answer.

        Args:
            seconds: How long at most.

        Returns:
            Whether the call is cancelled, so that the hook should clean up and end.
        """
        with _lazy:
            signal = self._signal = self._signal or threading.Event()
        if not self._cancelled:
            left = self.remaining()
            signal.wait(seconds if left is None else min(seconds, left))
        return self.cancelled

    def check(self) -> None:
        """Raise `Cancelled` if nobody waits for the answer; call it between the parts of long work."""
        if self.cancelled:
            raise Cancelled("the caller has given up" if self._cancelled else "the deadline has passed")


#: The call being served in this context; for hosts and runtimes, plugins ask :func:`current`.
served: ContextVar[Call | None] = ContextVar("fuseml_call", default=None)


def current() -> Call:
    """The call being served in this context; one without deadline outside of any."""
    return served.get() or Call()


def active() -> Call | None:
    """The call being served in this context, if there is one."""
    return served.get()


class serving:  # noqa: N801  named as what is written: `with serving(call):`
    """Make `call` the current one inside the block, which gets it.

    Args:
        call: What is served.
    """

    # A class and not a generator, because entering and leaving a generator costs as much as a tenth of a call.
    __slots__ = ("_call", "_token")

    def __init__(self, call: Call) -> None:
        self._call = call

    def __enter__(self) -> Call:
        self._token = served.set(self._call)
        return self._call

    def __exit__(self, *_: object) -> None:
        served.reset(self._token)
