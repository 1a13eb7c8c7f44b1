"""What FuseML keeps in its database, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from fuseml_core.domain.addresses import Address, short_form


class RunState(StrEnum):
    """State of a pipeline run."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepState(StrEnum):
    """State of one step of a run. `completing`: the workload has ended and its outputs are being registered."""

    WAITING = "waiting"
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETING = "completing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


#: States that a step never leaves.
FINAL_STEP_STATES = frozenset({StepState.SUCCEEDED, StepState.FAILED, StepState.CANCELLED, StepState.SKIPPED})


class ServiceState(StrEnum):
    """State of a service as users see it."""

    STARTING = "starting"
    READY = "ready"
    STOPPED = "stopped"
    FAILED = "failed"


class InstanceState(StrEnum):
    """State of one instance behind a service."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    ENDED = "ended"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Project:
    """A project: codesets, pipelines and services that belong together.

    Attributes:
        stores: Kind of artifacts to the store that its new ones go to; kinds not in it go to the built-in store.
    """

    name: str
    description: str
    created_at: float
    stores: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NewVersion:
    """An artifact version about to be registered."""

    kind: str
    project: str
    name: str
    digest: str
    type: str | None = None
    size: int | None = None
    location: str = ""
    aliases: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    management: str = "internal"
    store: str = ""


@dataclass(frozen=True, slots=True)
class Version:
    """A registered artifact version. Contents never change; aliases and labels move."""

    id: int
    kind: str
    project: str
    name: str
    digest: str
    seq: int
    type: str | None
    size: int | None
    location: str
    aliases: tuple[str, ...]
    labels: dict[str, str]
    metadata: dict[str, Any]
    management: str
    created_at: float
    change: str
    producer: tuple[str, str] | None
    store: str = ""

    @property
    def address(self) -> str:
        """Canonical address."""
        return str(Address(self.kind, self.project, self.name, digest=self.digest))

    @property
    def short(self) -> str:
        """The address as tables print it."""
        return short_form(self.kind, self.project, self.name, self.digest)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A template bound to a project. `spec` is the compiled template with every runnable pinned by digest."""

    id: int
    project: str
    name: str
    state: str
    template: str
    template_digest: str
    extension: str
    extension_digest: str
    spec: dict[str, Any]
    inputs: dict[str, str]
    parameters: dict[str, Any]
    created_at: float
    runs: int = 0


@dataclass(frozen=True, slots=True)
class Trigger:
    """One input of a pipeline waiting for artifacts that match a selector."""

    id: int
    pipeline_id: int
    pipeline: str
    project: str
    input: str
    selector: str
    types: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """Why a trigger fired or did not fire for one artifact version."""

    pipeline: str
    decision: str
    reason: str
    run: str | None
    address: str


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of a pipeline.

    Attributes:
        only: The one step to execute, with the results of earlier runs as its inputs; empty executes all.
        stepping: Each step waits until it is released.
        released: How many steps may have started while stepping.
        swaps: Runnable that stands in for that of the template, by step.
    """

    id: int
    uid: str
    project: str
    pipeline_id: int
    pipeline: str
    number: int
    change: str
    state: RunState
    parameters: dict[str, Any]
    no_cache: bool
    cancel_requested: bool
    only: str
    stepping: bool
    released: int
    swaps: dict[str, Any]
    error: str
    created_at: float
    started_at: float | None
    ended_at: float | None

    @property
    def name(self) -> str:
        """`<pipeline>/<number>`."""
        return f"{self.pipeline}/{self.number}"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a run."""

    id: int
    uid: str
    run_id: int
    name: str
    state: StepState
    attempt: int
    agent: str
    workload: str
    fingerprint: str
    parts: dict[str, Any]
    reused: bool
    why: str
    phase: str
    not_before: float
    started_at: float | None
    ended_at: float | None
    exit_code: int | None
    reason: str
    message: str
    log_tail: tuple[str, ...]
    warnings: tuple[str, ...]
    metrics: tuple[dict[str, Any], ...]
    timings: dict[str, float]


@dataclass(frozen=True, slots=True)
class Binding:
    """What flows into or out of a step: an artifact version or a short value."""

    port: str
    version_id: int | None = None
    value: str | None = None
    defaulted: bool = False


@dataclass(frozen=True, slots=True)
class Service:
    """A served model: key (project, name), owned by one pipeline."""

    id: int
    project: str
    name: str
    pipeline_id: int
    pipeline: str
    desired: str
    state: ServiceState
    predict_path: str
    run: str
    model_id: int | None
    restarts: int
    message: str
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class Instance:
    """One running copy behind a service."""

    id: int
    service_id: int
    workload: str
    agent: str
    state: InstanceState
    endpoint: str
    fingerprint: str
    step_id: int
    attempt: int
    drain_until: float | None
    not_before: float
    created_at: float


@dataclass(frozen=True, slots=True)
class FeedItem:
    """One line of what happened in a change, in order."""

    seq: int
    at: float
    change: str
    kind: str
    run: str
    step: str
    state: str
    text: str
