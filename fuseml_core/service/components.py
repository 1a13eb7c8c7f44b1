"""What the engine and the use cases know of plugins: stores by kind, workload agents, builders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fuseml_core.domain.extensions import Rest
from fuseml_sdk.types import (
    AgentDescription,
    ArtifactDescriptor,
    ArtifactRef,
    BuilderDescription,
    Detection,
    FileListing,
    Location,
    LogChunk,
    RegisterRequest,
    StoreDescription,
    StoreEvents,
    Workload,
    WorkloadEvents,
    WorkloadStatus,
)


class Store(Protocol):
    """An artifact store, wherever it is hosted; the methods are the `store_` hooks."""

    def describe(self) -> StoreDescription:
        """See `store_describe`."""
        ...

    def register(self, request: RegisterRequest) -> ArtifactDescriptor:
        """See `store_register`."""
        ...

    def get(self, ref: ArtifactRef) -> ArtifactDescriptor:
        """See `store_get`."""
        ...

    def delete(self, ref: ArtifactRef) -> bool:
        """See `store_delete`."""
        ...

    def locate(self, ref: ArtifactRef, accepts: list[str]) -> Location:
        """See `store_locate`."""
        ...

    def files(self, ref: ArtifactRef, read: list[str], max_bytes: int) -> FileListing:
        """See `store_files`."""
        ...

    def events(self, cursor: str, wait: float) -> StoreEvents:
        """See `store_events`."""
        ...


class Agent(Protocol):
    """A workload agent, wherever it is hosted; the methods are the `agent_` hooks."""

    def describe(self) -> AgentDescription:
        """See `agent_describe`."""
        ...

    def submit(self, workload: Workload) -> WorkloadStatus:
        """See `agent_submit`."""
        ...

    def status(self, names: list[str]) -> list[WorkloadStatus]:
        """See `agent_status`."""
        ...

    def events(self, cursor: str, wait: float) -> WorkloadEvents:
        """See `agent_events`."""
        ...

    def logs(self, name: str, cursor: str, limit: int) -> LogChunk:
        """See `agent_logs`."""
        ...

    def cancel(self, name: str, grace: float) -> WorkloadStatus:
        """See `agent_cancel`."""
        ...

    def collect(self, name: str) -> bool:
        """See `agent_collect`."""
        ...


class Builder(Protocol):
    """A builder, wherever it is hosted; the methods are the `builder_` hooks."""

    def describe(self) -> BuilderDescription:
        """See `builder_describe`."""
        ...

    def detect(self, listing: FileListing) -> Detection:
        """See `builder_detect`."""
        ...


@dataclass(frozen=True, slots=True)
class Named:
    """A component with the name it goes by: `process`, `mlflow/mlflow`."""

    name: str
    family: str
    component_id: str


class Components(Protocol):
    """Finds components by what they are for."""

    def store(self, kind: str, name: str = "") -> Store:
        """A store by name; without one, the built-in store of a kind.

        Raises:
            Unavailable: There is no store of that name, or none keeps this kind.
        """
        ...

    def stores(self) -> Sequence[tuple[str, Store]]:
        """All stores by name."""
        ...

    def watched(self) -> Sequence[tuple[str, Store]]:
        """Stores that tell what happens in them, by name."""
        ...

    def agent(self, name: str) -> Agent:
        """A workload agent by name.

        Raises:
            Unavailable: There is none of that name.
        """
        ...

    def agents(self) -> Sequence[tuple[str, Agent]]:
        """All workload agents by name, preferred first."""
        ...

    def resting_agents(self) -> Sequence[tuple[str, AgentDescription | None, Rest]]:
        """Agents that are installed and not loaded now, with what they said about themselves, and why."""
        ...

    def builders(self) -> Sequence[tuple[str, Builder]]:
        """All builders by name."""
        ...

    def resting_builders(self) -> Sequence[tuple[str, Rest]]:
        """Builders that are installed and not loaded now, and why."""
        ...

    def variables(self, extension: str) -> dict[str, str]:
        """The settings of an extension as environment variables, for workloads that run what it made.

        They are `FUSEML_<EXTENSION>_<KEY>` and may hold secrets; nothing when the extension is not installed.
        """
        ...


class Gateway(Protocol):
    """The part of the data process that sends requests to services."""

    def publish(self, services: dict[str, dict[str, str | None]]) -> None:
        """Put a routing table into force: `<project>/<service>` to endpoint, state, instance and predict path."""
        ...

    def in_flight(self, workload: str) -> int:
        """How many requests an instance is answering; 0 when the data process does not run."""
        ...


class Catalog(Protocol):
    """Templates and runnables of installed extensions."""

    def templates(self) -> list[dict[str, Any]]:
        """Every template of the active extensions.

        Returns:
            `name`, `short`, `summary`, `extension`, `version`, `extension_digest`, `digest`, `template` of each.
        """
        ...

    def template(self, name: str) -> dict[str, Any]:
        """One template by `<extension>/<template>`, or by its short name where that is unique.

        Raises:
            NotFound: There is none; the message lists what there is.
            Conflict: The short name is ambiguous.
        """
        ...

    def version(self, digest: str) -> str:
        """The version that a bundle digest is; empty when it is not known any more."""
        ...

    def runnable(self, name: str, extension: str) -> dict[str, Any]:
        """A runnable by `<extension>/<name>`, or by name within `extension`.

        Returns:
            `address`, `digest`, `descriptor` and `contents`, the URI of its files.

        Raises:
            NotFound: There is none.
        """
        ...
