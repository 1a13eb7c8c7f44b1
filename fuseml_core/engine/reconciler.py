"""The loop that drives everything: reports of agents in, states of runs and services out."""

from __future__ import annotations

import threading
import time
from dataclasses import asdict
from functools import partial

import structlog

from fuseml_core.domain.errors import FusemlError
from fuseml_core.domain.records import FINAL_STEP_STATES, Instance, InstanceState, Step, StepState
from fuseml_core.engine.asking import Asking, Reaction
from fuseml_core.engine.comparing import Comparison, title
from fuseml_core.engine.completion import CANCELLING, Completion, interruption
from fuseml_core.engine.ending import ENDED, Ending, end_all
from fuseml_core.engine.hearing import Hearing
from fuseml_core.engine.patience import Patience
from fuseml_core.engine.progress import Progress
from fuseml_core.engine.serving import CANCEL_GRACE, Serving
from fuseml_core.engine.setbacks import Setbacks
from fuseml_core.service.components import Components
from fuseml_core.service.ports import Ledger
from fuseml_sdk.errors import PluginError
from fuseml_sdk.types import FINAL_STATES, WorkloadStatus

log = structlog.get_logger(__name__)

#: Seconds between two looks at everything, when nothing wakes the loop before.
IDLE = 1.0
#: Seconds between two full comparisons with the agents, which make up for reports that were missed.
COMPARE_EVERY = 5.0
#: Seconds that agents have for the end of all workloads when the server ends; one may have to be started for it.
END_TIMEOUT = 30.0
#: Seconds that the loop waits for the answers of agents; one that hangs must not hold up the runs of others.
ANSWER_WAIT = 1.0
#: Seconds that it waits before it routes at the start, and at the end of the server.
LONG_ANSWER_WAIT = 10.0
#: Seconds after which a step ends as cancelled although its agent says that the workload goes on.
STUBBORN_AFTER = 120.0
#: Workloads that nobody seems to need are looked into at most at a time, and questions that are open at most.
MOST_STRAYS, MOST_ASKED = 100, 32
_LIVE_INSTANCES = (InstanceState.STARTING, InstanceState.READY)
_LIVE_STEPS = (StepState.RUNNING, StepState.COMPLETING)


class Reconciler:
    """One thread that looks at the database and at agents, and lets what should happen next happen.

    Nothing is kept in memory that cannot be read again: after a crash the next start goes on where this one was.
    """

    def __init__(self, ledger: Ledger, components: Components, asking: Asking, progress: Progress,
                 completion: Completion, serving: Serving) -> None:
        self._ledger = ledger
        self._components = components
        self._progress = progress
        self._completion = completion
        self._serving = serving
        self._setbacks = Setbacks()
        self._asking = asking
        self._wake = asking.wake
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._compared_at = 0.0
        self._patience = Patience()
        self._hearing = Hearing(components, self._stop, self._wake)
        self._comparison = Comparison(components, self._asking, self._take_safely, self._say, self._title)
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
        # Before reports are taken in: a step that was interrupted has another workload then.
        named = [{"name": self._title(each.workload), **asdict(each)} for each in left]
        agents = {workload: agent for agent, workload in names}
        for status in told:
            self._take_safely(agents.get(status.name, ""), status)
        self._compare(LONG_ANSWER_WAIT)
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
        self._setbacks.attempt("comparing", partial(self._compare, LONG_ANSWER_WAIT))
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
        for what, react in self._asking.answers():
            self._setbacks.attempt(what, react)
        reports = self._hearing.drain()
        if not reports:
            return
        live, strays = self._live(), dict[str, list[str]]()
        for agent, status in reports:
            if (agent, status.name) in live:
                if not self._take_safely(agent, status):
                    self._hearing.put_back(agent, status)  # it rests after an error; a later report counts instead
            elif status.state not in ENDED:
                strays.setdefault(agent, []).append(status.name)
        for agent, names in strays.items():
            self._end_strays(agent, names)

    def _live(self) -> set[tuple[str, str]]:
        """Agent and name of each workload that is to run, or to end in order."""
        with self._ledger.read() as tx:
            states = (*_LIVE_INSTANCES, InstanceState.DRAINING)
            return {*((s.agent, s.workload) for s in tx.steps.in_states(_LIVE_STEPS)),
                    *((i.agent, i.workload) for i in tx.services.instances(states=states))}

    def _take_safely(self, agent: str, status: WorkloadStatus) -> bool:
        """Take in a report; False when it met an error now or a moment ago."""
        return self._setbacks.attempt(f"the report of {status.name}", partial(self._take, agent, status))

    def _take(self, agent: str, status: WorkloadStatus) -> None:
        with self._ledger.read() as tx:
            instance = tx.services.instance_by_workload(status.name)
            step = tx.steps.by_workload(status.name)
            run = tx.runs.by_id(step.run_id) if step else None
            pipeline = tx.pipelines.by_id(run.pipeline_id) if run else None
        if agent not in {each.agent for each in (instance, step) if each is not None}:
            return  # nobody reports about the workloads of another agent
        if instance is not None and instance.state in (*_LIVE_INSTANCES, InstanceState.DRAINING):
            self._serving.report(instance, status)
        elif step is not None and run is not None and pipeline is not None and step.state in _LIVE_STEPS:
            if status.state == "cancelled" and not run.cancel_requested:
                # Nobody asked for this run to end: the server was stopped under it.
                status = interruption(status)
            self._completion.report(step, run, pipeline, status)

    def _end_strays(self, agent: str, names: list[str]) -> None:
        """End workloads that run although what they were for is over: a crash came between, or the agent went on."""
        due = [name for name in names[:MOST_STRAYS] if self._patience.due(f"stray {agent} {name}")]
        over = []
        with self._ledger.read() as tx:
            for name in due:
                instance, step = tx.services.instance_by_workload(name), tx.steps.by_workload(name)
                owner = instance.agent if instance is not None else step.agent if step is not None else ""
                if owner == agent and _is_over(instance, step):
                    over.append(name)
        if over:
            log.info("ending workloads that are not needed any more", workloads=over, agent=agent)
            self._asking.ask(f"ending {over[0]}", partial(end_all, self._components, agent, over, CANCEL_GRACE))

    def _compare(self, patience: float = ANSWER_WAIT) -> None:
        """Ask every agent about every live workload: reports may have been missed while the server was away."""
        self._compared_at = time.monotonic()
        with self._ledger.read() as tx:
            live = [(s.agent, s.workload) for s in tx.steps.in_states(_LIVE_STEPS)]
            # What has not been given to its agent for sure is not missed by it, and must not count as lost.
            queued = {s.workload for s in tx.steps.in_states((StepState.QUEUED,))}
            live += [(i.agent, i.workload) for i in tx.services.instances(states=_LIVE_INSTANCES)
                     if i.workload not in queued and not self._serving.is_being_given(i)]
        by_agent: dict[str, set[str]] = {}
        for agent, workload in live:
            by_agent.setdefault(agent, set()).add(workload)
        for agent, names in by_agent.items():
            self._comparison.ask(agent, sorted(names))
        self._asking.settle(patience)
        self._drain_reports()

    def _say(self, workload: str, text: str) -> None:
        """Say at a step that runs what is odd about its workload; its next report takes the place of it."""
        with self._ledger.read() as tx:
            step = tx.steps.by_workload(workload)
            run = tx.runs.by_id(step.run_id) if step else None
        if step is not None and run is not None and step.state == StepState.RUNNING:
            self._completion.note(step, run, text)

    def _cancel_requested(self) -> None:
        with self._ledger.read() as tx:
            wanted = [run.id for run in tx.runs.active() if run.cancel_requested]
            running = [(s.agent, s.workload, s.state) for steps in tx.steps.of_runs(wanted).values()
                       for s in steps if s.state in _LIVE_STEPS]
        for agent, workload, state in running:
            waited = self._patience.waited(f"cancelled {workload}")
            if waited >= STUBBORN_AFTER:
                text = (f"{title(agent)} has not ended its workload {workload} for {waited:.0f} s; it may go on"
                        if state == StepState.RUNNING else
                        f"its outputs were not registered for {waited:.0f} s; a store does not answer")
                self._take_safely(agent, WorkloadStatus(name=workload, state="cancelled", message=text))
            elif (state == StepState.RUNNING and self._asking.busy < MOST_ASKED
                  and self._patience.due(f"cancelling {workload}")):
                self._asking.ask(f"cancelling {workload}", partial(self._question_cancel, agent, workload))
        if running:
            self._asking.settle(ANSWER_WAIT)
            self._drain_reports()

    def _question_cancel(self, agent: str, workload: str) -> Reaction:
        try:
            status = self._components.agent(agent).cancel(workload, CANCEL_GRACE)
        except (FusemlError, PluginError) as error:
            return partial(self._say, workload, f"{CANCELLING}{title(agent)} does not end it: {error.message}")
        if status.name != workload:
            return partial(self._say, workload, f"{CANCELLING}{title(agent)} answers about another workload")
        if status.state == "unknown":
            status = status.model_copy(update={"state": "cancelled", "message": f"{title(agent)} does not know it"})
        if status.state not in FINAL_STATES:
            return partial(self._say, workload, f"{CANCELLING}{title(agent)} has not ended it yet")
        return partial(self._take_safely, agent, status)

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
        self._hearing.listen(needed | {name for name, _ in self._components.agents() if "/" not in name})


def _is_over(instance: Instance | None, step: Step | None) -> bool:
    """Whether what a workload was for has ended, as far as the database knows."""
    if instance is not None:
        return instance.state in (InstanceState.ENDED, InstanceState.FAILED) and not _is_queued(instance, step)
    return step is not None and step.state in FINAL_STEP_STATES


def _is_queued(instance: Instance, step: Step | None) -> bool:
    return step is not None and step.workload == instance.workload and step.state == StepState.QUEUED
