"""What the use cases and the engine need from outside, as Protocols; adapters implement them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from fuseml_core.domain.addresses import Address
from fuseml_core.domain.records import (
    Binding,
    Decision,
    FeedItem,
    NewVersion,
    Pipeline,
    Project,
    Run,
    RunState,
    Step,
    StepState,
    Trigger,
    Version,
)
from fuseml_core.service.serving_ports import Services


class Projects(Protocol):
    """Projects by name."""

    def add(self, name: str, description: str, now: float) -> bool:
        """Add a project; returns False if the name is taken."""
        ...

    def get(self, name: str) -> Project | None:
        """One project, or None."""
        ...

    def all(self) -> list[Project]:
        """All projects by name."""
        ...

    def set_stores(self, name: str, stores: dict[str, str]) -> None:
        """Set which store a project uses for which kind."""
        ...

    def counts(self, name: str) -> dict[str, int]:
        """How many codesets, pipelines and services a project has."""
        ...

    def remove(self, name: str) -> None:
        """Delete a project with its pipelines, runs, services and artifact descriptors."""
        ...


class Artifacts(Protocol):
    """Artifacts: names and their immutable versions."""

    def ensure(self, kind: str, project: str, name: str, now: float) -> int:
        """Return the id of a name, making it when it is new."""
        ...

    def add_version(
        self, artifact_id: int, new: NewVersion, change: str, producer: tuple[str, str] | None, now: float
    ) -> tuple[int, bool]:
        """Insert a version; same name and digest is the same version. Returns its id and whether it is new."""
        ...

    def move_alias(self, artifact_id: int, alias: str, version_id: int, now: float) -> None:
        """Point an alias at a version."""
        ...

    def drop_alias(self, kind: str, project: str, name: str, alias: str) -> None:
        """Remove an alias; the version stays."""
        ...

    def set_type(self, version_id: int, type_: str | None, metadata: dict[str, Any]) -> None:
        """Store what a builder recognised a codeset to be."""
        ...

    def add_event(self, type_: str, version_id: int, dedupe_key: str, change: str, now: float) -> int | None:
        """Insert an event; returns None when the same one is there already."""
        ...

    def last_event(self, version_id: int) -> tuple[int, str] | None:
        """Id and change of the newest event of a version."""
        ...

    def get(self, version_id: int) -> Version | None:
        """One version by id."""
        ...

    def many(self, version_ids: Iterable[int]) -> list[Version]:
        """Versions by id, in the order of the ids."""
        ...

    def find(self, address: Address) -> list[Version]:
        """Versions that an address means: none, one, or several when a short digest is ambiguous."""
        ...

    def current(self, kind: str, project: str, name: str) -> Version | None:
        """The version that stands for a name now: the tip of a codeset's default branch, else the newest."""
        ...

    def names(self, kind: str, project: str | None) -> list[dict[str, Any]]:
        """Names of a kind, in one project or in all, with default branch and creation time."""
        ...

    def page(
        self,
        *,
        kind: str = "",
        project: str = "",
        name: str = "",
        type_: str = "",
        limit: int = 100,
        before: tuple[float, int] | None = None,
    ) -> list[Version]:
        """Versions, newest first, keyset-paged by (created_at, id)."""
        ...

    def kept_in(self, prefix: str) -> list[tuple[str, str, int]]:
        """Project, kind and number of the versions that lie in stores whose name begins with `prefix`."""
        ...

    def mark_deleted(self, kind: str, project: str, name: str) -> bool:
        """Hide a name; its versions stay as records of lineage. Returns False if there was none."""
        ...

    def touch_branch(self, artifact_id: int, branch: str, version_id: int) -> str:
        """Move a branch to a version and return the default branch of the codeset."""
        ...


class Pipelines(Protocol):
    """Pipelines with their triggers."""

    def add(self, values: dict[str, Any]) -> int | None:
        """Insert a pipeline; returns None if project and name are taken."""
        ...

    def add_trigger(self, pipeline: Pipeline, input_: str, kind: str, selector: str, types: list[str]) -> int:
        """Insert a trigger for one input of a pipeline."""
        ...

    def get(self, project: str, name: str) -> Pipeline | None:
        """One pipeline by name."""
        ...

    def by_id(self, pipeline_id: int) -> Pipeline | None:
        """One pipeline by id."""
        ...

    def by_ids(self, pipeline_ids: Iterable[int]) -> dict[int, Pipeline]:
        """Pipelines by id."""
        ...

    def all(self, project: str | None = None) -> list[Pipeline]:
        """Pipelines of a project, or all, by name."""
        ...

    def remove(self, pipeline_id: int) -> None:
        """Delete a pipeline with its triggers and runs."""
        ...

    def set_state(self, pipeline_id: int, state: str) -> None:
        """Pause (`paused`) or resume (`active`) a pipeline; its triggers follow."""
        ...

    def rebind(self, pipeline_id: int, values: dict[str, Any], types: dict[str, list[str]]) -> None:
        """Give a pipeline another specification; its triggers wait for the types said by input from now on."""
        ...

    def next_number(self, pipeline_id: int) -> int:
        """Take the next run number; numbers are dense and given in the order of creation."""
        ...

    def decide_alone(self) -> None:
        """Let no other transaction decide about triggers until this one ends.

        A version and the version of another input may be registered at the same time: each decision has to see what
        the other one adds, or a run that waits for both is lost.
        """
        ...

    def triggers(self, kind: str, project: str, name: str) -> list[Trigger]:
        """Enabled triggers that may wait for an artifact, oldest first; patterns are left to the caller."""
        ...

    def triggers_of(self, pipeline_id: int) -> list[Trigger]:
        """Triggers of one pipeline."""
        ...

    def fire(
        self,
        trigger: Trigger,
        event_id: int,
        version_id: int,
        decision: str,
        reason: str,
        run_id: int | None,
        change: str,
        now: float,
    ) -> bool:
        """Store a decision; returns False when this trigger has met this event already (G1)."""
        ...

    def was_triggered(self, run_id: int, change: str) -> bool:
        """Whether a trigger created a run of a change, rather than a person."""
        ...

    def has_fired(self, trigger_id: int, event_id: int) -> bool:
        """Whether a trigger has met an event."""
        ...

    def decisions(self, *, change: str = "", version_id: int | None = None, limit: int = 500) -> list[Decision]:
        """Decisions of a change or about a version, in the order they were made."""
        ...


class Runs(Protocol):
    """Pipeline runs."""

    def find_key(self, run_key: str) -> Run | None:
        """The run with a key, if there is one (G2: one run per key)."""
        ...

    def add(self, values: dict[str, Any], inputs: dict[str, int]) -> int:
        """Insert a run with its bound inputs and return its id."""
        ...

    def by_id(self, run_id: int) -> Run | None:
        """One run by id."""
        ...

    def get(self, project: str, pipeline: str, number: int) -> Run | None:
        """One run by its name."""
        ...

    def active(self) -> list[Run]:
        """Runs that have not ended, oldest first."""
        ...

    def page(
        self, *, project: str = "", pipeline: str = "", state: str = "", change: str = "", limit: int = 100
    ) -> list[Run]:
        """Runs, newest first."""
        ...

    def inputs(self, run_id: int) -> dict[str, int]:
        """Version id by input."""
        ...

    def inputs_of(self, run_ids: Iterable[int]) -> dict[int, dict[str, int]]:
        """Version id by input, by run."""
        ...

    def any_active(self, change: str) -> bool:
        """Whether a run of a change has not ended."""
        ...

    def lock(self, run_id: int) -> Run | None:
        """The run as it is now; no other transaction changes it before this one ends."""
        ...

    def end(self, run_id: int, state: RunState, error: str, started_at: float, ended_at: float) -> bool:
        """End a run that has not ended; returns whether it had not."""
        ...

    def later_giver(self, run_id: int, kind: str, project: str, name: str) -> str:
        """Name of a later run of the same pipeline that put out an artifact of this name already, or empty."""
        ...

    def consuming(self, version_ids: list[int]) -> list[Run]:
        """Runs that took any of these versions as an input, newest first."""
        ...

    def produced(self, run_ids: Iterable[int]) -> dict[int, list[int]]:
        """Version ids that the steps of runs put out, reused ones included, by run."""
        ...

    def set(self, run_id: int, **values: Any) -> None:
        """Change columns of a run."""
        ...


class Steps(Protocol):
    """Steps of runs."""

    def add(self, values: dict[str, Any]) -> int:
        """Insert a step."""
        ...

    def by_id(self, step_id: int) -> Step | None:
        """One step by id."""
        ...

    def of_run(self, run_id: int) -> list[Step]:
        """Steps of a run in the order of the template."""
        ...

    def of_runs(self, run_ids: Iterable[int]) -> dict[int, list[Step]]:
        """Steps of runs in the order of their templates, by run."""
        ...

    def by_workload(self, workload: str) -> Step | None:
        """The step that a workload belongs to."""
        ...

    def in_states(self, states: Iterable[StepState]) -> list[Step]:
        """Steps in any of these states, oldest first."""
        ...

    def change(self, step_id: int, expected: Iterable[StepState], attempt: int, /, **values: Any) -> bool:
        """Change a step only if it is still in an expected state and attempt; returns whether it was.

        This is the fence: a late report about an earlier attempt changes nothing (G3, G4).
        """
        ...

    def set_io(self, step_id: int, direction: str, bindings: Iterable[Binding]) -> None:
        """Replace what flows into (`in`) or out of (`out`) a step."""
        ...

    def io(self, step_id: int, direction: str) -> list[Binding]:
        """What flowed into or out of a step."""
        ...

    def io_of(self, step_ids: Iterable[int], direction: str) -> dict[int, list[Binding]]:
        """What flowed into or out of steps, by step."""
        ...

    def cached(self, fingerprint: str) -> Step | None:
        """The succeeded step whose outputs a fingerprint stands for."""
        ...

    def remember(self, fingerprint: str, step_id: int, now: float) -> None:
        """Let a fingerprint stand for the outputs of a step."""
        ...

    def previous(self, pipeline_id: int, name: str, before_run: int, limit: int = 20) -> list[Step]:
        """The same step in the last earlier runs of a pipeline in which it succeeded, the last one first."""
        ...

    def run_name(self, step_id: int) -> str:
        """`<pipeline>/<number>` of the run that a step belongs to."""
        ...


class Feed(Protocol):
    """What happened, in order; and how far event sources have been read."""

    def add(
        self, change: str, kind: str, text: str, *, now: float, run: str = "", step: str = "", state: str = ""
    ) -> None:
        """Append one line."""
        ...

    def after(self, change: str, seq: int, limit: int = 500) -> list[FeedItem]:
        """Lines of a change after a sequence number."""
        ...

    def cursor(self, source: str) -> str:
        """The stored cursor of an event source, or empty."""
        ...

    def set_cursor(self, source: str, cursor: str) -> None:
        """Store the cursor of an event source."""
        ...


class Transaction(Protocol):
    """All repositories over one transaction."""

    @property
    def projects(self) -> Projects:
        """Projects in this transaction."""
        ...

    @property
    def artifacts(self) -> Artifacts:
        """Artifacts in this transaction."""
        ...

    @property
    def pipelines(self) -> Pipelines:
        """Pipelines in this transaction."""
        ...

    @property
    def runs(self) -> Runs:
        """Runs in this transaction."""
        ...

    @property
    def steps(self) -> Steps:
        """Steps in this transaction."""
        ...

    @property
    def services(self) -> Services:
        """Services in this transaction."""
        ...

    @property
    def feed(self) -> Feed:
        """Feed in this transaction."""
        ...


class Ledger(Protocol):
    """Opens transactions."""

    def begin(self) -> AbstractContextManager[Transaction]:
        """A transaction that may write; commits at the end of the block, rolls back when it raises."""
        ...

    def read(self) -> AbstractContextManager[Transaction]:
        """A transaction that only reads."""
        ...
