"""The plugin host: components in, typed facades out."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from fuseml_core.domain.errors import Conflict, Invalid, NotFound
from fuseml_core.host.address_hosting import AddressHosting
from fuseml_core.host.components import Component, ComponentInfo, Family, attribute
from fuseml_core.host.eviction import Candidate, Eviction, candidates
from fuseml_core.host.facades import AgentFacade, BuilderFacade, StoreFacade, default_timeout
from fuseml_core.host.gate import Gate, GateClosed
from fuseml_core.host.in_process import InProcessHosting
from fuseml_core.host.isolation import Isolation
from fuseml_core.host.lanes import NOT_HERE, Lane, Watch
from fuseml_core.host.listener import remove_stale
from fuseml_core.host.metrics import HookStatistics, Metrics
from fuseml_core.host.subprocess_hosting import SubprocessHosting
from fuseml_core.host.tracing import CallRecord, Trace, TracedCall
from fuseml_sdk import calls, problems
from fuseml_sdk.contract import Operation, operations
from fuseml_sdk.errors import PluginError, Unsupported

#: Seconds that a call may take at most; clocks and operating systems know no `inf`.
LONGEST = 30 * 24 * 3600.0


class Hosting(Protocol):
    """Where one component runs."""

    component: Component

    def invoke(self, operation: Operation, arguments: dict[str, Any], call: calls.Call) -> Any:
        """Call one hook, starting the plugin if need be."""

    def info(self) -> ComponentInfo:
        """The state now."""

    def stop(self, drain: float) -> None:
        """End it for good; calls in flight get `drain` seconds."""


class _Entry(NamedTuple):
    """A component in the host, with the short ways to its quick hooks."""

    hosting: Hosting
    gate: Gate
    lanes: dict[str, Lane]


class PluginHost:
    """Holds components and calls their hooks; safe to use from several threads.

    Args:
        runtime_dir: Private directory with a short path, for sockets; made if missing.
        log_dir: Directory with one log file per extension.
        drain_seconds: How long calls in flight may take at :meth:`shutdown`.
        environ: Variables to choose those of plugin processes from; the server's own by default.
        hosting: Makes the hosting of a component; by default by its `hosting` attribute.
        idle_seconds: A process that nobody called for so long is ended, unless its component says otherwise; None
            never ends it.
        isolation: Confines plugin processes; by default with what the machine can do.
    """

    def __init__(self, *, runtime_dir: Path, log_dir: Path, drain_seconds: float = 30.0,
                 environ: Mapping[str, str] | None = None, idle_seconds: float | None = 300.0,
                 hosting: Callable[[Component], Hosting] | None = None,
                 isolation: Isolation | None = None) -> None:
        self.isolation = isolation or Isolation()
        self._runtime_dir = runtime_dir
        self._log_dir = log_dir
        self._drain_seconds = drain_seconds
        self._environ = os.environ if environ is None else environ
        self._idle_seconds = idle_seconds
        self._metrics = Metrics()
        self._trace = Trace(self._environ)
        self._make = hosting or self._hosting_of
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._eviction = Eviction(self._evictable)
        self._watch = Watch(self._fold)
        runtime_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_stale(runtime_dir)

    # -- components ------------------------------------------------------------------------------------------------

    def add(self, component: Component) -> None:
        """Make a component known. Nothing is imported or started before its first call.

        Raises:
            Conflict: The id is taken.
        """
        entry = _Entry(self._make(component), Gate(queue=component.queue), {})
        with self._lock:
            if component.id in self._entries:
                raise Conflict(f"component {component.id} is there already", hint="Use replace, or another id.")
            self._entries[component.id] = entry
        self._eviction.changed()

    def replace(self, component: Component, drain: float | None = None) -> None:
        """Put a component in the place of the one with the same id, at once for new calls, and drain the old one.

        Raises:
            NotFound: There is no component with this id.
        """
        entry = _Entry(self._make(component), Gate(queue=component.queue), {})
        with self._lock:
            if component.id not in self._entries:
                raise _unknown(component.id)
            old = self._entries[component.id]
            self._entries[component.id] = entry
        self._eviction.changed()
        self._stop(old, drain)

    def remove(self, identifier: str, drain: float | None = None) -> None:
        """Take a component away: new calls find nothing, those in flight get `drain` seconds, then it ends.

        Raises:
            NotFound: There is no such component.
        """
        with self._lock:
            entry = self._entries.pop(identifier, None)
        if entry is None:
            raise _unknown(identifier)
        self._eviction.changed()
        self._metrics.forget(identifier)
        self._stop(entry, drain)

    def registered(self) -> list[Component]:
        """What was added, by id; unlike :meth:`components` it costs nothing to know."""
        with self._lock:
            return [entry[0].component for _, entry in sorted(self._entries.items())]

    def info(self, identifier: str) -> ComponentInfo:
        """The state of one component. Raises `NotFound` if there is none of this id."""
        entry = self._entry(identifier)
        return self._completed(entry.hosting.info(), entry.gate)

    def components(self) -> list[ComponentInfo]:
        """The state of every component, by id."""
        with self._lock:
            entries = sorted(self._entries.items())
        return [self._completed(hosting.info(), gate) for _, (hosting, gate, _) in entries]

    def statistics(self, identifier: str | None = None) -> list[HookStatistics]:
        """Rate, errors and duration of each hook that was called, of one component or of all."""
        return self._metrics.statistics(identifier)

    def metrics_text(self) -> str:
        """The same in the text format of Prometheus."""
        return self._metrics.text()

    def trace(self, identifier: str | None = None) -> list[CallRecord]:
        """The last calls, oldest first, of one component or of all; at most 1000 altogether."""
        return self._trace.records(identifier)

    def shutdown(self, drain: float | None = None) -> None:
        """Remove all components, at the same time; calls in flight get `drain` seconds. The host can be used again."""
        with self._lock:
            entries = list(self._entries.values())
            self._entries.clear()
        self._eviction.changed()
        threads = [threading.Thread(target=self._stop, args=(entry, drain)) for entry in entries]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def log_of(self, component: Component) -> Path:
        """Where what the processes of a component write is kept; those of one extension share the file."""
        return self._log_dir / f"{component.extension}.log"

    # -- facades ---------------------------------------------------------------------------------------------------

    def store(self, identifier: str) -> StoreFacade:
        """Typed access to an artifact store. Raises `NotFound`, or `Invalid` if it is of another family."""
        return StoreFacade(self._caller(identifier, "store"))

    def agent(self, identifier: str) -> AgentFacade:
        """Typed access to a workload agent. Raises `NotFound`, or `Invalid` if it is of another family."""
        return AgentFacade(self._caller(identifier, "agent"))

    def builder(self, identifier: str) -> BuilderFacade:
        """Typed access to a builder. Raises `NotFound`, or `Invalid` if it is of another family."""
        return BuilderFacade(self._caller(identifier, "builder"))

    def call(self, identifier: str, hook: str, arguments: dict[str, Any], timeout: float | None = None) -> Any:
        """Call one hook by name; what the facades do.

        Args:
            identifier: Id of the component.
            hook: Name with prefix.
            arguments: By parameter name.
            timeout: Seconds; None takes the hook's default.

        Raises:
            NotFound: There is no such component.
            PluginError: What the plugin raised or what happened to it, with attribution in `details`.
        """
        entry = self._entries.get(identifier)
        lane = entry.lanes.get(hook) if entry is not None else None
        if lane is not None:
            result = lane.call(arguments, timeout)
            if result is not NOT_HERE:
                return result
        began = time.monotonic()
        seconds = default_timeout(hook, arguments) if timeout is None else timeout
        call = TracedCall(began + min(seconds, LONGEST), calls.active())
        while True:
            try:
                return self._counted(self._entry(identifier), hook, arguments, call, began)
            except GateClosed:
                continue  # it was replaced in the meantime: the next one takes the call; or removed: there is none

    def _counted(self, entry: _Entry, hook: str, arguments: dict[str, Any], call: calls.Call, began: float) -> Any:
        component = entry.hosting.component
        series = self._metrics.of(component, hook)
        outcome = ""
        series.began()
        try:
            return self._call(entry, hook, arguments, call)
        except GateClosed:
            outcome = "moved"
            raise
        except PluginError as error:
            outcome = error.type
            raise
        finally:
            ended = time.monotonic()
            series.ended(ended - began, outcome)
            self._trace.add(ended, component.id, hook, call, ended - began, outcome)

    def _call(self, entry: _Entry, hook: str, arguments: dict[str, Any], call: calls.Call) -> Any:
        """Call one hook of one hosting. Raises what :meth:`call` does, or `GateClosed`."""
        hosting, gate, lanes = entry
        operation = operations()[hook]
        idle = hook.endswith("_events")
        try:
            gate.enter(call, hosting.component.title, idle=idle)
            began = time.monotonic()
            try:
                result = hosting.invoke(operation, operation.check_arguments(arguments), call)
            finally:
                gate.leave(idle=idle, seconds=time.monotonic() - began)
        except GateClosed:
            raise
        except Exception as error:
            failure = _attributed(error, hosting.component, hook)
            if isinstance(failure, Unsupported) and hook == "fuseml_health":
                return {}
            if failure is error:
                raise
            raise failure from error
        if hook.endswith("_describe"):
            gate.resize(result.concurrency)
        elif hook not in lanes and isinstance(hosting, InProcessHosting) and self._trace.quiet:
            self._make_lane(entry, hosting, operation)
        return result

    def _make_lane(self, entry: _Entry, hosting: InProcessHosting, operation: Operation) -> None:
        caller = hosting.quick(operation.hook)
        if caller is None:
            return

        def retire() -> None:
            hosting.not_quick(operation.hook)
            entry.lanes.pop(operation.hook, None)

        entry.lanes[operation.hook] = Lane(
            operation, caller, gate=entry.gate, series=self._metrics.of(hosting.component, operation.hook),
            trace=self._trace, failed=lambda error: _attributed(error, hosting.component, operation.hook),
            retire=retire)
        self._watch.begin()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _caller(self, identifier: str, family: Family) -> Callable[[str, dict[str, Any], float | None], Any]:
        component = self._entry(identifier)[0].component
        if component.family != family:
            raise Invalid(f"component {identifier} is of the family {component.family}, not {family}")
        return partial(self.call, identifier)

    def _entry(self, identifier: str) -> _Entry:
        entry = self._entries.get(identifier)  # one step of the interpreter, which needs no lock
        if entry is None:
            raise _unknown(identifier)
        return entry

    def _fold(self) -> bool:
        self._metrics.fold()
        return any(entry.lanes for entry in list(self._entries.values()))

    def _evictable(self) -> list[Candidate]:
        return list(candidates(list(self._entries.values()), self._idle_seconds))

    def _completed(self, info: ComponentInfo, gate: Gate) -> ComponentInfo:
        done = self._metrics.calls(info.component.id)
        since = None if gate.active or not done else time.time() - (time.monotonic() - gate.last_left)
        return dataclasses.replace(info, calls=done, in_flight=gate.active + gate.waiting, idle_since=since)

    def _stop(self, entry: _Entry, drain: float | None) -> None:
        hosting, gate, _ = entry
        seconds = self._drain_seconds if drain is None else drain
        started = time.monotonic()
        gate.close(seconds)
        hosting.stop(max(0.5, seconds - (time.monotonic() - started)))

    def _hosting_of(self, component: Component) -> Hosting:
        if component.hosting == "in-process":
            return InProcessHosting(component, grounds=self.isolation.grounds)
        if component.hosting == "address":
            return AddressHosting(component, ca_bundle=self._environ.get("FUSEML_CA_BUNDLE", ""),
                                  grounds=self.isolation.grounds)
        return SubprocessHosting(component, runtime_dir=self._runtime_dir, environ=self._environ,
                                 isolation=self.isolation, log=self.log_of(component))


def _attributed(error: Exception, component: Component, hook: str) -> PluginError:
    known = error if isinstance(error, PluginError) else problems.unexpected(error)
    return attribute(component.masking.error(known), component, hook)


def _unknown(identifier: str) -> NotFound:
    return NotFound(f"there is no component {identifier}", hint="List them with: fuseml agent list")
