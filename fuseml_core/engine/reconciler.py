"""The loop that drives everything: reports of agents in, states of runs and services out."""

from __future__ import annotations

import threading
import time
from dataclasses import asdict
from functools import partial

import structlog

from fuseml_core.domain.errors import FusemlError, Unavailable
from fuseml_core.domain.records import FINAL_STEP_STATES, Instance, InstanceState, Step, StepState
from fuseml_core.engine.completion import Completion, interruption
from fuseml_core.engine.ending import ENDED, Ending
from fuseml_core.engine.progress import Progress
from fuseml_core.engine.rhythm import Rhythm
from fuseml_core.engine.serving import CANCEL_GRACE, Serving
from fuseml_core.engine.setbacks import Setbacks
from fuseml_core.service.components import Agent, Components
from fuseml_core.service.ports import Ledger
from fuseml_sdk.errors import InvalidInput, NotReady, PluginError
from fuseml_sdk.types import WorkloadStatus

log = structlog.get_logger(__name__)

#: Seconds between two looks at everything, when nothing wakes the loop before.
IDLE = 1.0
#: Seconds between two full comparisons with the agents, which make up for reports that were missed.
COMPARE_EVERY = 5.0
EVENTS_WAIT = 10.0
#: Seconds that agents have for the end of all workloads when the server ends; one may have to be started for it.
END_TIMEOUT = 30.0
#: Seconds after which an agent that is not there counts as removed; upgrading one takes less.
MISSING_AFTER = 60.0
_LIVE_INSTANCES = (InstanceState.STARTING, InstanceState.READY)
_LIVE_STEPS = (StepState.RUNNING, StepState.COMPLETING)


class Reconciler:
    """One thread that looks at the database and at agents, and lets what should happen next happen.

    Nothing is kept in memory that cannot be read again: after a crash the next start goes on where this one was.
    """

    def __init__(self, ledger: Ledger, components: Components, progress: Progress, completion: Completion,
                 serving: Serving) -> None:
        self._ledger = ledger
        self._components = components
        self._progress = progress
        self._completion = completion
        self._serving = serving
        self._setbacks = Setbacks()
        self._wake = threading.Event()
        self._stop = threading.Event()
        # Only the last report of each workload: an agent may report faster than reports are taken in.
        self._reports: dict[str, WorkloadStatus] = {}
        self._reporting = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._compared_at = 0.0
        self._missing: dict[str, float] = {}
        self._listening: set[str] = set()
        self._needed: set[str] = set()
        self.heartbeat = time.monotonic()

    def start(self) -> None:
        """Start the loop; reports of agents are listened to as they are found."""
        self._setbacks.attempt("resuming services", self._serving.resume)
        thread = threading.Thread(target=self._run, name="reconciler", daemon=True)
        self._threads.append(thread)
        thread.start()

    def wake(self) -> None:
        """Look at everything now: something was registered, added or asked for."""
        self._wake.set()

    def stop(self, timeout: float = 15.0) -> None:
        """End the loop; workloads go on."""
        self._stop.set()
        self._wake.set()
        for thread in self._threads:
            if thread.name == "reconciler":
                thread.join(timeout)

    def stop_workloads(self, *, cancel_jobs: bool) -> list[dict[str, str]]:
        """Stop all service instances, and jobs if asked for. They start again with the server.

        Returns:
            What goes on all the same: `name` (of step or service), `workload`, `agent` and `reason` of each.
        """
        self.stop()
        self._drain_reports()
        with self._ledger.read() as tx:
            jobs = [(s.agent, s.workload) for s in tx.steps.in_states(_LIVE_STEPS)]
            states = (*_LIVE_INSTANCES, InstanceState.DRAINING)
            names = [(i.agent, i.workload) for i in tx.services.instances(states=states)]
        # Routes go first, so that no request meets an instance that is on its way out. On a full disk nothing can be
        # recorded; what runs is ended all the same, and the next start sees what became of it.
        self._setbacks.attempt("stopping services", self._serving.stop_all)
        names += jobs if cancel_jobs else []
        told, left = Ending(self._components, CANCEL_GRACE, END_TIMEOUT).end(names)
        for status in told:
            self._setbacks.attempt(f"the report of {status.name}", partial(self._take, status))
        self._compare()
        named = [{"name": self._title(each.workload), **asdict(each)} for each in left]
        for one in named:
            log.warning("a workload goes on without the server", what=one["name"], agent=one["agent"],
                        reason=one["reason"])
        return named

    def activity(self) -> list[str]:
        """Names of the steps whose jobs are running, as `<run> <step>`."""
        with self._ledger.read() as tx:
            services = {i.workload for i in tx.services.instances()}
            return [f"{tx.steps.run_name(s.id)} {s.name}" for s in tx.steps.in_states(_LIVE_STEPS)
                    if s.workload not in services]

    def _run(self) -> None:
        # The data process says until now of services that start with the server that they are stopped.
        self._setbacks.attempt("routing", self._serving.publish)
        # What the database says of instances may be older than a reboot: ask, then route.
        self._setbacks.attempt("comparing", self._compare)
        self._setbacks.attempt("routing", self._serving.publish)
        while not self._stop.is_set():
            self.heartbeat = time.monotonic()
            self._turn()
            self._wake.wait(IDLE)
            self._wake.clear()

    def _turn(self) -> None:
        attempt = self._setbacks.attempt
        attempt("listening", self._listen)
        attempt("taking reports in", self._drain_reports)
        if not self._compared_at or time.monotonic() - self._compared_at > COMPARE_EVERY:
            attempt("comparing", self._compare)
        attempt("cancelling", self._cancel_requested)
        attempt("moving runs forward", self._advance)
        attempt("tending services", partial(self._serving.tend, self._setbacks))

    def _advance(self) -> None:
        while not self._stop.is_set() and self._progress.advance(self._setbacks):
            self._listen()
            self._drain_reports()

    def _drain_reports(self) -> None:
        with self._reporting:
            reports, self._reports = self._reports, {}
        for name, status in reports.items():
            if not self._setbacks.attempt(f"the report of {name}", partial(self._take, status)):
                with self._reporting:  # it rests after an error; a later report counts instead
                    self._reports.setdefault(name, status)

    def _take(self, status: WorkloadStatus) -> None:
        with self._ledger.read() as tx:
            instance = tx.services.instance_by_workload(status.name)
            step = tx.steps.by_workload(status.name)
            run = tx.runs.by_id(step.run_id) if step else None
            pipeline = tx.pipelines.by_id(run.pipeline_id) if run else None
        if instance is not None and instance.state in (*_LIVE_INSTANCES, InstanceState.DRAINING):
            self._serving.report(instance, status)
        elif step is not None and run is not None and pipeline is not None and step.state in _LIVE_STEPS:
            if status.state == "cancelled" and not run.cancel_requested:
                # Nobody asked for this run to end: the server was stopped under it.
                status = interruption(status)
            self._completion.report(step, run, pipeline, status)
        elif status.state not in ENDED and _is_over(instance, step):
            # A crash came between the record of its end and the end itself.
            log.info("ending a workload that is not needed any more", workload=status.name)
            agent = instance.agent if instance is not None else step.agent if step is not None else ""
            self._components.agent(agent).cancel(status.name, CANCEL_GRACE)

    def _compare(self) -> None:
        """Ask every agent about every live workload: reports may have been missed while the server was away."""
        self._compared_at = time.monotonic()
        with self._ledger.read() as tx:
            live = [(s.agent, s.workload) for s in tx.steps.in_states(_LIVE_STEPS)]
            live += [(i.agent, i.workload) for i in tx.services.instances(states=_LIVE_INSTANCES)]
        by_agent: dict[str, set[str]] = {}
        for agent, workload in live:
            by_agent.setdefault(agent, set()).add(workload)
        for agent, names in by_agent.items():
            self._setbacks.attempt(f"comparing with {agent}", partial(self._compare_agent, agent, sorted(names)))

    def _compare_agent(self, agent: str, names: list[str]) -> None:
        found = self._agent_or_none(agent)
        if found is None:
            for name in names:
                removed = WorkloadStatus(name=name, state="failed", reason="Lost",
                                         message=f"its agent {agent} was removed")
                self._setbacks.attempt(f"the report of {name}", partial(self._take, removed))
            return
        try:
            statuses = found.status(names)
        except NotReady as error:  # such as one of an extension that is disabled: its workloads are not lost
            log.warning("agent does not say how its workloads are", agent=agent, error=str(error))
            return
        for status in statuses:
            # Recorded as submitted, but the agent never heard of it: as good as lost.
            lost = {"state": "failed", "reason": "Lost", "message": "the agent does not know this workload"}
            known = status.model_copy(update=lost) if status.state == "unknown" else status
            self._setbacks.attempt(f"the report of {status.name}", partial(self._take, known))

    def _agent_or_none(self, name: str) -> Agent | None:
        """An agent, or None when it has been missing for so long that it was removed rather than upgraded.

        Raises:
            Unavailable: It is missing, and not for long.
        """
        try:
            agent = self._components.agent(name)
        except Unavailable:
            since = self._missing.setdefault(name, time.monotonic())
            if time.monotonic() - since < MISSING_AFTER:
                raise
            return None
        self._missing.pop(name, None)
        return agent

    def _cancel_requested(self) -> None:
        with self._ledger.read() as tx:
            wanted = [run.id for run in tx.runs.active() if run.cancel_requested]
            running = [(s.agent, s.workload) for steps in tx.steps.of_runs(wanted).values()
                       for s in steps if s.state == StepState.RUNNING]
        for agent, workload in running:
            self._setbacks.attempt(f"cancelling {workload}", partial(self._cancel, agent, workload))

    def _cancel(self, agent: str, workload: str) -> None:
        self._take(self._components.agent(agent).cancel(workload, CANCEL_GRACE))

    def _title(self, workload: str) -> str:
        """What a workload is for people: a step of a run, or an instance of a service."""
        with self._ledger.read() as tx:
            step = tx.steps.by_workload(workload)
            if step is not None:
                return f"{tx.steps.run_name(step.id)} {step.name}"
            instance = tx.services.instance_by_workload(workload)
            service = tx.services.by_id(instance.service_id) if instance is not None else None
        return f"service {service.name}" if service is not None else workload

    def _listen(self) -> None:
        """Hear the agents that have workloads; others would only be kept from resting."""
        with self._ledger.read() as tx:
            needed = {s.agent for s in tx.steps.in_states((StepState.QUEUED, *_LIVE_STEPS))}
            needed |= {i.agent for i in tx.services.instances(states=_LIVE_INSTANCES)}
        # Built-in ones have no process that could rest.
        self._needed = needed | {name for name, _ in self._components.agents() if "/" not in name}
        for name in self._needed - self._listening:
            try:
                agent = self._components.agent(name)
            except Unavailable:
                continue
            self._listening.add(name)
            thread = threading.Thread(target=self._hear, args=(name, agent), name=f"events-{name}", daemon=True)
            self._threads = [other for other in self._threads if other.is_alive()] + [thread]
            thread.start()

    def _hear(self, name: str, agent: Agent) -> None:
        try:
            self._hear_while_needed(name, agent)
        finally:
            self._listening.discard(name)

    def _hear_while_needed(self, name: str, agent: Agent) -> None:
        cursor, pause, rhythm = "", 1.0, Rhythm(agent)
        while not self._stop.is_set() and name in self._needed:
            try:
                rhythm.begin()
                events = agent.events(cursor, EVENTS_WAIT)
                news = bool(events.statuses) and events.cursor != cursor
                cursor, pause = events.cursor, 1.0
            except (FusemlError, PluginError) as error:
                log.warning("agent gives no events", agent=name, error=str(error))
                if isinstance(error, InvalidInput):
                    cursor = ""  # It does not know this cursor any more: everything from the beginning.
                self._stop.wait(pause)
                pause = min(pause * 2, 30.0)
                continue
            if events.statuses:
                with self._reporting:
                    self._reports.update({status.name: status for status in events.statuses})
                self._wake.set()
            self._stop.wait(rhythm.pause(news=news))


def _is_over(instance: Instance | None, step: Step | None) -> bool:
    """Whether what a workload was for has ended, as far as the database knows."""
    if instance is not None:
        return instance.state in (InstanceState.ENDED, InstanceState.FAILED) and not _is_queued(instance, step)
    return step is not None and step.state in FINAL_STEP_STATES


def _is_queued(instance: Instance, step: Step | None) -> bool:
    return step is not None and step.workload == instance.workload and step.state == StepState.QUEUED
