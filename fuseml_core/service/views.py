"""What the API shows of records: plain JSON objects with canonical addresses and short forms."""

from __future__ import annotations

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


def run_view(tx: Transaction, run: Run) -> dict[str, Any]:
    """A run with its inputs, steps and outputs."""
    steps = tx.steps.of_run(run.id)
    return {
        **run_summary(run),
        "inputs": run_inputs(tx, run),
        "outputs": run_outputs(tx, run, steps),
        "steps": [step_view(tx, s) for s in steps],
    }


def run_inputs(tx: Transaction, run: Run) -> list[dict[str, Any]]:
    """What a run was bound to."""
    found = []
    for name, version_id in tx.runs.inputs(run.id).items():
        version = tx.artifacts.get(version_id)
        if version is not None:
            found.append(
                {
                    "name": name,
                    "value": version.address,
                    "address": version.address,
                    "short": version.short,
                    "default": False,
                }
            )
    return found


def run_outputs(tx: Transaction, run: Run, steps: list[Step]) -> list[dict[str, Any]]:
    """What the template says a run puts out, as far as it is there."""
    pipeline = tx.pipelines.by_id(run.pipeline_id)
    by_name = {s.name: s for s in steps}
    found: list[dict[str, Any]] = []
    for name, output in (pipeline.spec["outputs"] if pipeline else {}).items():
        step_name, _, port = output["from"].partition(".")
        flows = tx.steps.io(by_name[step_name].id, "out") if step_name in by_name else []
        found += [{"name": name, **_flow(tx, binding)} for binding in flows if binding.port == port]
    return found


def step_view(tx: Transaction, step: Step) -> dict[str, Any]:
    """One step of a run."""
    inputs = tx.steps.io(step.id, "in")
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
        "inputs": [{"name": b.port, "default": b.defaulted, **_flow(tx, b)} for b in inputs],
        "outputs": [{"name": b.port, **_flow(tx, b)} for b in tx.steps.io(step.id, "out")],
    }


def _flow(tx: Transaction, binding: Binding) -> dict[str, Any]:
    version = tx.artifacts.get(binding.version_id) if binding.version_id is not None else None
    if version is not None:
        return {"value": version.address, "short": version.short}
    return {"value": binding.value, "short": binding.value}


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
