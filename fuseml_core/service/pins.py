"""Which bundles must keep their files: pipelines, runs that are active, and services point at them by digest."""

from __future__ import annotations

import json
import re
from typing import Any

from fuseml_core.domain.records import Pipeline
from fuseml_core.service.ports import Ledger

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


def runnables_of(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The runnables of a compiled template, variants included."""
    steps = spec["steps"].values()
    return [found for step in steps for found in (step["runnable"], *step["variants"].values()) if found]


def _of_pipeline(pipeline: Pipeline) -> set[str]:
    return {pipeline.extension_digest, *(runnable["digest"] for runnable in runnables_of(pipeline.spec))}


def _digests(value: Any) -> set[str]:
    return set(_DIGEST.findall(json.dumps(value, default=str)))
