"""Workloads at run time: what a workload agent is given and what it reports."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from fuseml_sdk.types.artifacts import FileEntry, Location
from fuseml_sdk.types.model import WireModel
from fuseml_sdk.types.runnables import Resources, RunnableDescriptor, Scalar

WorkloadKind = Literal["job", "service"]
#: `preparing` covers staging and building the environment; `ready` is a service that answers.
WorkloadState = Literal["pending", "preparing", "running", "ready", "succeeded", "failed", "cancelled", "unknown"]
FINAL_STATES = frozenset({"succeeded", "failed", "cancelled"})


class WorkloadInput(WireModel):
    """One artifact to stage in before the start."""

    name: str
    kind: str
    location: Location
    digest: str = ""
    files: list[FileEntry] | None = None
    metadata: dict[str, Any] = Field(default_factory=dict, description="facets of the artifact's descriptor")


class Workload(WireModel):
    """A runnable plus its run-time description: all an agent needs to make one job or service of it.

    Submitting the same `name` twice is one submission; the second returns the state of the first.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="unique for ever, chosen by the caller")
    kind: WorkloadKind = "job"
    runnable: RunnableDescriptor
    contents: Location | None = Field(None, description="directory or OCI artifact with the runnable's files")
    inputs: list[WorkloadInput] = Field(default_factory=list)
    parameters: dict[str, Scalar] = Field(default_factory=dict, description="resolved, defaults included")
    env: dict[str, str] = Field(default_factory=dict)
    resources: Resources = Field(default_factory=Resources)
    timeout: float | None = Field(None, description="seconds for a job, None takes the agent's default")
    labels: dict[str, str] = Field(default_factory=dict, description="project, pipeline, run, step")


class Metric(WireModel):
    """One measured value."""

    key: str = Field(description="what was measured, such as `rmse`")
    value: float = Field(description="in the unit that the workload chose")
    step: int = Field(0, description="epoch or iteration")
    timestamp: float = Field(0.0, description="seconds since the epoch")


class WorkloadOutput(WireModel):
    """One collected output. `many` outputs give several entries with the same name."""

    name: str = Field(description="name of the OutputSpec")
    kind: str
    value: str | None = Field(None, description="for kind `value`")
    location: Location | None = Field(None, description="directory with the contents, for artifacts")
    files: list[FileEntry] = Field(default_factory=list, description="digests computed by the agent")
    artifact_name: str | None = Field(None, description="name the workload gave to the artifact")
    type: str | None = Field(None, description="of the artifact, such as `mlflow/sklearn`")
    labels: dict[str, str] = Field(default_factory=dict)
    metadata: dict[str, Any] = Field(default_factory=dict)


class WorkloadStatus(WireModel):
    """The state of one workload as the agent sees it."""

    name: str
    state: WorkloadState = Field(description="`preparing` covers staging and building the environment; `ready` is a "
                                 "service that answers")
    phase: str = Field("", description="what is going on now, such as `building environment`")
    reason: str = Field("", description="one word for a failure: ExitCode, Signal, OutOfMemory, Timeout, Staging, "
                        "Environment, MissingOutput, NotReady, Lost, …")
    message: str = Field("", description="what happened and what to do, for people")
    exit_code: int | None = Field(None, description="of the process, when it has ended by itself")
    signal: int | None = Field(None, description="number of the signal that ended the process")
    submitted_at: float | None = Field(None, description="seconds since the epoch")
    started_at: float | None = Field(None, description="seconds since the epoch")
    ended_at: float | None = Field(None, description="seconds since the epoch")
    log_tail: list[str] = Field(default_factory=list, description="last lines, at most 20")
    warnings: list[str] = Field(default_factory=list, description="what people should know although it works")
    outputs: list[WorkloadOutput] = Field(default_factory=list)
    metrics: list[Metric] = Field(default_factory=list, description="what the workload has measured so far")
    endpoint: str | None = Field(None, description="of a ready service: `unix:<path>` or `http://host:port`")
    timings: dict[str, float] = Field(default_factory=dict, description="seconds by phase")


class WorkloadEvents(WireModel):
    """Statuses that changed since a cursor, oldest first, each workload at most once."""

    statuses: list[WorkloadStatus] = Field(default_factory=list)
    cursor: str = Field(description="for the next call")


class LogChunk(WireModel):
    """A piece of a workload's log."""

    text: str
    cursor: str = Field(description="after this piece, for the next call")
    complete: bool = Field(description="True when the workload has ended and nothing follows")


class AgentDescription(WireModel):
    """What a workload agent can do."""

    name: str
    kinds: list[WorkloadKind] = Field(description="whether it runs jobs, services or both")
    environments: list[Literal["python", "image"]] = Field(description="kinds of environments that it can make")
    schemes: list[str] = Field(description="location schemes it can stage, preferred first")
    capabilities: dict[str, str] = Field(default_factory=dict, description="such as gpu-type: a100, for "
                                         "runnables that need them")
    capacity: dict[str, float] = Field(default_factory=dict, description="cpu (cores), memory (bytes), gpu, jobs, "
                                       "services")
    domains: list[str] = Field(default_factory=lambda: ["local"], description="networks that it reaches, for locations")
    concurrency: int = Field(8, ge=1, description="hook calls that may run at once")
    events_interval: float | None = Field(None, description="seconds between calls of agent_events when it cannot wait")
