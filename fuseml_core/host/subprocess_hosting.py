"""Runs a component in a process of its own, in its own environment, behind a Unix socket that the host owns.

One process per component, not per extension version: components crash, restart and are configured apart, and the
second process of an extension shares its files in memory with the first.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pluggy
import structlog

from fuseml_core.host import handshake
from fuseml_core.host.backoff import RestartPolicy
from fuseml_core.host.components import Component, ComponentInfo, State
from fuseml_core.host.crashes import CrashLog, CrashReport
from fuseml_core.host.handover import Handover, crosses
from fuseml_core.host.isolation import Isolation
from fuseml_core.host.listener import Listener
from fuseml_core.host.process import PluginProcess
from fuseml_core.host.proxy import make_proxy
from fuseml_core.host.transport import Answer, Lost, Unsent
from fuseml_sdk import calls, loading, problems
from fuseml_sdk.contract import Operation
from fuseml_sdk.errors import Cancelled, NotReady, Permanent, PluginError, Retryable
from fuseml_sdk.negotiation import Agreement

log = structlog.get_logger(__name__)

#: Seconds a plugin may take to import and configure itself.
START_TIMEOUT = 120.0
#: Waits longer than this are told to the caller instead of being slept through.
_LONGEST_SILENT_WAIT = 10.0
#: Seconds that a process which is ended for want of calls has for its `fuseml_shutdown`.
_REST_SECONDS = 10.0


class SubprocessHosting:
    """Starts the process at the first call, restarts it after a crash, and stops it.

    Args:
        component: What to host.
        runtime_dir: Private directory for the socket.
        log: Log file of the extension.
        environ: Variables to choose the child's from.
        policy: When it may be started again after failures.
        start_timeout: Seconds from the start to the first answer.
        isolation: Confines its processes.
    """

    def __init__(self, component: Component, *, runtime_dir: Path, log: Path, environ: Mapping[str, str] | None = None,
                 policy: RestartPolicy | None = None, start_timeout: float = START_TIMEOUT,
                 isolation: Isolation | None = None) -> None:
        self.component = component
        self._runtime_dir = runtime_dir
        self._log = log
        self._environ = os.environ if environ is None else environ
        self._policy = policy or RestartPolicy()
        self._start_timeout = start_timeout
        self._isolation = isolation or Isolation()
        self._isolation.grounds.claim(component)
        self._handover = Handover(component, self._isolation.grounds, self._isolation.user)
        self._lock = threading.Lock()
        self._listener: Listener | None = None
        self._manager: pluggy.PluginManager | None = None
        self._callers: dict[str, Callable[..., Any]] = {}
        self._agreement: Agreement | None = None
        self._process: PluginProcess | None = None
        self._starting: Future[PluginProcess] | None = None
        self._stopped = threading.Event()
        self._starts = 0
        self._rests = 0
        self._crash_log = CrashLog(log.with_suffix(".crashes.jsonl"))
        self._failed = False
        self._last_crash = ""

    def invoke(self, operation: Operation, arguments: dict[str, Any], call: calls.Call) -> Any:
        """Call a hook through pluggy and the proxy, starting the process if it does not run.

        Raises:
            PluginError: What the plugin raised, or what happened to its process.
        """
        hook = operation.hook
        caller = self._callers.get(hook) or self._caller(hook, call)
        with calls.serving(call):
            if crosses(hook, arguments):
                self._running(call)  # Nothing is handed over to what cannot be started.
                with self._handover.given(hook, arguments) as given:
                    result = caller(**given)
            else:
                result = caller(**arguments)
        return self._handover.check(hook, result)

    def info(self) -> ComponentInfo:
        """The state now."""
        with self._lock:
            process = self._process
            return ComponentInfo(self.component, self._state(), process.pid if process else None,
                                 max(0, self._starts - self._rests - 1), self._last_crash,
                                 crashes=self._crash_log.of(f"{self.component.family}/{self.component.name}"),
                                 enforced=self._isolation.enforced(self.component), agreement=self._agreement)

    def rest(self) -> bool:
        """End the process until the next call; the socket stays. To be called while nobody calls.

        Returns:
            False if there is none, or if it has started processes that still run.
        """
        with self._lock:
            process = self._process
            if self._stopped.is_set() or self._starting is not None or process is None or process.has_children:
                return False
            self._rests += 1
        process.stop(_REST_SECONDS)
        return True

    def stop(self, drain: float) -> None:
        """Finish calls in flight, end the process within `drain` seconds, and give up the socket. For good."""
        self._stopped.set()
        with self._lock:
            starting, process = self._starting, self._process
        if process is None and starting is not None:
            try:
                process = starting.result(min(drain, 1.0))
            except Exception:
                with self._lock:
                    process = self._process
        if process is not None:
            process.stop(drain)
        with self._lock:
            if self._listener is not None:
                self._listener.close()
                self._listener = None

    # -- calls -----------------------------------------------------------------------------------------------------

    def _caller(self, hook: str, call: calls.Call) -> Callable[..., Any]:
        """The way to call a hook, looked up once; what a plugin offers shows at its first start."""
        self._running(call)
        assert self._manager is not None
        found = self._callers[hook] = loading.caller(self._manager, hook)
        return found

    def _exchange(self, operation: Operation, arguments: dict[str, Any]) -> Any:
        """What the proxy's hooks do: send, and once more if the process went away and that is safe."""
        body = operation.encode_arguments(arguments)
        call = calls.current()
        for last in (False, True):
            process = self._running(call)
            try:
                answer = process.request("POST", operation.route, body, handshake.headers(call),
                                         call.remaining())
            except TimeoutError:
                raise Cancelled(f"{self.component.title} did not answer {operation.hook} before the deadline",
                                details={"call_id": call.id}) from None
            except (Unsent, Lost) as error:
                # What never arrived may be sent again whatever it is; what may have been acted upon only if that
                # does no harm.
                if not last and (isinstance(error, Unsent) or operation.idempotent):
                    process.exited.wait(2.0)
                    continue
                raise self._broken(process, operation) from None
            return self._result(operation, answer)
        raise AssertionError("unreachable")  # pragma: no cover

    def _result(self, operation: Operation, answer: Answer) -> Any:
        if answer.status == 200:
            return operation.decode_result(answer.body)
        raise handshake.problem_of(answer)

    def _broken(self, process: PluginProcess, operation: Operation) -> PluginError:
        process.exited.wait(2.0)
        text = process.obituary()
        message = (f"{self.component.title} crashed in {operation.hook}: {text}" if text else
                   f"{self.component.title} closed the connection during {operation.hook}")
        details = {"crash": text}
        if operation.idempotent:
            return Retryable(message, hint=f"See {self._log}.", details=details)
        return Permanent(message, hint=f"The call was not repeated, because it may have taken effect. See {self._log}.",
                         details=details)

    # -- life ------------------------------------------------------------------------------------------------------

    def _running(self, call: calls.Call) -> PluginProcess:
        """The process, ready; started if need be. Raises why there is none."""
        process = self._process
        if process is not None and self._starting is None and not self._stopped.is_set():
            return process  # If it ends at this moment, the request will tell.
        with self._lock:
            if self._stopped.is_set():
                raise NotReady(f"{self.component.title} is stopped")
            if self._process is not None and self._starting is None:
                return self._process
            future = self._starting or self._begin(call)
        try:
            return future.result(call.remaining())
        except TimeoutError:
            raise NotReady(f"{self.component.title} is still starting", hint="Call again shortly.") from None

    def _begin(self, call: calls.Call) -> Future[PluginProcess]:
        """Start in another thread, so that a caller who gives up does not stop the start. Needs the lock."""
        delay = self._policy.delay
        if self._policy.is_open or delay > min(_LONGEST_SILENT_WAIT, call.remaining() or _LONGEST_SILENT_WAIT):
            raise NotReady(f"{self.component.title} failed {self._policy.failures} times and starts again in "
                           f"{delay:.0f} s: {self._last_crash}", hint=f"See {self._log}.",
                           details={"crash": self._last_crash})
        future: Future[PluginProcess] = Future()
        try:
            threading.Thread(target=self._start, args=(future, delay), name="fuseml-start", daemon=True).start()
        except RuntimeError as error:  # the machine has no room for a thread now
            raise NotReady(f"{self.component.title} cannot be started: {error}", hint="Call again shortly.") from None
        # The thread waits for the lock before it says how the start went, so this is never too late.
        self._starting = future
        return future

    def _start(self, future: Future[PluginProcess], delay: float) -> None:
        process: PluginProcess | None = None
        try:
            if self._stopped.wait(delay):
                raise NotReady(f"{self.component.title} is stopped")
            process = self._launch()
            self._handshake(process)
        except Exception as error:
            known = error if isinstance(error, PluginError) else problems.unexpected(error)
            reason = self.component.masking.error(known)
            died = process is not None and process.ended
            if process is not None:
                process.stop(5.0)
            with self._lock:
                self._starting = None
                self._note_failure(process.report() if process and died else self._no_start(reason), 0.0)
            future.set_exception(reason)
            return
        with self._lock:
            self._starting = None
            self._failed = False
            if self._process is not process:  # Its end was reported while it still counted as starting.
                self._note_failure(process.report(), process.lifetime)
        if self._stopped.is_set():
            process.stop(1.0)
        future.set_result(process)

    def _launch(self) -> PluginProcess:
        with self._lock:
            if self._stopped.is_set():
                raise NotReady(f"{self.component.title} is stopped")
            if self._listener is None:
                self._listener = Listener(self._runtime_dir)
            listener = self._listener
            self._starts += 1
        try:
            process = PluginProcess(self.component, listener.socket, listener.path, log=self._log,
                                    environ=self._environ, isolation=self._isolation, on_exit=self._ended)
        except OSError as error:
            name = self.component.extension
            raise Permanent(f"{self.component.title} cannot be started: {error}",
                            hint=f"Repair it with: fuseml extension verify --repair {name}") from None
        with self._lock:
            if not process.ended:
                self._process = process
        return process

    def _handshake(self, process: PluginProcess) -> None:
        """One round trip that shows what the plugin speaks and whether it could be loaded and configured."""
        try:
            answer = process.request("GET", handshake.DESCRIBE, None, {}, self._start_timeout)
        except TimeoutError:
            raise NotReady(f"{self.component.title} did not answer within {self._start_timeout:g} s of its start"
                           ) from None
        except (Unsent, Lost):
            process.exited.wait(2.0)
            raise Retryable(f"{self.component.title} ended while starting: {process.obituary()}",
                            hint=f"See {self._log}.") from None
        self._agreement = handshake.agreement_of(self.component.title, answer, self.component.family)
        if not self._agreement.accepted:
            raise self._agreement.refusal()
        if self._manager is None:
            self._manager = loading.manager_for(make_proxy(self._agreement.hooks, self._exchange))

    def _ended(self, process: PluginProcess) -> None:
        with self._lock:
            was_ready = self._process is process and self._starting is None
            if self._process is process:
                self._process = None
            if was_ready and not process.stopping:
                self._note_failure(process.report(), process.lifetime)

    def _no_start(self, reason: PluginError) -> CrashReport:
        return CrashReport(time.time(), "did not start", detail=reason.message, version=self.component.version,
                           component=f"{self.component.family}/{self.component.name}")

    def _note_failure(self, report: CrashReport | None, ran_for: float) -> None:
        """Remember a crash or a failed start. Needs the lock."""
        if self._stopped.is_set() or report is None:
            return
        self._failed = True
        self._last_crash = (f"did not start: {report.detail}" if report.cause == "did not start" else report.text())
        self._policy.failed(ran_for)
        self._crash_log.add(report)
        log.warning("plugin process failed", component=self.component.title, cause=self._last_crash,
                    hook=report.hook, call=report.call_id)

    def _state(self) -> State:
        if self._stopped.is_set():
            return "stopped"
        if self._starting is not None:
            return "starting"
        if self._process is not None:
            return "ready"
        return "failed" if self._failed else "idle"
