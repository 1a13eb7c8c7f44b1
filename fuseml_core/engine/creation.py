"""Creating a run: its inputs bound, its parameters resolved, its steps waiting."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import Any

from fuseml_core.domain import fingerprints
from fuseml_core.domain.parameters import convert
from fuseml_core.domain.records import Pipeline, Run, RunState, StepState, Version
from fuseml_core.service.ports import Transaction


@dataclass(frozen=True, slots=True)
class RunMode:
    """How a run started by hand differs from a triggered one.

    Attributes:
        no_cache: Execute every step although its result is known.
        only: The one step to execute; empty executes all.
        stepping: Hold each step until it is released.
    """

    no_cache: bool = False
    only: str = ""
    stepping: bool = False


def create_run(tx: Transaction, pipeline: Pipeline, inputs: dict[str, Version], parameters: dict[str, Any], *,
               change: str, nonce: str = "", mode: RunMode | None = None) -> tuple[Run, bool]:
    """Create a run unless one with the same key exists (guarantee G2).

    Args:
        tx: An open transaction.
        pipeline: What to run.
        inputs: The version each input is bound to.
        parameters: Values for this run, beyond those of the pipeline.
        change: Change the run belongs to.
        nonce: Makes the key unique; given for runs started by hand.
        mode: How a run started by hand differs from a triggered one.

    Returns:
        The run, and whether it was created now.
    """
    mode = mode or RunMode()
    values = resolve_parameters(pipeline, inputs, parameters)
    key = fingerprints.digest({
        "pipeline": pipeline.id, "spec": pipeline.template_digest, "nonce": nonce, "parameters": values,
        "inputs": {name: [v.kind, v.project, v.name, v.digest] for name, v in inputs.items()}})
    existing = tx.runs.find_key(key)
    if existing:
        return existing, False
    now = time.time()
    number = tx.pipelines.next_number(pipeline.id)
    run_id = tx.runs.add({
        "uid": uuid.uuid4().hex, "run_key": key, "project": pipeline.project, "pipeline_id": pipeline.id,
        "pipeline": pipeline.name, "number": number, "change": change, "state": RunState.RUNNING,
        "parameters": values, "no_cache": mode.no_cache, "only": mode.only, "stepping": mode.stepping,
        "released": 0, "swaps": {}, "cancel_requested": False, "error": "", "created_at": now,
        "started_at": None, "ended_at": None}, {name: v.id for name, v in inputs.items()})
    for name in pipeline.spec["order"]:
        tx.steps.add({"uid": uuid.uuid4().hex, "run_id": run_id, "name": name, "state": StepState.WAITING})
    run = tx.runs.by_id(run_id)
    assert run is not None
    bound = ", ".join(f"{name}: {v.short}" for name, v in inputs.items())
    tx.feed.add(change, "run", f"{run.name} started ({bound})" if bound else f"{run.name} started", now=now,
                run=run.name, state="running")
    return run, True


def resolve_parameters(pipeline: Pipeline, inputs: dict[str, Version], given: dict[str, Any]) -> dict[str, Any]:
    """The value of every parameter, with a mark on those that were defaulted.

    Raises:
        Invalid: A value is of the wrong type, out of its choices, or unknown to the template.
    """
    declared: dict[str, Any] = pipeline.spec["parameters"]
    values: dict[str, Any] = {}
    merged = {**pipeline.parameters, **given}
    for name, spec in declared.items():
        if name in merged:
            values[name] = {"value": convert(name, spec, merged[name]), "default": False}
            continue
        default = _from_inputs(spec.get("default_from", ""), inputs)
        if default is None:
            default = spec.get("default")
        if default is not None:
            values[name] = {"value": default, "default": True}
    for name, value in merged.items():
        if name not in declared:
            values[name] = {"value": value, "default": False, "open": True}
    return values


def _from_inputs(path: str, inputs: dict[str, Version]) -> Any:
    """Follow `inputs.<name>.metadata.<key>`; None when a part of the path is missing."""
    parts = path.split(".")
    if len(parts) < 3 or parts[0] != "inputs" or parts[1] not in inputs:
        return None
    version = inputs[parts[1]]
    value: Any = {"metadata": version.metadata, "type": version.type, "labels": version.labels, "name": version.name}
    for part in parts[2:]:
        value = value.get(part) if isinstance(value, dict) else None
    return value if isinstance(value, str | int | float | bool) else None
