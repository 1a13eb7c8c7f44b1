"""What the API shows of records: plain JSON objects with canonical addresses and short forms."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from fuseml_core.domain.records import Binding, Decision, FeedItem, Pipeline, Run, Service, Step, StepState, Version
from fuseml_core.service.compilation import outputs_by_kind
from fuseml_core.service.ports import Transaction

#: States of steps as people see them; the difference between running and registering outputs is a phase.
_SHOWN = {StepState.COMPLETING: "running"}


def version_view(version: Version) -> dict[str, Any]:
    """An artifact version."""
    producer = {"run": version.producer[0], "step": version.producer[1]} if version.producer else None
    return {
        "address": version.address,
        "short": version.short,
        "kind": version.kind,
        "project": version.project,
        "name": version.name,
        "digest": version.digest,
        "seq": version.seq,
        "type": version.type,
        "size": version.size,
        "location": version.location,
        "store": version.store,
        "aliases": list(version.aliases),
        "labels": version.labels,
        "metadata": version.metadata,
        "management": version.management,
        "created_at": version.created_at,
        "producer": producer,
        "change": version.change,
    }


def pipeline_view(pipeline: Pipeline) -> dict[str, Any]:
    """A pipeline."""
    return {
        "name": pipeline.name,
        "project": pipeline.project,
        "template": pipeline.template,
        "template_digest": pipeline.template_digest,
        "extension": pipeline.extension,
        "extension_digest": pipeline.extension_digest,
        "inputs": pipeline.inputs,
        "parameters": pipeline.parameters,
        "state": pipeline.state,
        "created_at": pipeline.created_at,
        "runs": pipeline.runs,
        "steps": list(pipeline.spec["order"]),
        "takes": {n: {k: i[k] for k in ("kind", "types", "optional")} for n, i in pipeline.spec["inputs"].items()},
        "gives": outputs_by_kind(pipeline.spec),
    }


def decision_view(decision: Decision) -> dict[str, Any]:
    """Why a trigger fired or not."""
    return {
        "pipeline": decision.pipeline,
        "decision": decision.decision,
        "reason": decision.reason,
        "run": decision.run,
        "address": decision.address,
    }


def feed_view(item: FeedItem) -> dict[str, Any]:
    """One line of what happened in a change."""
    return {
        "seq": item.seq,
        "at": item.at,
        "kind": item.kind,
        "run": item.run or None,
        "step": item.step or None,
        "state": item.state,
        "text": item.text,
    }


def run_summary(run: Run) -> dict[str, Any]:
    """A run without its steps."""
    return {
        "name": run.name,
        "uid": run.uid,
        "project": run.project,
        "pipeline": run.pipeline,
        "number": run.number,
        "state": str(run.state),
        "change": run.change,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "error": run.error,
        "parameters": [{"name": n, "value": e["value"], "default": e["default"]} for n, e in run.parameters.items()],
    }


class RunViews:
    """What a page of runs shows, read with one query for each kind of thing rather than for each run.

    Args:
        tx: An open transaction.
        runs: The runs that will be shown.
        with_steps: Whether what flows into steps is shown too, or only outputs.
    """

    def __init__(self, tx: Transaction, runs: Sequence[Run], *, with_steps: bool = False) -> None:
        ids = [r.id for r in runs]
        self._inputs = tx.runs.inputs_of(ids)
        self._steps = tx.steps.of_runs(ids)
        self._pipelines = tx.pipelines.by_ids(r.pipeline_id for r in runs)
        step_ids = [s.id for steps in self._steps.values() for s in steps]
        self._out = tx.steps.io_of(step_ids, "out")
        self._in = tx.steps.io_of(step_ids, "in") if with_steps else {}
        flows = chain.from_iterable([*self._out.values(), *self._in.values()])
        wanted = {i for bound in self._inputs.values() for i in bound.values()}
        wanted |= {b.version_id for b in flows if b.version_id is not None}
        self._versions = {v.id: v for v in tx.artifacts.many(wanted)}

    def full(self, run: Run) -> dict[str, Any]:
        """A run with its inputs, steps and outputs."""
        return {**self.row(run), "steps": [self._step(s) for s in self._steps.get(run.id, [])]}

    def row(self, run: Run) -> dict[str, Any]:
        """A run with its inputs and outputs."""
        return {**run_summary(run), "inputs": self.inputs(run), "outputs": self.outputs(run)}

    def result(self, run: Run) -> dict[str, Any]:
        """A run as the table of results has it: parameters that matter stand beside the inputs."""
        pipeline = self._pipelines.get(run.pipeline_id)
        declared = pipeline.spec["parameters"] if pipeline else {}
        shown = [{"name": name, "value": e["value"], "short": str(e["value"]), "default": e["default"]}
                 for name, e in run.parameters.items() if declared.get(name, {}).get("shown") or not e["default"]]
        return {"run": run.name, "project": run.project, "state": str(run.state), "error": run.error,
                "inputs": [*self.inputs(run), *shown], "outputs": self.outputs(run)}

    def inputs(self, run: Run) -> list[dict[str, Any]]:
        """What a run was bound to."""
        bound = ((name, self._versions.get(i)) for name, i in self._inputs.get(run.id, {}).items())
        return [{"name": name, "value": v.address, "address": v.address, "short": v.short, "default": False}
                for name, v in bound if v is not None]

    def outputs(self, run: Run) -> list[dict[str, Any]]:
        """What the template says a run puts out, as far as it is there."""
        pipeline = self._pipelines.get(run.pipeline_id)
        by_name = {s.name: s.id for s in self._steps.get(run.id, [])}
        found: list[dict[str, Any]] = []
        for name, output in (pipeline.spec["outputs"] if pipeline else {}).items():
            step_name, _, port = output["from"].partition(".")
            flows = self._out.get(by_name.get(step_name, 0), [])
            found += [{"name": name, **self._flow(binding)} for binding in flows if binding.port == port]
        return found

    def _step(self, step: Step) -> dict[str, Any]:
        return {
            **_step_facts(step),
            "inputs": [{"name": b.port, "default": b.defaulted, **self._flow(b)} for b in self._in.get(step.id, [])],
            "outputs": [{"name": b.port, **self._flow(b)} for b in self._out.get(step.id, [])],
        }

    def _flow(self, binding: Binding) -> dict[str, Any]:
        version = self._versions.get(binding.version_id) if binding.version_id is not None else None
        if version is not None:
            return {"value": version.address, "short": version.short}
        return {"value": binding.value, "short": binding.value}


def _step_facts(step: Step) -> dict[str, Any]:
    return {
        "name": step.name,
        "state": _SHOWN.get(step.state, str(step.state)),
        "reused": step.reused,
        "why": step.why,
        "attempt": step.attempt,
        "workload": step.workload,
        "agent": step.agent,
        "phase": step.phase,
        "fingerprint": step.fingerprint,
        "started_at": step.started_at,
        "ended_at": step.ended_at,
        "exit_code": step.exit_code,
        "reason": step.reason,
        "message": step.message,
        "log_tail": list(step.log_tail),
        "warnings": list(step.warnings),
        "metrics": list(step.metrics),
        "timings": step.timings,
    }


def service_view(tx: Transaction, service: Service, url: str) -> dict[str, Any]:
    """A service with its URL, model and live instance."""
    model = tx.artifacts.get(service.model_id) if service.model_id else None
    instances = tx.services.instances(service_id=service.id)
    live = [i for i in instances if i.state in ("starting", "ready", "draining")]
    current = next((i for i in reversed(live) if i.state == "ready"), live[-1] if live else None)
    return {
        "name": service.name,
        "project": service.project,
        "pipeline": service.pipeline,
        "state": str(service.state),
        "desired": service.desired,
        "url": url,
        "model": model.address if model else None,
        "short": model.short if model else None,
        "run": service.run,
        "restarts": service.restarts,
        "message": service.message,
        "instance": current.workload if current else None,
        "instances": [{"workload": i.workload, "state": str(i.state)} for i in live],
        "created_at": service.created_at,
        "updated_at": service.updated_at,
    }
