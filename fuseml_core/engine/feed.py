"""Lines of the feed: what people who wait for a change are told."""

from __future__ import annotations

import time

from fuseml_core.domain.records import Run, Step
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
