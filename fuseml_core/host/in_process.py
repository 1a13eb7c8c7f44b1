"""Runs a component in the server's own process, for first-party plugins.

Such a plugin changes only when the server restarts: modules cannot be unloaded safely.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pluggy

from fuseml_core.host.backoff import RestartPolicy
from fuseml_core.host.components import Component, ComponentInfo, State
from fuseml_core.host.grounds import Grounds
from fuseml_core.host.handover import Handover, crosses
from fuseml_sdk import calls, loading, negotiation, problems
from fuseml_sdk.contract import Operation, operations
from fuseml_sdk.errors import Cancelled, NotReady, PluginError
from fuseml_sdk.negotiation import Agreement
from fuseml_sdk.quickness import Quickness
from fuseml_sdk.serve.workers import Workers

#: With this variable set to 1 every call is written to JSON and read back, as it would be on the wire.
STRICT_VARIABLE = "FUSEML_STRICT_HOSTING"
#: Hooks of a component that may be running on after their callers have left, before calls are refused.
MAX_LEFT = 16
_workers = Workers()


class InProcessHosting:
    """Imports and configures the plugin at the first call and calls it through pluggy.

    Args:
        component: What to host.
        policy: When a plugin that could not be loaded is tried again.
        strict: Round-trip arguments and results through JSON; by default what `FUSEML_STRICT_HOSTING` says.
        grounds: Say which files other components may change; None: there are none.
    """

    def __init__(self, component: Component, *, policy: RestartPolicy | None = None,
                 strict: bool | None = None, grounds: Grounds | None = None) -> None:
        self.component = component
        self._handover = Handover(component, grounds or Grounds())
        self._policy = policy or RestartPolicy()
        self._strict = os.environ.get(STRICT_VARIABLE) == "1" if strict is None else strict
        self._lock = threading.Lock()
        self._manager: pluggy.PluginManager | None = None
        self._agreement: Agreement | None = None
        self._serving: set[calls.Call] = set()
        self._quickness = Quickness()
        self._starts = 0
        self._last_crash = ""
        self._stopped = False

    def invoke(self, operation: Operation, arguments: dict[str, Any], call: calls.Call) -> Any:
        """Call a hook in another thread, so that the caller can leave at the deadline even if the hook hangs.

        Raises:
            PluginError: What the plugin raised; `Cancelled` when the deadline passed first.
        """
        left = sum(1 for each in list(self._serving) if each.cancelled)
        if left >= MAX_LEFT:
            raise NotReady(f"{self.component.title} has {left} hooks that did not end at their deadlines",
                           hint="Call again later; restart the server if they never end.")
        job = _workers.run(lambda: self._serve(operation, arguments, call))
        if job.wait(call.remaining()) and not call.expired:
            if job.error is not None:
                raise job.error
            return job.result
        call.cancel()
        raise Cancelled(f"{self.component.title} did not answer {operation.hook} before the deadline",
                        details={"call_id": call.id})

    def quick(self, hook: str) -> Callable[..., Any] | None:
        """The way to call a hook on the caller's own thread, if it has shown to be quick."""
        if self._strict or not self._quickness.has(hook):
            return None
        caller = getattr(self._manager.hook, hook) if self._manager is not None else None
        return caller if caller is not None and caller.get_hookimpls() else None

    def not_quick(self, hook: str) -> None:
        """Note that a hook has to show again that it is quick."""
        self._quickness.forget(hook)

    def info(self) -> ComponentInfo:
        """The state now."""
        return ComponentInfo(self.component, self._state(), os.getpid() if self._manager else None,
                             max(0, self._starts - 1), self._last_crash,
                             agreement=self._agreement)

    def stop(self, drain: float) -> None:  # noqa: ARG002  calls in flight were waited for at the gate
        """Call `fuseml_shutdown` and refuse calls from now on."""
        with self._lock:
            manager, self._manager, self._stopped = self._manager, None, True
        for call in list(self._serving):
            call.cancel()
        if manager is not None and manager.hook.fuseml_shutdown.get_hookimpls():
            loading.call(manager, "fuseml_shutdown", {})

    def _serve(self, operation: Operation, arguments: dict[str, Any], call: calls.Call) -> Any:
        """In another thread: answer, and note how long it took and whether anybody still waited."""
        began = time.monotonic()
        self._serving.add(call)
        try:
            with calls.serving(call):
                if not crosses(operation.hook, arguments):
                    return self._answer(operation, arguments)
                with self._handover.given(operation.hook, arguments) as given:
                    return self._answer(operation, given)
        except PluginError:
            raise
        except BaseException as error:
            raise problems.unexpected(error) from error
        finally:
            self._serving.discard(call)
            self._quickness.note(operation.hook, time.monotonic() - began)

    def _answer(self, operation: Operation, arguments: dict[str, Any]) -> Any:
        manager = self._loaded()
        if self._strict:
            arguments = operation.decode_arguments(operation.encode_arguments(arguments))
        result = operation.check_result(loading.call(manager, operation.hook, arguments))
        return operation.decode_result(operation.encode_result(result)) if self._strict else result

    def _loaded(self) -> pluggy.PluginManager:
        with self._lock:
            if self._stopped:
                raise NotReady(f"{self.component.title} is stopped")
            if self._manager is None:
                self._manager = self._load()
            return self._manager

    def _load(self) -> pluggy.PluginManager:
        if self._policy.delay > 0:
            raise NotReady(f"{self.component.title} {self._last_crash}",
                           hint=f"It is tried again in {self._policy.delay:.0f} s.")
        self._starts += 1
        try:
            manager = loading.manager_for(loading.load(self.component.plugin))
            notices = tuple(notice.text for notice in loading.deprecated(manager))
            self._agreement = negotiation.own(manager, notices, family=self.component.family)
            self._configure(manager)
        except Exception as error:
            self._policy.failed(0.0)
            reason = error if isinstance(error, PluginError) else problems.unexpected(error)
            self._last_crash = f"did not start: {reason.message}"
            raise
        return manager

    def _configure(self, manager: pluggy.PluginManager) -> None:
        self.component.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not manager.hook.fuseml_configure.get_hookimpls():
            return
        operation = operations()["fuseml_configure"]
        # Always a copy: the plugin may keep and change what it gets.
        sent = {"config": self.component.config, "state_dir": str(self.component.state_dir)}
        loading.call(manager, operation.hook, operation.decode_arguments(operation.encode_arguments(sent)))

    def _state(self) -> State:
        if self._stopped:
            return "stopped"
        if self._manager is not None:
            return "ready"
        return "failed" if self._last_crash else "idle"
