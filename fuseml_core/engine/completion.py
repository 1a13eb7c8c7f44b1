"""What follows when an agent reports about a job: progress, outputs registered with success, retries, failure."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import structlog

from fuseml_core.domain.errors import FusemlError
from fuseml_core.domain.fingerprints import workload_name
from fuseml_core.domain.records import Binding, NewVersion, Pipeline, Run, Step, StepState
from fuseml_core.engine.asking import Asking, Reaction
from fuseml_core.engine.binding import Bound, bind
from fuseml_core.engine.feed import tell
from fuseml_core.engine.naming import output_name
from fuseml_core.engine.outputs import BadOutputs, check_outputs
from fuseml_core.engine.registration import register
from fuseml_core.service.components import Components
from fuseml_core.service.ports import Ledger, Transaction
from fuseml_sdk.errors import PluginError
from fuseml_sdk.types import ArtifactDescriptor, RegisterRequest, WorkloadOutput, WorkloadStatus

log = structlog.get_logger(__name__)

#: A workload that vanished (a reboot, a killed shim) is started again this often.
MAX_LOST = 3
#: Longest pause before another attempt, in seconds.
MAX_RETRY_PAUSE = 300.0
#: Begins the phase of a step whose agent has been asked to end it, and has not.
CANCELLING = "cancelling: "
#: Phases of one attempt that are told to who follows a change; later ones only show at the step. And attempts counted.
MOST_PHASES, MOST_COUNTED = 200, 10_000
#: Reasons of an agent that say nothing about the workload itself.
LOST = frozenset({"Lost"})
_LIVE = (StepState.RUNNING, StepState.COMPLETING)


class Completion:
    """Turns reports about jobs into states of steps."""

    def __init__(self, ledger: Ledger, components: Components, asking: Asking) -> None:
        self._ledger = ledger
        self._components = components
        self._asking = asking
        #: Phases of each workload that were told to who follows its change.
        self._told: Counter[str] = Counter()

    def report(self, step: Step, run: Run, pipeline: Pipeline, status: WorkloadStatus) -> None:
        """Take in one report about the current attempt of a job step."""
        if self._asking.is_open(_registering(step)) and status.state != "cancelled":
            return  # it has succeeded: whatever its agent says next, or forgets, must not start it again
        if status.state in ("pending", "preparing", "running"):
            self.note_phase(step, run, status)
        elif status.state == "succeeded":
            self._succeed(step, run, pipeline, status)
        elif status.state in ("failed", "cancelled"):
            self.fail(step, run, pipeline, status)

    def note_phase(self, step: Step, run: Run, status: WorkloadStatus) -> None:
        """Record what a running workload is doing now."""
        if run.cancel_requested and step.phase.startswith(CANCELLING):
            return  # what is said about its end counts more
        self.note(step, run, status.phase or status.state, warnings=list(status.warnings))

    def note(self, step: Step, run: Run, phase: str, **values: Any) -> None:
        """Record what is to be said about a step that runs, and what changes with it."""
        if phase == step.phase:
            return
        with self._ledger.begin() as tx:
            if tx.steps.change(step.id, [StepState.RUNNING], step.attempt, phase=phase, **values):
                self._told[step.workload] += 1
                if self._told[step.workload] <= MOST_PHASES:
                    tell(tx, run, step, phase, state="running")
        if len(self._told) > MOST_COUNTED:
            self._told.clear()

    def fail(self, step: Step, run: Run, pipeline: Pipeline, status: WorkloadStatus) -> None:
        """End an attempt that did not succeed; start another one if there are any left."""
        spec = pipeline.spec["steps"][step.name]
        lost = status.reason in LOST
        allowed = MAX_LOST if lost else int(spec.get("retries") or 0)
        again = status.state == "failed" and step.attempt <= allowed and not run.cancel_requested
        state = StepState.CANCELLED if status.state == "cancelled" else StepState.FAILED
        facts = {
            "exit_code": status.exit_code,
            "reason": status.reason or status.state,
            "message": status.message,
            "log_tail": list(status.log_tail),
            **_measured(status),
            "timings": dict(status.timings),
            "phase": "",
        }
        with self._ledger.begin() as tx:
            if again:
                attempt = step.attempt + 1
                moved = tx.steps.change(
                    step.id,
                    _LIVE,
                    step.attempt,
                    state=StepState.QUEUED,
                    attempt=attempt,
                    workload=workload_name(step.uid, attempt),
                    not_before=time.time() + (0 if lost else min(2.0**min(step.attempt, 16), MAX_RETRY_PAUSE)),
                    **facts,
                )
                text = f"{status.message or status.reason}; starting attempt {attempt}"
            else:
                moved = tx.steps.change(
                    step.id, _LIVE, step.attempt, state=state, ended_at=_end(step, status), **facts
                )
                text = f"{state}: {status.message or status.reason or status.state}"
            if moved:
                tell(tx, run, step, text, state="queued" if again else str(state))

    def _succeed(self, step: Step, run: Run, pipeline: Pipeline, status: WorkloadStatus) -> None:
        with self._ledger.begin() as tx:
            # A crash from here on finds the step completing, asks the agent again and comes back to this point.
            if not tx.steps.change(
                step.id, _LIVE, step.attempt, state=StepState.COMPLETING, phase="registering outputs"
            ):
                return
        try:
            with self._ledger.read() as tx:
                bound = bind(tx, pipeline, run, step.name)
                project = tx.projects.get(run.project)
            outputs, warnings = check_outputs(step.name, bound.runnable.descriptor, status.outputs)
            status = status.model_copy(update={"outputs": outputs, "warnings": [*status.warnings, *warnings]})
        except BadOutputs as error:
            told = {"state": "failed", "reason": error.reason, "message": error.message}
            self.fail(step, run, pipeline, status.model_copy(update=told))
            return
        except FusemlError as error:
            self.fail(step, run, pipeline, _refused(status, error))
            return
        stores = project.stores if project else {}
        # Stores copy and read what may be large.
        hand_over = partial(self._hand_over, run, pipeline, step, bound, status, stores)
        self._asking.at_once(_registering(step), hand_over, f"registering for {run.project}")

    def _hand_over(self, run: Run, pipeline: Pipeline, step: Step, bound: Bound, status: WorkloadStatus,
                   stores: Mapping[str, str]) -> Reaction:
        try:
            taken = self._take_in(run, pipeline, step, bound, status, stores)
        except PluginError as error:
            if error.retryable:
                return _nothing  # it is reported again
            return partial(self.fail, step, run, pipeline, _refused(status, error))
        except FusemlError as error:
            return partial(self.fail, step, run, pipeline, _refused(status, error))

        def taken_in() -> None:
            with self._ledger.begin() as tx:
                self._record(tx, step, run, status, taken)

        return taken_in

    def _take_in(
        self, run: Run, pipeline: Pipeline, step: Step, bound: Bound, status: WorkloadStatus, stores: Mapping[str, str]
    ) -> list[tuple[WorkloadOutput, NewVersion | None]]:
        """Hand each output to the project's store of its kind; registering the same contents again changes nothing."""
        declared = {o.name: o for o in bound.runnable.descriptor.outputs}
        taken: list[tuple[WorkloadOutput, NewVersion | None]] = []
        for output in status.outputs:
            spec = declared[output.name]
            if output.location is None or not spec.tracked:
                taken.append((output, None))
                continue
            name = output_name(pipeline.spec["outputs"], step.name, output.name, output.artifact_name, bound)
            request = RegisterRequest(
                kind=output.kind,
                project=run.project,
                name=name,
                source=output.location,
                files=output.files or None,
                type=output.type or spec.type,
                labels=output.labels,
                metadata=output.metadata,
            )
            store = stores.get(output.kind, "")
            taken.append((output, new_version(self._components.store(output.kind, store).register(request), store)))
        return taken

    def _record(
        self,
        tx: Transaction,
        step: Step,
        run: Run,
        status: WorkloadStatus,
        taken: Sequence[tuple[WorkloadOutput, NewVersion | None]],
    ) -> None:
        """Register the outputs and the success in one transaction (guarantee G4)."""
        now = time.time()
        tx.pipelines.decide_alone()  # before any other lock, as every transaction that registers does
        moved = tx.steps.change(
            step.id,
            [StepState.COMPLETING],
            step.attempt,
            state=StepState.SUCCEEDED,
            ended_at=_end(step, status),
            exit_code=status.exit_code,
            **_measured(status),
            phase="",
            reason="",
            message="",
            timings=dict(status.timings),
            log_tail=[],
        )
        if not moved:
            return
        end = _end(step, status)
        start = max(step.started_at or 0.0, status.started_at or 0.0) or end
        tell(tx, run, step, f"succeeded in {max(0.0, end - start):.1f} s", state="succeeded")
        out = []
        for output, new in taken:
            if new is None:
                value = output.value if output.location is None else output.location.uri
                out.append(Binding(output.name, value=value))
                continue
            registered = register(tx, new, change=run.change, producer=(run.name, step.name),
                                  by=run)
            out.append(Binding(output.name, version_id=registered.version.id))
        tx.steps.set_io(step.id, "out", out)
        tx.steps.remember(step.fingerprint, step.id, now)


def _nothing() -> None:
    return None


def _registering(step: Step) -> str:
    """Names the question that registers the outputs of an attempt."""
    return f"registering {step.workload}"


def _measured(status: WorkloadStatus) -> dict[str, Any]:
    """Metrics, and warnings; a diverged value such as NaN has no place in JSON and becomes a warning."""
    wild = sorted({f"{m.key} is {m.value}" for m in status.metrics if not math.isfinite(m.value)})
    warnings = [*status.warnings, *(f"the metric {text}: left out" for text in wild)]
    return {"warnings": warnings, "metrics": [m.model_dump() for m in status.metrics if math.isfinite(m.value)]}


def _end(step: Step, status: WorkloadStatus) -> float:
    """When an attempt ended: as its agent says, unless that was before it started or is still to come."""
    now = time.time()
    end = now if status.ended_at is None else status.ended_at
    return min(max(end, step.started_at or end), now) if step.started_at is None or step.started_at <= now else end


def new_version(descriptor: ArtifactDescriptor, store: str = "") -> NewVersion:
    """What the core registers of the descriptor that a store gave; `store` is its name, empty for a built-in one."""
    return NewVersion(
        kind=descriptor.kind,
        project=descriptor.project,
        name=descriptor.name,
        digest=descriptor.digest,
        type=descriptor.type,
        size=descriptor.size,
        location=descriptor.location,
        aliases=tuple(descriptor.aliases),
        labels=dict(descriptor.labels),
        metadata=dict(descriptor.metadata),
        management=descriptor.management,
        store=store,
    )


def _refused(status: WorkloadStatus, error: Exception) -> WorkloadStatus:
    return status.model_copy(
        update={"state": "failed", "reason": "Outputs", "message": f"its outputs could not be registered: {error}"}
    )


def interruption(status: WorkloadStatus) -> WorkloadStatus:
    """A job that the server itself stopped counts as lost, so that it starts again with the server."""
    return status.model_copy(
        update={"state": "failed", "reason": "Lost", "message": "interrupted because the server was stopped"}
    )
