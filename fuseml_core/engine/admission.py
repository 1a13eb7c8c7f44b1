"""Whether a waiting step may go on: its dependencies, and what the person who started the run asked for."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from fuseml_core.domain.records import FINAL_STEP_STATES, Run, Step, StepState
from fuseml_core.engine.binding import dependencies


class Verdict(StrEnum):
    """What to do with a waiting step."""

    GO = "go"
    WAIT = "wait"
    HOLD = "hold"
    SKIP = "skip"


def decide(run: Run, spec: dict[str, Any], steps: dict[str, Step], step: Step) -> tuple[Verdict, str]:
    """Decide about one waiting step.

    Args:
        run: The run.
        spec: The compiled template.
        steps: All steps of the run by name.
        step: The waiting one.

    Returns:
        The verdict, and the reason where people want one.
    """
    if run.cancel_requested:
        return Verdict.SKIP, "the run was cancelled"
    if run.only and step.name not in needed_for(spec, run.only):
        return Verdict.SKIP, f"only {run.only} was asked for"
    needed = [steps[name] for name in dependencies(spec["steps"][step.name])]
    if any(n.state in FINAL_STEP_STATES - {StepState.SUCCEEDED} for n in needed):
        return Verdict.SKIP, "an earlier step did not succeed"
    if any(n.state != StepState.SUCCEEDED for n in needed):
        return Verdict.WAIT, ""
    begun = sum(s.state != StepState.WAITING for s in steps.values())
    if run.stepping and begun >= run.released:
        return Verdict.HOLD, f"held: go on with `fuseml run step {run.name}`"
    return Verdict.GO, ""


def needed_for(spec: dict[str, Any], name: str) -> set[str]:
    """A step and everything it needs, directly or not."""
    found: set[str] = set()
    todo = [name]
    while todo:
        current = todo.pop()
        if current not in found:
            found.add(current)
            todo += dependencies(spec["steps"][current])
    return found
