"""Typed access to a component: one method for each hook of its family, named without the prefix.

Every method raises :class:`fuseml_sdk.errors.PluginError` subclasses whose details name extension, version,
component and hook, and takes `timeout` in seconds; None takes the hook's own default.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fuseml_core.host.reports import bounded, bounded_chunk
from fuseml_sdk.types import (
    AgentDescription,
    ArtifactDescriptor,
    ArtifactRef,
    BuilderDescription,
    BuildRequest,
    BuildResult,
    DescriptorChange,
    Detection,
    FileListing,
    GarbageReport,
    Location,
    LogChunk,
    RegisterRequest,
    StoreDescription,
    StoreEvents,
    StorePage,
    StoreQuery,
    Workload,
    WorkloadEvents,
    WorkloadStatus,
)

#: Calls one hook: name, arguments, timeout in seconds.
Caller = Callable[[str, dict[str, Any], float | None], Any]

#: Seconds for hooks that move bytes or build; the others get :data:`DEFAULT_TIMEOUT`.
TIMEOUTS = {"store_register": 3600.0, "store_collect_garbage": 3600.0, "builder_build": 3600.0,
            "builder_detect": 10.0}
DEFAULT_TIMEOUT = 60.0


class Facade:
    """What the facades of all families share."""

    def __init__(self, call: Caller) -> None:
        self._call = call

    def health(self, *, timeout: float | None = None) -> dict[str, Any]:
        """Facts about the plugin's well-being; empty if it reports none. Raises `NotReady` if it cannot work."""
        facts: dict[str, Any] = self._call("fuseml_health", {}, timeout)
        return facts


class StoreFacade(Facade):
    """An artifact store; see :class:`fuseml_sdk.hookspecs.StoreSpecs` for what each method does."""

    def describe(self, *, timeout: float | None = None) -> StoreDescription:
        """Which kinds it keeps and which hooks it offers."""
        result: StoreDescription = self._call("store_describe", {}, timeout)
        return result

    def register(self, request: RegisterRequest, *, timeout: float | None = None) -> ArtifactDescriptor:
        """Take in or point at contents."""
        result: ArtifactDescriptor = self._call("store_register", {"request": request}, timeout)
        return result

    def get(self, ref: ArtifactRef, *, timeout: float | None = None) -> ArtifactDescriptor:
        """The descriptor of one version."""
        result: ArtifactDescriptor = self._call("store_get", {"ref": ref}, timeout)
        return result

    def search(self, query: StoreQuery, *, timeout: float | None = None) -> StorePage:
        """Descriptors that match, page by page."""
        result: StorePage = self._call("store_search", {"query": query}, timeout)
        return result

    def update(self, ref: ArtifactRef, change: DescriptorChange, *, timeout: float | None = None) -> ArtifactDescriptor:
        """Move aliases and labels."""
        result: ArtifactDescriptor = self._call("store_update", {"ref": ref, "change": change}, timeout)
        return result

    def delete(self, ref: ArtifactRef, *, timeout: float | None = None) -> bool:
        """Delete one version or a whole name; False if nothing was there."""
        result: bool = self._call("store_delete", {"ref": ref}, timeout)
        return result

    def locate(self, ref: ArtifactRef, accepts: list[str], *, timeout: float | None = None) -> Location:
        """Where an agent can fetch the contents."""
        result: Location = self._call("store_locate", {"ref": ref, "accepts": accepts}, timeout)
        return result

    def files(self, ref: ArtifactRef, read: list[str], max_bytes: int, *, timeout: float | None = None) -> FileListing:
        """The files of a version, with the text of the small ones asked for."""
        result: FileListing = self._call("store_files", {"ref": ref, "read": read, "max_bytes": max_bytes}, timeout)
        return result

    def events(self, cursor: str, wait: float, *, timeout: float | None = None) -> StoreEvents:
        """What happened since `cursor`, waiting up to `wait` seconds."""
        result: StoreEvents = self._call("store_events", {"cursor": cursor, "wait": wait}, timeout)
        return result

    def ui_url(self, ref: ArtifactRef, *, timeout: float | None = None) -> str:
        """The address of a page about the artifact."""
        result: str = self._call("store_ui_url", {"ref": ref}, timeout)
        return result

    def collect_garbage(self, keep: list[str], dry_run: bool, *, timeout: float | None = None) -> GarbageReport:
        """Remove contents that are not kept."""
        result: GarbageReport = self._call("store_collect_garbage", {"keep": keep, "dry_run": dry_run}, timeout)
        return result


class AgentFacade(Facade):
    """A workload agent; see :class:`fuseml_sdk.hookspecs.AgentSpecs` for what each method does."""

    def describe(self, *, timeout: float | None = None) -> AgentDescription:
        """What it can run and how much of it."""
        result: AgentDescription = self._call("agent_describe", {}, timeout)
        return result

    def submit(self, workload: Workload, *, timeout: float | None = None) -> WorkloadStatus:
        """Start a job or a service."""
        result: WorkloadStatus = self._call("agent_submit", {"workload": workload}, timeout)
        return bounded(result)

    def status(self, names: list[str], *, timeout: float | None = None) -> list[WorkloadStatus]:
        """The state of each workload, in the same order."""
        result: list[WorkloadStatus] = self._call("agent_status", {"names": names}, timeout)
        return [bounded(each) for each in result]

    def events(self, cursor: str, wait: float, *, timeout: float | None = None) -> WorkloadEvents:
        """Statuses that changed since `cursor`, waiting up to `wait` seconds."""
        result: WorkloadEvents = self._call("agent_events", {"cursor": cursor, "wait": wait}, timeout)
        return result.model_copy(update={"statuses": [bounded(each) for each in result.statuses]})

    def logs(self, name: str, cursor: str, limit: int, *, timeout: float | None = None) -> LogChunk:
        """A piece of a workload's output."""
        result: LogChunk = self._call("agent_logs", {"name": name, "cursor": cursor, "limit": limit}, timeout)
        return bounded_chunk(result, cursor, limit)

    def cancel(self, name: str, grace: float, *, timeout: float | None = None) -> WorkloadStatus:
        """Stop a workload: ask, then force after `grace` seconds."""
        result: WorkloadStatus = self._call("agent_cancel", {"name": name, "grace": grace}, timeout)
        return bounded(result)

    def collect(self, name: str, *, timeout: float | None = None) -> bool:
        """Forget an ended workload; False if it was gone already."""
        result: bool = self._call("agent_collect", {"name": name}, timeout)
        return result


class BuilderFacade(Facade):
    """A builder; see :class:`fuseml_sdk.hookspecs.BuilderSpecs` for what each method does."""

    def describe(self, *, timeout: float | None = None) -> BuilderDescription:
        """Which codesets it recognises and what it makes of them."""
        result: BuilderDescription = self._call("builder_describe", {}, timeout)
        return result

    def detect(self, listing: FileListing, *, timeout: float | None = None) -> Detection:
        """Whether a codeset is of one of the builder's types."""
        result: Detection = self._call("builder_detect", {"listing": listing}, timeout)
        return result

    def build(self, request: BuildRequest, *, timeout: float | None = None) -> BuildResult:
        """Make runnables out of a checked-out codeset."""
        result: BuildResult = self._call("builder_build", {"request": request}, timeout)
        return result


def default_timeout(hook: str, arguments: dict[str, Any]) -> float:
    """Seconds a hook may take when the caller says nothing: what it waits by request comes on top."""
    extra = float(arguments.get("wait") or 0.0) + float(arguments.get("grace") or 0.0)
    return TIMEOUTS.get(hook, DEFAULT_TIMEOUT) + extra
