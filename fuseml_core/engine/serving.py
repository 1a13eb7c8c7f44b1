"""Services: switching to a new instance when it is ready, draining the old one, starting again what ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import structlog

from fuseml_core.domain.errors import Conflict, FusemlError
from fuseml_core.domain.fingerprints import workload_name
from fuseml_core.domain.records import (
    FINAL_STEP_STATES,
    Binding,
    Instance,
    InstanceState,
    Pipeline,
    Run,
    Service,
    ServiceState,
    Step,
    StepState,
    Version,
)
from fuseml_core.engine import workloads
from fuseml_core.engine.asking import Asking, Reaction
from fuseml_core.engine.binding import Bound, bind
from fuseml_core.engine.completion import Completion
from fuseml_core.engine.feed import tell
from fuseml_core.engine.naming import service_name
from fuseml_core.engine.setbacks import Setbacks
from fuseml_core.service.components import Components, Gateway
from fuseml_core.service.ports import Ledger, Transaction
from fuseml_sdk.errors import PluginError
from fuseml_sdk.types import Workload, WorkloadStatus

log = structlog.get_logger(__name__)

#: Seconds an old instance keeps running at least, for requests that were on their way during the switch.
MIN_DRAIN = 2.0
#: Longest pause between two starts of a service that keeps failing, in seconds.
MAX_BACKOFF = 60.0
#: Attempt numbers of instances that the engine itself starts again lie above those of the step.
RESTART_BASE = 1000
CANCEL_GRACE = 10.0
_LIVE = (InstanceState.STARTING, InstanceState.READY)


class Serving:
    """Keeps every desired service running and routed."""

    def __init__(
        self,
        ledger: Ledger,
        components: Components,
        gateway: Gateway,
        completion: Completion,
        asking: Asking,
        *,
        url: Callable[[str, str, str], str],
        drain: float,
    ) -> None:
        self._ledger = ledger
        self._components = components
        self._gateway = gateway
        self._completion = completion
        self._asking = asking
        self._url = url
        self._drain = drain

    def prepare(self, tx: Transaction, run: Run, step: Step, bound: Bound, spec: dict[str, object]) -> None:
        """Record the instance that a serving step is about to start.

        Raises:
            Conflict: Another pipeline owns the service.
        """
        name, now = service_name(spec, bound), time.time()
        descriptor = bound.runnable.descriptor
        assert descriptor.service is not None
        service = tx.services.ensure(
            run.project, name, run.pipeline_id, run.pipeline, descriptor.service.predict_path, now
        )
        if service.pipeline_id != run.pipeline_id:
            raise Conflict(
                f"the service {name} belongs to the pipeline {service.pipeline}",
                hint="Give this pipeline's service another name, or remove the other pipeline.",
            )
        known = tx.services.instance_by_workload(step.workload)
        if known is not None and known.state not in _LIVE:
            # The server was stopped while the step waited for room.
            tx.services.set_instance(known.id, state=InstanceState.STARTING)
            if service.desired == "running":
                self._say_starting(tx, service)
        if known is None:
            tx.services.add_instance(
                {
                    "service_id": service.id,
                    "workload": step.workload,
                    "agent": step.agent,
                    "created_at": now,
                    "state": InstanceState.STARTING,
                    "fingerprint": step.fingerprint,
                    "step_id": step.id,
                }
            )
            ready = tx.services.instances(service_id=service.id, states=[InstanceState.READY])
            tx.services.set(
                service.id,
                desired="running",
                updated_at=now,
                state=ServiceState.READY if ready else ServiceState.STARTING,
            )

    def report(self, instance: Instance, status: WorkloadStatus) -> None:
        """Take in one report about an instance."""
        with self._ledger.read() as tx:
            step = tx.steps.by_id(instance.step_id)
            run = tx.runs.by_id(step.run_id) if step else None
            pipeline = tx.pipelines.by_id(run.pipeline_id) if run else None
        if step is None or run is None or pipeline is None:
            return
        own = step.workload == instance.workload
        if own and step.state == StepState.QUEUED:
            return  # the agent has not been given it yet, or nobody noted that it was
        first = own and step.state in (StepState.RUNNING, StepState.COMPLETING)
        if status.state == "ready" and instance.state in _LIVE:
            self._switch(instance, status, run, step, first=first)
        elif status.state in ("failed", "cancelled", "succeeded", "unknown"):
            self._ended(instance, status)
            if first:
                self._completion.fail(step, run, pipeline, _as_failure(status))
        elif first:
            self._completion.note_phase(step, run, status)

    def _switch(self, instance: Instance, status: WorkloadStatus, run: Run, step: Step, *, first: bool) -> None:
        if instance.state == InstanceState.READY and not first:
            return
        if self._superseded(instance, run, step, first=first):
            return
        now = time.time()
        with self._ledger.begin() as tx:
            service = tx.services.by_id(instance.service_id)
            assert service is not None
            for old in tx.services.instances(service_id=service.id, states=[InstanceState.READY]):
                if old.id != instance.id:
                    tx.services.set_instance(old.id, state=InstanceState.DRAINING, drain_until=now + self._drain)
            tx.services.set_instance(instance.id, state=InstanceState.READY, endpoint=status.endpoint or "")
            model = next((b.version_id for b in tx.steps.io(step.id, "in") if b.version_id is not None), None)
            tx.services.set(
                service.id, state=ServiceState.READY, run=run.name, model_id=model, message="", updated_at=now
            )
        self.publish()
        if not first:
            return
        url = self._url(service.project, service.name, service.predict_path)
        with self._ledger.begin() as tx:
            if tx.steps.change(
                step.id,
                [StepState.RUNNING, StepState.COMPLETING],
                step.attempt,
                phase="",
                state=StepState.SUCCEEDED,
                ended_at=now,
                warnings=list(status.warnings),
                timings=dict(status.timings),
            ):
                tx.steps.set_io(step.id, "out", [Binding("url", value=url)])
                tx.steps.remember(step.fingerprint, step.id, now)
                tell(tx, run, step, f"serving at {url}", state="succeeded", kind="service")

    def _superseded(self, instance: Instance, run: Run, step: Step, *, first: bool) -> bool:
        """End an instance that got ready after that of a later run, or whose model is outdated and not asked for."""
        with self._ledger.begin() as tx:
            ready = tx.services.instances(service_id=instance.service_id, states=[InstanceState.READY])
            newer = max((i.step_id for i in ready), default=0)
            if newer <= instance.step_id and not (first and newer and _outdated(tx, run, step, newer)):
                return False
            reason = f"{tx.steps.run_name(newer)} serves a newer model already"
            if first and tx.steps.change(step.id, [StepState.RUNNING, StepState.COMPLETING], step.attempt, phase="",
                                         state=StepState.SKIPPED, ended_at=time.time(), message=reason):
                tell(tx, run, step, reason, state="skipped")
        self._retire(instance)
        return True

    def _ended(self, instance: Instance, status: WorkloadStatus) -> None:
        now = time.time()
        # Somebody stopped it on purpose: that is no crash, and a desired service comes back at once.
        on_purpose = status.state == "cancelled" or instance.state == InstanceState.DRAINING
        with self._ledger.begin() as tx:
            tx.services.set_instance(instance.id, state=InstanceState.ENDED if on_purpose else InstanceState.FAILED)
            service = tx.services.by_id(instance.service_id)
            if instance.state == InstanceState.DRAINING or service is None or service.desired != "running":
                return
            others = tx.services.instances(service_id=service.id, states=[InstanceState.READY])
            if on_purpose:
                tx.services.set(
                    service.id, state=ServiceState.READY if others else ServiceState.STARTING, updated_at=now
                )
            else:
                self._record_crash(tx, service, instance, status, others_ready=bool(others))
        log.warning(
            "service instance ended",
            service=f"{service.project}/{service.name}",
            workload=instance.workload,
            reason=status.message or status.reason,
        )
        self.publish()

    def _record_crash(
        self, tx: Transaction, service: Service, instance: Instance, status: WorkloadStatus, *, others_ready: bool
    ) -> None:
        served = instance.state == InstanceState.READY or instance.attempt > RESTART_BASE
        tx.services.set(
            service.id,
            message=status.message or status.reason or "the process ended",
            restarts=service.restarts + (1 if served else 0),
            updated_at=time.time(),
            state=ServiceState.READY if others_ready else ServiceState.FAILED,
        )

    def stop_all(self) -> None:
        """Record every instance as ended, because the server stops; ending them is left to the caller."""
        with self._ledger.begin() as tx:
            for instance in tx.services.instances(states=[*_LIVE, InstanceState.DRAINING]):
                tx.services.set_instance(instance.id, state=InstanceState.ENDED)
            for service in tx.services.all():
                if service.desired == "running":
                    tx.services.set(
                        service.id,
                        state=ServiceState.STOPPED,
                        message="stopped with the server",
                        updated_at=time.time(),
                    )
        self.publish()

    def resume(self) -> None:
        """Say of services that were stopped with the server that they are starting, because it starts."""
        with self._ledger.begin() as tx:
            resting = [s for s in tx.services.all() if s.desired == "running" and s.state == ServiceState.STOPPED]
            for service in resting:
                self._say_starting(tx, service)

    @staticmethod
    def _say_starting(tx: Transaction, service: Service) -> None:
        tx.services.set(service.id, state=ServiceState.STARTING, message="", updated_at=time.time())

    def publish(self) -> None:
        """Put the routing table that follows from the database into force."""
        with self._ledger.read() as tx:
            ready = {i.service_id: i for i in tx.services.instances(states=[InstanceState.READY])}
            table: dict[str, dict[str, str | None]] = {}
            for service in tx.services.all():
                instance = ready.get(service.id) if service.desired == "running" else None
                table[f"{service.project}/{service.name}"] = {
                    "endpoint": instance.endpoint if instance else None,
                    "state": str(service.state),
                    "instance": instance.workload if instance else "",
                    "predict_path": service.predict_path,
                }
        self._gateway.publish(table)

    def tend(self, setbacks: Setbacks) -> None:
        """End drained instances and start again the services that should run and do not, but for those that rest."""
        with self._ledger.read() as tx:
            current = tx.services.instances(states=[*_LIVE, InstanceState.DRAINING])
            live = {i.service_id for i in current if i.state in _LIVE}
            # What ended is read only where something is to be started again: it grows with every crash.
            services = {s.id: s for s in tx.services.all()}
            down = [(s, tx.services.instances(service_id=s.id)) for s in services.values()
                    if s.desired != "stopped" and s.id not in live]
        for instance in current:
            if instance.state == InstanceState.DRAINING:
                setbacks.attempt(f"draining {instance.workload}", partial(self._drain_one, instance))
            elif instance.service_id in services and services[instance.service_id].desired == "stopped":
                setbacks.attempt(f"ending {instance.workload}", partial(self._retire, instance))
        for service, instances in down:
            if instances:
                name = f"the service {service.project}/{service.name}"
                setbacks.attempt(name, partial(self._restart, service, instances[-1]))

    def _drain_one(self, instance: Instance) -> None:
        until = instance.drain_until or 0.0
        waited = time.time() - (until - self._drain)
        # A clock that was set back must not prolong it.
        draining = 0 < until - time.time() <= self._drain
        if draining and (waited < MIN_DRAIN or self._gateway.in_flight(instance.workload) > 0):
            return
        self._retire(instance)

    def _retire(self, instance: Instance) -> None:
        with self._ledger.begin() as tx:
            tx.services.set_instance(instance.id, state=InstanceState.ENDED)
        self._asking.at_once(f"ending {instance.workload}", partial(self._end, instance), _ending(instance))

    def _end(self, instance: Instance) -> Reaction:
        try:
            agent = self._components.agent(instance.agent)
            agent.cancel(instance.workload, CANCEL_GRACE)
            agent.collect(instance.workload)
        except (FusemlError, PluginError) as error:
            log.warning("instance could not be ended", workload=instance.workload, error=str(error))
        return _nothing

    def _restart(self, service: Service, last: Instance) -> None:
        now = time.time()
        failures = max(0, service.restarts - 1)
        # A service that ran well for a while starts again at once; one that keeps failing waits longer each time.
        pause = (
            0.0 if last.state == InstanceState.ENDED or failures == 0 else min(MAX_BACKOFF, 2.0 ** min(failures, 6))
        )
        if 0 <= now - service.updated_at < pause:
            return
        with self._ledger.read() as tx:
            step = tx.steps.by_id(last.step_id)
            if step is not None and step.state not in FINAL_STEP_STATES:
                return  # its step starts another attempt itself
            if step is None or step.state != StepState.SUCCEEDED:
                step = self._last_good(tx, service)
            run = tx.runs.by_id(step.run_id) if step else None
            pipeline = tx.pipelines.by_id(run.pipeline_id) if run else None
            bound = bind(tx, pipeline, run, step.name) if step and run and pipeline else None
        if step is None or run is None or pipeline is None or bound is None:
            self._give_up(service)
        else:
            self._start_again(service, last, pipeline, run, step, bound)

    def _give_up(self, service: Service) -> None:
        if service.state != ServiceState.FAILED:
            with self._ledger.begin() as tx:
                tx.services.set(
                    service.id,
                    state=ServiceState.FAILED,
                    updated_at=time.time(),
                    message=service.message or "it was never ready",
                )

    def _last_good(self, tx: Transaction, service: Service) -> Step | None:
        """The newest step of the service whose instance was ready once."""
        steps = (tx.steps.by_id(i.step_id) for i in reversed(tx.services.instances(service_id=service.id)))
        return next((s for s in steps if s is not None and s.state == StepState.SUCCEEDED), None)

    def _start_again(
        self, service: Service, last: Instance, pipeline: Pipeline, run: Run, step: Step, bound: Bound
    ) -> None:
        attempt = max(last.attempt, RESTART_BASE) + 1
        spec = pipeline.spec["steps"][step.name]

        def build() -> Reaction:
            try:
                schemes = list(self._components.agent(last.agent).describe().schemes)
                name = workload_name(step.uid, attempt)
                workload = workloads.build(self._components, run, step, bound, spec, name, schemes)
            except (FusemlError, PluginError) as error:
                return partial(self._not_started, service, error)
            return partial(self._begin, service, last, step, workload, attempt)

        self._asking.at_once(f"starting the service {service.id}", build, f"starting at {last.agent}")

    def _begin(self, service: Service, last: Instance, step: Step, workload: Workload, attempt: int) -> None:
        with self._ledger.begin() as tx:
            current = tx.services.by_id(service.id)
            if current is None or current.desired != "running":
                return  # stopped or removed meanwhile
            if tx.services.instance_by_workload(workload.name) is None:
                tx.services.add_instance(
                    {
                        "service_id": service.id,
                        "workload": workload.name,
                        "agent": last.agent,
                        "created_at": time.time(),
                        "state": InstanceState.STARTING,
                        "fingerprint": step.fingerprint,
                        "step_id": step.id,
                        "attempt": attempt,
                    }
                )
            self._say_starting(tx, service)

        def submit() -> Reaction:
            try:
                self._components.agent(last.agent).submit(workload)
            except (FusemlError, PluginError) as error:
                return partial(self._not_started, service, error)
            return _nothing

        self._asking.at_once(_submitting(workload.name), submit, f"starting at {last.agent}")

    def is_being_given(self, instance: Instance) -> bool:
        """Whether the agent of an instance is being given it just now, and may not know it yet."""
        return self._asking.is_open(_submitting(instance.workload))

    def _not_started(self, service: Service, error: Exception) -> None:
        with self._ledger.begin() as tx:
            tx.services.set(service.id, message=str(error), updated_at=time.time(), restarts=service.restarts + 1)


def _nothing() -> None:
    return None


def _submitting(workload: str) -> str:
    """Names the question that gives an agent an instance of a service again."""
    return f"submitting {workload}"


def _ending(instance: Instance) -> str:
    """The kind of the questions that end instances at one agent."""
    return f"ending at {instance.agent}"


def _outdated(tx: Transaction, run: Run, step: Step, serving: int) -> bool:
    """Whether a triggered run brings a model that was outdated when it was made, while the latest one is served.

    A slow training of earlier code may end after a fast one of later code. Whoever asks for an old model gets it.
    """
    mine, served = (_models(tx, step_id) for step_id in (step.id, serving))
    latest = {m.id for m in served if (now := tx.artifacts.current(m.kind, m.project, m.name)) and now.id == m.id}
    names = {(m.kind, m.project, m.name) for m in mine}
    same = {m.id for m in served if (m.kind, m.project, m.name) in names}
    return bool(latest & same) and not latest & {m.id for m in mine} and tx.pipelines.was_triggered(run.id, run.change)


def _models(tx: Transaction, step_id: int) -> list[Version]:
    """The artifacts that a serving step took in."""
    return tx.artifacts.many(b.version_id for b in tx.steps.io(step_id, "in") if b.version_id is not None)


def _as_failure(status: WorkloadStatus) -> WorkloadStatus:
    if status.state == "succeeded":
        return status.model_copy(
            update={
                "state": "failed",
                "reason": "Exited",
                "message": "the service ended by itself before it was ready",
            }
        )
    return (
        status
        if status.state in ("failed", "cancelled")
        else status.model_copy(
            update={"state": "failed", "reason": "Lost", "message": "the agent does not know the service any more"}
        )
    )
