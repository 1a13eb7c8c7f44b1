"""Moving runs forward: binding steps, reusing results, queueing, starting, ending."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog

from fuseml_core.domain.errors import FusemlError
from fuseml_core.domain.fingerprints import workload_name
from fuseml_core.domain.records import (
    FINAL_STEP_STATES,
    Binding,
    InstanceState,
    Pipeline,
    Run,
    RunState,
    ServiceState,
    Step,
    StepState,
    Version,
)
from fuseml_core.engine import workloads
from fuseml_core.engine.admission import Verdict, decide
from fuseml_core.engine.asking import Asking, Reaction
from fuseml_core.engine.binding import Bound, bind, explain_change, fingerprint
from fuseml_core.engine.ending import end_all
from fuseml_core.engine.feed import tell
from fuseml_core.engine.naming import service_name
from fuseml_core.engine.registration import come_back
from fuseml_core.engine.serving import CANCEL_GRACE
from fuseml_core.engine.setbacks import Setbacks
from fuseml_core.service.components import Components
from fuseml_core.service.ports import Ledger, Transaction
from fuseml_sdk.errors import PluginError
from fuseml_sdk.types import FINAL_STATES, Workload

log = structlog.get_logger(__name__)

#: Records the instance that a serving step is about to start.
PrepareService = Callable[[Transaction, Run, Step, Bound, dict[str, Any]], None]
#: Seconds before an agent without room is asked again.
RETRY_AFTER = 0.5
#: After so many refusals an agent is left alone until the next look: 1 000 queued runs must not ask it one by one.
MAX_REFUSALS = 8
#: Longest time that a step is told to wait before it is tried again, in seconds.
MAX_PAUSE = 300.0


class Progress:
    """Looks at active runs and does whatever they wait for. Every change is fenced, so that doing it twice is safe."""

    def __init__(self, ledger: Ledger, components: Components, asking: Asking,
                 prepare_service: PrepareService) -> None:
        self._ledger = ledger
        self._components = components
        self._asking = asking
        self._prepare_service = prepare_service
        #: How often each agent had no room since the last look at everything.
        self._refusals: Counter[str] = Counter()

    def advance(self, setbacks: Setbacks) -> bool:
        """Do what can be done now, leaving alone runs that rest after an error; returns whether anything changed."""
        with self._ledger.read() as tx:
            active = tx.runs.active()
            pipelines = tx.pipelines.by_ids(run.pipeline_id for run in active)
            steps = tx.steps.of_runs(run.id for run in active)
        self._refusals.clear()
        changed: list[bool] = []
        for run in active:
            if run.pipeline_id in pipelines:
                look = partial(self._look, changed, run, pipelines[run.pipeline_id], steps.get(run.id, []))
                setbacks.attempt(f"the run {run.project}/{run.name}", look)
        return any(changed)

    def _look(self, changed: list[bool], run: Run, pipeline: Pipeline, steps: list[Step]) -> None:
        changed.append(self._advance_run(run, pipeline, steps))

    def _advance_run(self, run: Run, pipeline: Pipeline, steps: list[Step]) -> bool:
        by_name = {s.name: s for s in steps}
        changed = False
        for step in steps:
            if step.state == StepState.WAITING:
                changed |= self._admit(run, pipeline, by_name, step)
            elif step.state == StepState.QUEUED and run.cancel_requested:
                withdraw = partial(self._withdraw, run, step)
                changed |= bool(self._asking.at_once(f"withdrawing {step.workload}", withdraw, _starting(step.agent)))
            elif step.state == StepState.QUEUED and self._is_due(step):
                changed |= self._start(run, pipeline, step)
        if all(s.state in FINAL_STEP_STATES for s in steps):
            changed |= self._end(run)
        return changed

    def _is_due(self, step: Step) -> bool:
        # A clock that was set back must not hold a step for longer than it was told to wait.
        waits = 0 < step.not_before - time.time() <= MAX_PAUSE
        open_ = self._asking.is_open(_starting(step.agent))
        return not waits and not open_ and self._refusals[step.agent] < MAX_REFUSALS

    def _admit(self, run: Run, pipeline: Pipeline, steps: dict[str, Step], step: Step) -> bool:
        verdict, reason = decide(run, pipeline.spec, steps, step)
        if verdict == Verdict.SKIP:
            return self._finish(run, step, StepState.SKIPPED, reason)
        if verdict == Verdict.GO:
            return self._bind(run, pipeline, step)
        return self._wait(run, step, reason) if verdict == Verdict.HOLD else False

    def _wait(self, run: Run, step: Step, reason: str) -> bool:
        """Say once why a step is not bound yet; it is looked at again."""
        if step.phase != reason:
            with self._ledger.begin() as tx:
                if tx.steps.change(step.id, [StepState.WAITING], step.attempt, phase=reason):
                    tell(tx, run, step, reason, state="waiting")
        return False

    def _bind(self, run: Run, pipeline: Pipeline, step: Step) -> bool:
        what = f"binding {step.uid}"
        if self._asking.is_open(what):
            return False
        try:
            with self._ledger.read() as tx:
                bound = bind(tx, pipeline, run, step.name)
                previous, then = _last_like(tx, tx.steps.previous(pipeline.id, step.name, run.id), bound)
        except FusemlError as error:
            return self._finish(run, step, StepState.FAILED, str(error), reason="Binding")
        look = partial(self._look_at_bound, run, pipeline, step, bound, previous, then)
        return bool(self._asking.at_once(what, look, f"binding for {run.project}"))

    def _look_at_bound(self, run: Run, pipeline: Pipeline, step: Step, bound: Bound, previous: Step | None,
                       then: dict[str, Version]) -> Reaction:
        """Ask stores and agents what has to be known before a step is queued."""
        try:
            key, parts = fingerprint(self._components, bound, pipeline.spec["steps"][step.name], run.project)
            why = (
                "runs for the first time"
                if previous is None
                else explain_change(self._components, parts, previous.parts, bound.versions, then)
            )
            agent, _ = workloads.choose_agent(self._components, bound.runnable.descriptor)
        except (FusemlError, PluginError) as error:
            if isinstance(error, PluginError) and error.retryable:
                return partial(self._wait, run, step, f"waiting: {error}")  # who starts again answers next time
            return partial(self._finish, run, step, StepState.FAILED, str(error), reason="Binding")

        def known() -> bool:
            with self._ledger.begin() as tx:
                return self._queue_or_reuse(tx, run, pipeline, step, bound, key, parts, why, agent)

        return known

    def _queue_or_reuse(
        self,
        tx: Transaction,
        run: Run,
        pipeline: Pipeline,
        step: Step,
        bound: Bound,
        key: str,
        parts: dict[str, Any],
        why: str,
        agent: str,
    ) -> bool:
        flows = [
            *bound.inputs.values(),
            *(Binding(n, value=str(e["value"]), defaulted=bool(e["default"])) for n, e in bound.parameters.items()),
        ]
        tx.pipelines.decide_alone()  # before any other lock, as every transaction that lets triggers decide does
        current = tx.runs.lock(run.id)
        if current is None or current.swaps != run.swaps:
            return False  # a runnable was swapped meanwhile: the fingerprint is that of another one
        tx.steps.set_io(step.id, "in", flows)
        anew = run.no_cache or run.only == step.name or step.name in run.swaps
        done = None if anew else self._reusable(tx, run, pipeline, step, bound, key)
        if done is None and run.only and run.only != step.name:
            return self._finish_in(tx, run, step, StepState.FAILED, f"has no earlier result that {run.only} could take",
                                   reason="NoResult")
        if done is None:
            return self._queue(tx, run, step, key, parts, agent, _asked(run, step) or why)
        origin = tx.steps.run_name(done.id)
        reason = f"reused from {origin}: {_sameness(parts)}"
        now = time.time()
        moved = tx.steps.change(
            step.id,
            [StepState.WAITING],
            step.attempt,
            state=StepState.SUCCEEDED,
            fingerprint=key,
            parts=parts,
            reused_from=done.id,
            why=reason,
            started_at=now,
            ended_at=now,
            metrics=list(done.metrics),
            phase="",
            agent=agent,
        )
        if moved:
            outputs = tx.steps.io(done.id, "out")
            tx.steps.set_io(step.id, "out", outputs)
            tell(tx, run, step, reason, state="succeeded")
            given = [b.version_id for b in outputs if b.version_id is not None]
            come_back(tx, given, run.change, (run.name, step.name), run)
        return moved

    def _reusable(
        self, tx: Transaction, run: Run, pipeline: Pipeline, step: Step, bound: Bound, key: str
    ) -> Step | None:
        done = tx.steps.cached(key)
        if done is None or not bound.is_service:
            return done
        # A service is there only as long as an instance of exactly this fingerprint serves.
        name = service_name(pipeline.spec["steps"][step.name], bound)
        service = tx.services.get(run.project, name)
        if service is None or service.state != ServiceState.READY:
            return None
        ready = tx.services.instances(service_id=service.id, states=[InstanceState.READY])
        return done if any(i.fingerprint == key for i in ready) else None

    def _queue(
        self, tx: Transaction, run: Run, step: Step, key: str, parts: dict[str, Any], agent: str, why: str
    ) -> bool:
        moved = tx.steps.change(
            step.id,
            [StepState.WAITING],
            step.attempt,
            state=StepState.QUEUED,
            fingerprint=key,
            parts=parts,
            why=why,
            agent=agent,
            workload=workload_name(step.uid, step.attempt),
        )
        if moved and run.started_at is None:
            tx.runs.set(run.id, started_at=time.time())
        return moved

    def _start(self, run: Run, pipeline: Pipeline, step: Step) -> bool:
        spec = pipeline.spec["steps"][step.name]
        try:
            with self._ledger.read() as tx:
                bound = bind(tx, pipeline, run, step.name)
            if bound.is_service:
                with self._ledger.begin() as tx:
                    self._prepare_service(tx, run, step, bound, spec)
        except FusemlError as error:
            return self._finish(run, step, StepState.FAILED, str(error), reason="Refused")
        # The stores of a project are asked apart from the agent, which has work of other projects too.
        what, kind = f"preparing {step.workload}", f"preparing for {run.project} at {step.agent}"
        return bool(self._asking.at_once(what, partial(self._prepare, run, step, bound, spec), kind))

    def _prepare(self, run: Run, step: Step, bound: Bound, spec: dict[str, Any]) -> Reaction:
        """Describe a step's workload."""
        try:
            schemes = list(self._components.agent(step.agent).describe().schemes)
            workload = workloads.build(self._components, run, step, bound, spec, step.workload, schemes)
        except (FusemlError, PluginError) as error:
            return partial(self._refused, run, step, error)
        return partial(self._give, run, step, workload)

    def _give(self, run: Run, step: Step, workload: Workload) -> bool:
        with self._ledger.read() as tx:
            now, current = tx.steps.by_id(step.id), tx.runs.by_id(run.id)
        if now is None or current is None or current.cancel_requested or (
                now.state, now.attempt) != (StepState.QUEUED, step.attempt):
            return False  # cancelled while stores took their time
        # One question at a time to each agent: they are started in the order of the runs.
        return bool(self._asking.at_once(_starting(step.agent), partial(self._submit, run, step, workload)))

    def _submit(self, run: Run, step: Step, workload: Workload) -> Reaction:
        """Give a step's workload to its agent."""
        try:
            self._components.agent(step.agent).submit(workload)
        except (FusemlError, PluginError) as error:
            return partial(self._refused, run, step, error)
        return partial(self._started, run, step)

    def _refused(self, run: Run, step: Step, error: FusemlError | PluginError) -> bool:
        if isinstance(error, PluginError) and error.retryable:
            return self._postpone(run, step, str(error))
        return self._finish(run, step, StepState.FAILED, str(error), reason="Refused")

    def _started(self, run: Run, step: Step) -> bool:
        with self._ledger.begin() as tx:
            moved = tx.steps.change(
                step.id, [StepState.QUEUED], step.attempt, state=StepState.RUNNING, started_at=time.time(), phase=""
            )
            if moved:
                attempt = f" (attempt {step.attempt})" if step.attempt > 1 else ""
                tell(tx, run, step, f"started{attempt}: {step.why}", state="running")
            now = tx.steps.by_id(step.id)
        if now is None or now.attempt != step.attempt or now.state in FINAL_STEP_STATES:
            # The run was cancelled while the agent took its time.
            self._asking.ask(f"ending {step.workload}",
                             partial(end_all, self._components, step.agent, [step.workload], CANCEL_GRACE))
        return moved

    def _withdraw(self, run: Run, step: Step) -> Reaction:
        """End a workload that the agent was given just before a crash, so that the step seems to wait still."""
        try:
            agent = self._components.agent(step.agent)
            told = {status.name: status.state for status in agent.status([step.workload])}
            if told.get(step.workload) not in {*FINAL_STATES, "unknown"}:
                agent.cancel(step.workload, CANCEL_GRACE)
        except (FusemlError, PluginError) as error:
            log.warning("the agent does not say whether it has a workload", workload=step.workload, error=str(error))
        return partial(self._finish, run, step, StepState.CANCELLED, "cancelled before it started")

    def _postpone(self, run: Run, step: Step, reason: str) -> bool:
        self._refusals[step.agent] += 1
        with self._ledger.begin() as tx:
            moved = tx.steps.change(
                step.id,
                [StepState.QUEUED],
                step.attempt,
                not_before=time.time() + RETRY_AFTER,
                phase=f"waiting: {reason}",
            )
            if moved and step.phase != f"waiting: {reason}":
                tell(tx, run, step, f"waiting: {reason}", state="queued")
        return False

    def _finish(self, run: Run, step: Step, state: StepState, message: str, *, reason: str = "") -> bool:
        with self._ledger.begin() as tx:
            return self._finish_in(tx, run, step, state, message, reason=reason)

    def _finish_in(
        self, tx: Transaction, run: Run, step: Step, state: StepState, message: str, *, reason: str = ""
    ) -> bool:
        now = time.time()
        moved = tx.steps.change(step.id, [step.state], step.attempt, state=state, message=message, reason=reason,
                                ended_at=now, phase="")
        if moved:
            tell(tx, run, step, f"{state}: {message}", state=str(state))
        return moved

    def _end(self, run: Run) -> bool:
        now = time.time()
        with self._ledger.begin() as tx:
            state, error = outcome(tx.steps.of_run(run.id), cancelled=run.cancel_requested)
            if not tx.runs.end(run.id, state, error, run.started_at or now, now):
                return False
            suffix = f": {error}" if error else ""
            tx.feed.add(run.change, "run", f"{run.name} {state}{suffix}", now=now, run=run.name, state=str(state))
        return True


def _starting(agent: str) -> str:
    """Names the question that gives an agent a workload."""
    return f"starting at {agent}"


def outcome(steps: list[Step], *, cancelled: bool) -> tuple[RunState, str]:
    """State and error of a run whose steps have all ended."""
    failed = next((s for s in steps if s.state == StepState.FAILED), None)
    if failed is not None:
        return RunState.FAILED, f"the step {failed.name} failed: {failed.message}"
    if cancelled or any(s.state == StepState.CANCELLED for s in steps):
        return RunState.CANCELLED, ""
    return RunState.SUCCEEDED, ""


def _asked(run: Run, step: Step) -> str:
    """Why a step is executed whatever is known already, or an empty string."""
    if step.name in run.swaps:
        return f"swapped by hand to {run.swaps[step.name]['address']}"
    return "asked to run anew" if run.no_cache or run.only == step.name else ""


def _last_like(tx: Transaction, earlier: list[Step], bound: Bound) -> tuple[Step | None, dict[str, Version]]:
    """The last earlier step that took artifacts of the same names: a wildcard brings many to one pipeline."""
    names = {port: version.name for port, version in bound.versions.items()}
    for step in earlier:
        then = _versions_in(tx, step)
        if {port: version.name for port, version in then.items()} == names:
            return step, then
    return None, {}


def _versions_in(tx: Transaction, step: Step) -> dict[str, Version]:
    found = {b.port: tx.artifacts.get(b.version_id) for b in tx.steps.io(step.id, "in") if b.version_id is not None}
    return {port: version for port, version in found.items() if version is not None}


def _sameness(parts: dict[str, Any]) -> str:
    filters = [
        f"{port} ({', '.join(entry['filter'])})" for port, entry in parts["inputs"].items() if entry.get("filter")
    ]
    inputs = ", ".join(filters) if filters else ", ".join(parts["inputs"])
    return f"same runnable, parameters and {inputs}" if inputs else "same runnable and parameters"
