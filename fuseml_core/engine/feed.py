"""Lines of the feed: what people who wait for a change are told."""

from __future__ import annotations

import time
from collections.abc import Iterable

from fuseml_core.domain.records import Binding, Run, Step
from fuseml_core.service.ports import Transaction


def tell(tx: Transaction, run: Run, step: Step, text: str, *, state: str, kind: str = "step") -> None:
    """Add a line about a step of a run.

    Args:
        tx: The transaction that makes it true.
        run: The run.
        step: Its step.
        text: What happened, without the names of run and step.
        state: The step's state from now on.
        kind: `step`, or `service` when it became one.
    """
    tx.feed.add(run.change, kind, f"{run.name} {step.name}: {text}", now=time.time(), run=run.name, step=step.name,
                state=state)


def tell_outdated(tx: Transaction, run: Run, step: Step, outputs: Iterable[Binding]) -> None:
    """Say of each reused output that is not the newest of its name that nothing follows from it.

    A version meets a trigger once (guarantee G1): whoever went back to earlier code would otherwise believe that the
    earlier model is served again.

    Args:
        tx: The transaction in which the step takes the outputs over.
        run: The run.
        step: Its step, which reuses them.
        outputs: What flows out of it.
    """
    for output in outputs:
        version = None if output.version_id is None else tx.artifacts.get(output.version_id)
        newest = version and tx.artifacts.current(version.kind, version.project, version.name)
        if version is None or newest is None or newest.id == version.id:
            continue
        tx.feed.add(run.change, "artifact", f"{version.short} came out again, so nothing follows from it; "
                    f"the newest of its name is {newest.short}", now=time.time(), state="unchanged", run=run.name,
                    step=step.name)
