"""Which bundles must keep their files: pipelines, runs that are active, and services point at them by digest."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from fuseml_core.domain.records import InstanceState, Pipeline, StepState
from fuseml_core.service.extensions.ports import Occupation
from fuseml_core.service.ports import Ledger

_LIVE_STEPS = (StepState.QUEUED, StepState.RUNNING, StepState.COMPLETING)
_LIVE_INSTANCES = (InstanceState.STARTING, InstanceState.READY, InstanceState.DRAINING)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def pinned_bundles(ledger: Ledger) -> frozenset[str]:
    """Digests of bundles whose files something still uses.

    Args:
        ledger: Pipelines, runs and services.
    """
    with ledger.read() as tx:
        pinned = {digest for pipeline in tx.pipelines.all() for digest in _of_pipeline(pipeline)}
        for run in tx.runs.active():
            pinned |= _digests(run.swaps)
        for instance in tx.services.instances():
            # A service goes on with the version it was started with when its pipeline is bound to another one.
            step = tx.steps.by_id(instance.step_id)
            pinned |= _digests(step.parts.get("runnable")) if step is not None else set()
    return frozenset(pinned)


def work_of(ledger: Ledger) -> Callable[[str], list[Occupation]]:
    """How the work that is going on with an extension is found.

    Args:
        ledger: Pipelines, runs and services.
    """
    def work(extension: str) -> list[Occupation]:
        prefix = f"{extension}/"
        with ledger.read() as tx:
            steps = tx.steps.in_states(_LIVE_STEPS)
            mine = [step for step in steps if step.agent.startswith(prefix)]
            found = [Occupation(f"the step {step.name} of the run {tx.steps.run_name(step.id)}",
                                step.agent.removeprefix(prefix)) for step in mine]
            there = {s.id: s for project in tx.projects.all() for s in tx.services.all(project.name)}
            for instance in tx.services.instances(states=_LIVE_INSTANCES):
                service = there.get(instance.service_id)
                if instance.agent.startswith(prefix) and service is not None:
                    found.append(Occupation(f"the service {service.project}/{service.name}",
                                            instance.agent.removeprefix(prefix)))
            active = tx.runs.active()
            pipelines = tx.pipelines.by_ids(run.pipeline_id for run in active)
            found += [Occupation(f"the run {run.project}/{run.name}", "") for run in active
                      if run.id not in {step.run_id for step in mine}
                      and run.pipeline_id in pipelines and uses(pipelines[run.pipeline_id], extension)]
        return found

    return work


def uses(pipeline: Pipeline, extension: str) -> bool:
    """Whether a pipeline has its template, or the runnable of a step, from an extension."""
    prefix = f"runnable://fuseml/{extension}/"
    return pipeline.extension == extension or any(
        runnable["address"].startswith(prefix) for runnable in runnables_of(pipeline.spec))


def runnables_of(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The runnables of a compiled template, variants included."""
    steps = spec["steps"].values()
    return [found for step in steps for found in (step["runnable"], *step["variants"].values()) if found]


def _of_pipeline(pipeline: Pipeline) -> set[str]:
    return {pipeline.extension_digest, *(runnable["digest"] for runnable in runnables_of(pipeline.spec))}


def _digests(value: Any) -> set[str]:
    return set(_DIGEST.findall(json.dumps(value, default=str)))
