"""Registering an artifact version and creating the runs that follow: one transaction (guarantee G1)."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass

from fuseml_core.domain.records import Decision, NewVersion, Run, Version
from fuseml_core.engine import triggers
from fuseml_core.engine.creation import create_run
from fuseml_core.service.ports import Transaction

#: Alias of the version that the last run which gave one of this name gave.
LATEST = "latest"


@dataclass(frozen=True, slots=True)
class Registered:
    """What a registration did.

    Attributes:
        version: What is registered.
        new: It was not there before.
        change: Change that it and what follows belongs to.
        decisions: What triggers decided.
        retyped: It was there before, with another type.
    """

    version: Version
    new: bool
    change: str
    decisions: tuple[Decision, ...]
    retyped: bool = False


def new_change() -> str:
    """A fresh change id: one for everything that follows from one root event."""
    return uuid.uuid4().hex[:16]


def register(
    tx: Transaction, new: NewVersion, *, change: str, producer: tuple[str, str] | None = None, branch: str = "",
    by: Run | None = None,
) -> Registered:
    """Insert a version, move its aliases and let every trigger meet it.

    Args:
        tx: An open transaction; nothing is visible before it commits.
        new: What to register. The same name and digest is the same version.
        change: Change that this belongs to.
        producer: (run name, step) that made it.
        branch: For a codeset, the branch it was pushed to.
        by: The run that made it; one that is slower than a later run of its pipeline does not give the latest version.

    Returns:
        The version, whether it is new, the change it belongs to and what triggers decided.
    """
    tx.pipelines.decide_alone()
    now = time.time()
    artifact = tx.artifacts.ensure(new.kind, new.project, new.name, now)
    version_id, is_new = tx.artifacts.add_version(artifact, new, change, producer, now)
    for alias in new.aliases:
        tx.artifacts.move_alias(artifact, alias, version_id, now)
    default_branch = tx.artifacts.touch_branch(artifact, branch, version_id) if branch else ""
    if is_new and not branch and not (by and tx.runs.later_giver(by.id, new.kind, new.project, new.name)):
        tx.artifacts.move_alias(artifact, LATEST, version_id, now)
    version = tx.artifacts.get(version_id)
    assert version is not None
    key = f"branch:{version_id}:{branch}" if branch else f"created:{version_id}"
    event = tx.artifacts.add_event("artifact.version.created", version_id, key, change, now)
    if event is None:
        if producer:
            return Registered(version, is_new, version.change, tuple(come_back(tx, [version_id], change, producer, by)))
        return Registered(version, is_new, version.change, tuple(tx.pipelines.decisions(version_id=version_id)))
    if is_new:
        tx.feed.add(
            change,
            "artifact",
            f"registered {version.short}",
            now=now,
            state="registered",
            run=producer[0] if producer else "",
            step=producer[1] if producer else "",
        )
    return Registered(version, is_new, change, tuple(meet(tx, version, event, change, branch, default_branch)))


def come_back(
    tx: Transaction, version_ids: list[int], change: str, producer: tuple[str, str], by: Run | None = None
) -> list[Decision]:
    """Take note that a run gave versions that are there already; one that is not the latest becomes it again.

    Whoever goes back to earlier code gets the earlier model, and what follows from it, such as its being served. A
    version comes back at most once in a change, so pipelines that feed each other come to rest.

    Args:
        tx: An open transaction that decides alone.
        version_ids: What came out.
        change: Change of the run.
        producer: (run name, step) that gave them.
        by: The run; what it gives is not the latest when a later run of its pipeline gave one of the name already.
    """
    decisions: list[Decision] = []
    for version in tx.artifacts.many(version_ids):
        now, latest = time.time(), tx.artifacts.current(version.kind, version.project, version.name)
        event = None
        later = by and tx.runs.later_giver(by.id, version.kind, version.project, version.name)
        if latest is not None and latest.id != version.id and not later:
            key = f"returned:{version.id}:{change}"
            event = tx.artifacts.add_event("artifact.returned", version.id, key, change, now)
        if event is None:
            tx.feed.add(change, "artifact", f"{version.short} came out again, so nothing follows from it", now=now,
                        state="unchanged", run=producer[0], step=producer[1])
            continue
        artifact = tx.artifacts.ensure(version.kind, version.project, version.name, now)
        tx.artifacts.move_alias(artifact, LATEST, version.id, now)
        tx.feed.add(change, "artifact", f"{version.short} came out again and is the latest {version.kind} of "
                    f"{version.name} now", now=now, state="registered", run=producer[0], step=producer[1])
        moved = tx.artifacts.get(version.id)
        assert moved is not None
        decisions += meet(tx, moved, event, change, "", "", again=True)
    return decisions


def retype(
    tx: Transaction, version: Version, type_: str | None, metadata: dict[str, object], branch: str, change: str = ""
) -> list[Decision]:
    """Store a newly detected type of a codeset version and let triggers meet it like a new version.

    Args:
        tx: An open transaction.
        version: The version.
        type_: What it is recognised to be now.
        metadata: What is kept with it from now on.
        branch: That it was pushed to.
        change: Change that what follows belongs to; empty: a new one.
    """
    if type_ == version.type and metadata == version.metadata:
        return []
    tx.pipelines.decide_alone()
    tx.artifacts.set_type(version.id, type_, metadata)
    typed = tx.artifacts.get(version.id)
    assert typed is not None
    if type_ == version.type:
        return []
    change = change or new_change()
    event = tx.artifacts.add_event("artifact.typed", version.id, f"typed:{version.id}:{type_}", change, time.time())
    return meet(tx, typed, event, change, branch, branch) if event is not None else []


def meet(
    tx: Transaction, version: Version, event: int, change: str, branch: str, default_branch: str, *,
    again: bool = False,
) -> list[Decision]:
    """Let every trigger decide about an event of a version; store each decision, create the runs.

    `again` runs pipelines although they have had the version as their input before.
    """
    found = triggers.matches(tx, version, branch, default_branch)
    decisions = [settle(tx, match, version, event, change, again=again) for match in found]
    return [d for d in decisions if d is not None]


def settle(
    tx: Transaction, match: triggers.Match, version: Version, event: int, change: str, *, again: bool = False
) -> Decision | None:
    """Store the decision of one match and create its run. None when trigger and event have met before."""
    trigger, now = match.trigger, time.time()
    if tx.pipelines.has_fired(trigger.id, event):
        return None
    run: Run | None = None
    decision, reason = "suppressed", match.reason
    if match.inputs is not None:
        pipeline = tx.pipelines.by_id(trigger.pipeline_id)
        assert pipeline is not None
        run, created = create_run(tx, pipeline, match.inputs, {}, change=change,
                                  nonce=f"event:{event}" if again else "")
        decision, reason = (
            ("fired", match.reason) if created else ("suppressed", f"{run.name} has these inputs already")
        )
    tx.pipelines.fire(trigger, event, version.id, decision, reason, run.id if run else None, change, now)
    if decision == "suppressed":
        tx.feed.add(
            change,
            "decision",
            f"{trigger.pipeline} does not run for {version.short}: {reason}",
            now=now,
            state=decision,
        )
    return Decision(trigger.pipeline, decision, reason, run.name if run else None, version.address)
