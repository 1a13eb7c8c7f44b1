"""Runs a component in the server's own process, for first-party plugins.

Such a plugin changes only when the server restarts: modules cannot be unloaded safely.
"""

from __future__ import annotations

import contextvars
import os
import threading
from concurrent.futures import Future
from typing import Any

import pluggy

from fuseml_core.host.backoff import RestartPolicy
from fuseml_core.host.components import Component, ComponentInfo, State
from fuseml_sdk import calls, loading, problems
from fuseml_sdk.contract import Operation, operations
from fuseml_sdk.errors import Cancelled, NotReady, PluginError

#: With this variable set to 1 every call is written to JSON and read back, as it would be on the wire.
STRICT_VARIABLE = "FUSEML_STRICT_HOSTING"


class InProcessHosting:
    """Imports and configures the plugin at the first call and calls it through pluggy.

    Args:
        component: What to host.
        policy: When a plugin that could not be loaded is tried again.
        strict: Round-trip arguments and results through JSON; by default what `FUSEML_STRICT_HOSTING` says.
    """

    def __init__(self, component: Component, *, policy: RestartPolicy | None = None,
                 strict: bool | None = None) -> None:
        self.component = component
        self._policy = policy or RestartPolicy()
        self._strict = os.environ.get(STRICT_VARIABLE) == "1" if strict is None else strict
        self._lock = threading.Lock()
        self._manager: pluggy.PluginManager | None = None
        self._starts = 0
        self._last_crash = ""
        self._stopped = False

    def invoke(self, operation: Operation, arguments: dict[str, Any], call: calls.Call) -> Any:
        """Call a hook in a thread of its own, so that the deadline holds even if the hook hangs.

        Raises:
            PluginError: What the plugin raised; `Cancelled` when the deadline passed first.
        """
        future: Future[Any] = Future()
        context = contextvars.copy_context()
        threading.Thread(target=lambda: context.run(self._complete, future, operation, arguments, call),
                         name=f"fuseml-{operation.hook}", daemon=True).start()
        try:
            return future.result(call.remaining())
        except TimeoutError:
            if future.done():
                raise  # The hook's own: a TimeoutError that was classified cannot get here.
            raise Cancelled(f"{self.component.title} did not answer {operation.hook} before the deadline",
                            details={"call_id": call.id}) from None

    def info(self) -> ComponentInfo:
        """The state now."""
        return ComponentInfo(self.component, self._state(), os.getpid() if self._manager else None,
                             max(0, self._starts - 1), self._last_crash)

    def stop(self, drain: float) -> None:  # noqa: ARG002  calls in flight were waited for at the gate
        """Call `fuseml_shutdown` and refuse calls from now on."""
        with self._lock:
            manager, self._manager, self._stopped = self._manager, None, True
        if manager is not None and manager.hook.fuseml_shutdown.get_hookimpls():
            loading.call(manager, "fuseml_shutdown", {})

    def _complete(self, future: Future[Any], operation: Operation, arguments: dict[str, Any], call: calls.Call) -> None:
        try:
            with calls.serving(call):
                future.set_result(self._answer(operation, arguments))
        except PluginError as error:
            future.set_exception(error)
        except BaseException as error:
            defect = problems.unexpected(error)
            defect.__cause__ = error
            future.set_exception(defect)

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
