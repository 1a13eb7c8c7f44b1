"""The short way for hooks of the server's own plugins that have shown to be quick: on the caller's own thread.

Handing a call to another thread and back costs many times what a quick hook takes, and is only needed to leave a hook
that hangs. So a hook that ends within a millisecond, several times in a row, is called directly. One that is slower, or
is not back at its deadline, goes the long way from then on; `docs/adr/0014-quick-hooks-run-on-the-callers-thread.md`.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from time import monotonic, sleep
from types import FrameType
from typing import Any

import structlog
from pydantic import ValidationError

from fuseml_core.host.facades import default_timeout
from fuseml_core.host.gate import Gate
from fuseml_core.host.handover import CROSSING, crosses
from fuseml_core.host.metrics import Series
from fuseml_core.host.tracing import Trace, TracedCall
from fuseml_sdk import problems
from fuseml_sdk.calls import Call, served
from fuseml_sdk.contract import Operation
from fuseml_sdk.errors import Cancelled, Internal, PluginError
from fuseml_sdk.quickness import SLOW

log = structlog.get_logger(__name__)

#: Seconds between two looks for hooks that are not back at their deadline.
LOOK = 0.5
#: What is answered when a call must go the long way.
NOT_HERE = object()
_set, _reset, _get, _new = served.set, served.reset, served.get, object.__new__


class Lane:
    """Calls one quick hook of one component. Only for hooks without a time to wait among their arguments.

    Args:
        operation: The hook.
        caller: Calls it through pluggy.
        gate: Of the component.
        series: Where its calls are counted.
        trace: Where its calls are remembered.
        failed: Makes of an exception what is to be raised.
        retire: Called when the hook is not quick any more.
    """

    def __init__(self, operation: Operation, caller: Callable[..., Any], *, gate: Gate, series: Series, trace: Trace,
                 failed: Callable[[Exception], PluginError], retire: Callable[[], None]) -> None:
        self._operation = operation
        self._hook = operation.hook
        self._may_cross = operation.hook in CROSSING
        self._caller = caller
        whole = all(parameter.required for parameter in operation.parameters)
        self._check = operation.arguments_adapter.validator.validate_python if whole else None
        self._check_result = operation.result_adapter.validator.validate_python
        self._gate = gate
        self._enter, self._leave = gate.places.pop, gate.places.append
        self._identifier = series.component.id
        self._series = series
        self._count = series.pending.append
        self._remember = trace.ring.append
        self._failed = failed
        self._retire = retire
        self._timeout = default_timeout(operation.hook, {})

    def call(self, arguments: dict[str, Any], timeout: float | None) -> Any:
        """Call it, or give :data:`NOT_HERE` if that must go the long way. Raises what `PluginHost.call` does.

        What is written out here instead of being a function of its own is so because it is measured in nanoseconds.
        """
        if self._may_cross and crosses(self._hook, arguments):
            return NOT_HERE
        try:
            self._enter()
        except IndexError:
            return NOT_HERE
        began = monotonic()
        call = _new(TracedCall)
        call.deadline = began + (self._timeout if timeout is None else timeout)
        call.parent = _get()
        token, outcome = _set(call), ""
        try:
            try:
                if self._check is None:
                    checked = self._operation.check_arguments(arguments)
                else:
                    checked = self._check(arguments, extra="ignore")
            except ValidationError:
                checked = self._operation.check_arguments(arguments)  # It raises what explains it.
            result = self._caller(**checked)
            try:
                return self._check_result(result, extra="ignore")
            except ValidationError:
                raise self._wrong(result) from None
        except (Exception, SystemExit) as error:
            failure = self._failed(error if isinstance(error, Exception) else problems.unexpected(error))
            outcome = failure.type
            self._series.note(outcome)
            if failure is error:
                raise
            raise failure from error
        finally:
            _reset(token)
            ended = monotonic()
            gate = self._gate
            gate.last_left = ended
            self._leave(None)
            if gate.attention:
                gate.settle()
            took = ended - began
            self._count(took)
            self._remember((ended, self._identifier, self._hook, call, took, outcome))
            if took > SLOW:
                self._was_slow(call, ended)

    def _wrong(self, result: Any) -> Exception:
        if result is None:
            return Internal(f"{self._hook} returned nothing")
        try:
            self._operation.check_result(result)
        except Internal as error:
            return error
        return Internal(f"the result of {self._hook} changed while it was looked at")

    def _was_slow(self, call: Call, ended: float) -> None:
        self._retire()
        if call.deadline is not None and ended > call.deadline:
            # As for a call that was left: what it did is done, its answer came too late.
            raise self._failed(Cancelled(f"{self._hook} ended after its deadline", details={"call_id": call.id}))

    def overdue(self, call: Call, thread: int) -> None:
        """Report a call that is not back at its deadline, with what its thread is doing."""
        self._retire()
        call.cancel()
        frame = sys._current_frames().get(thread)
        where = "".join(traceback.format_stack(frame)[-4:]) if frame is not None else ""
        log.warning("hook is not back at its deadline", component=self._identifier, hook=self._hook,
                    call=call.id, where=where)


def running() -> Iterator[tuple[int, Lane, Call]]:
    """What runs on lanes now: thread, lane and call. Read off the stacks, so that it costs the calls nothing."""
    for thread, top in sys._current_frames().items():
        frame: FrameType | None = top
        while frame is not None:
            if frame.f_code is Lane.call.__code__:
                here = frame.f_locals
                if isinstance(here.get("call"), Call) and "ended" not in here:
                    yield thread, here["self"], here["call"]
            frame = frame.f_back


class Watch:
    """Looks from time to time for hooks that are not back at their deadline, and adds up what lanes have counted.

    Args:
        fold: Adds it up; false when there is nothing to look after any more, which ends the thread.
    """

    def __init__(self, fold: Callable[[], bool]) -> None:
        self._fold = fold
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Look from now on."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="fuseml-deadlines", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        reported: set[Call] = set()
        while True:
            sleep(LOOK)
            here = list(running())
            reported &= {call for _, _, call in here}
            for thread, lane, call in here:
                if call.expired and call not in reported:
                    reported.add(call)
                    lane.overdue(call, thread)
            with self._lock:
                if not self._fold():
                    self._thread = None
                    return
