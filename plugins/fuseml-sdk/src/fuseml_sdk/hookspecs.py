"""The contract: every hook a FuseML plugin may implement, in three families.

A plugin object implements the hooks of one or more families: `store_*` makes it an artifact store, `agent_*` a
workload agent, `builder_*` a builder. `fuseml_*` hooks are its life cycle. Hooks are synchronous, take and return
data only, and may be called from several threads, at most `describe().concurrency` at once.
"""

from __future__ import annotations

from typing import Any

import pluggy

from fuseml_sdk import PROJECT
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

hookspec = pluggy.HookspecMarker(PROJECT)

#: Version of the contract on the wire; `/v1/` in its routes.
PROTOCOL = 1


class LifecycleSpecs:
    """Hooks that every plugin may implement, whatever its family."""

    @hookspec
    def fuseml_configure(self, config: dict[str, Any], state_dir: str) -> None:
        """Take the configuration before any other hook is called.

        Args:
            config: Validated against the extension's schema; secrets included.
            state_dir: Absolute path of a private directory that survives restarts.

        Raises:
            InvalidInput: A value is wrong in a way that the schema cannot express.
        """

    @hookspec
    def fuseml_health(self) -> dict[str, Any]:
        """Report whether the plugin can do its work; returns facts for people. Raise `NotReady` if it cannot."""
        return {}

    @hookspec
    def fuseml_shutdown(self) -> None:
        """Release what the plugin holds; no other hook is called afterwards."""


class StoreSpecs:
    """Hooks of an artifact store. All but describe, get and locate are optional and declared in describe."""

    @hookspec(firstresult=True)
    def store_describe(self) -> StoreDescription:
        """Say which kinds this store keeps and which hooks it offers."""

    @hookspec(firstresult=True)
    def store_register(self, request: RegisterRequest) -> ArtifactDescriptor:
        """Take in or point at contents and return the canonical descriptor. Same contents, same descriptor.

        Raises:
            InvalidInput: The contents are not what the request says.
            NotFound: `source`, or the commit of a codeset, does not exist.
        """

    @hookspec(firstresult=True)
    def store_get(self, ref: ArtifactRef) -> ArtifactDescriptor:
        """Return the descriptor of one version. `ref.digest` may be an alias of the back-end.

        Raises:
            NotFound: There is no such version.
        """

    @hookspec(firstresult=True)
    def store_search(self, query: StoreQuery) -> StorePage:
        """Return descriptors that match, page by page, in a stable order."""

    @hookspec(firstresult=True)
    def store_update(self, ref: ArtifactRef, change: DescriptorChange) -> ArtifactDescriptor:
        """Move aliases and labels in the back-end. Contents never change."""

    @hookspec(firstresult=True)
    def store_delete(self, ref: ArtifactRef) -> bool:
        """Delete one version, or the whole name when `ref.digest` is empty. Returns False if nothing was there."""

    @hookspec(firstresult=True)
    def store_locate(self, ref: ArtifactRef, accepts: list[str]) -> Location:
        """Say where an agent can fetch the contents, in the first scheme of `accepts` that the store can serve.

        Raises:
            NotFound: There is no such version.
            Unsupported: The store can serve none of the schemes.
        """

    @hookspec(firstresult=True)
    def store_files(self, ref: ArtifactRef, read: list[str], max_bytes: int) -> FileListing:
        """List the files of a version, with the text of those that were asked for and are small enough.

        Args:
            ref: The version.
            read: Globs of the files whose text is wanted, matched without regard to case.
            max_bytes: Files larger than this are listed without their text.
        """

    @hookspec(firstresult=True)
    def store_events(self, cursor: str, wait: float) -> StoreEvents:
        """Return what happened since `cursor` (empty: everything there is), waiting up to `wait` seconds (≤ 30)."""

    @hookspec(firstresult=True)
    def store_ui_url(self, ref: ArtifactRef) -> str:
        """Return the address of a page about the artifact, for people."""

    @hookspec(firstresult=True)
    def store_collect_garbage(self, keep: list[str], dry_run: bool) -> GarbageReport:
        """Remove contents whose digest is not in `keep`; with `dry_run` only report."""


class AgentSpecs:
    """Hooks of a workload agent."""

    @hookspec(firstresult=True)
    def agent_describe(self) -> AgentDescription:
        """Say what the agent can run and how much of it."""

    @hookspec(firstresult=True)
    def agent_submit(self, workload: Workload) -> WorkloadStatus:
        """Start a job or a service. Idempotent by `workload.name`: a second call returns the state of the first.

        Returns at once; staging, building and running are reported by status and events.

        Raises:
            InvalidInput: The agent can never run this, with the reason.
            NotReady: There is no room now; the caller tries again later.
        """

    @hookspec(firstresult=True)
    def agent_status(self, names: list[str]) -> list[WorkloadStatus]:
        """Return the state of each workload in the same order; state `unknown` for those never submitted."""

    @hookspec(firstresult=True)
    def agent_events(self, cursor: str, wait: float) -> WorkloadEvents:
        """Return statuses that changed since `cursor` (empty: all there are), waiting up to `wait` seconds (≤ 30)."""

    @hookspec(firstresult=True)
    def agent_logs(self, name: str, cursor: str, limit: int) -> LogChunk:
        """Return at most `limit` bytes of a workload's output after `cursor` (empty: from the beginning).

        Raises:
            NotFound: There is no such workload.
        """

    @hookspec(firstresult=True)
    def agent_cancel(self, name: str, grace: float) -> WorkloadStatus:
        """Stop a workload: ask, then force after `grace` seconds. Cancelling an ended workload changes nothing."""

    @hookspec(firstresult=True)
    def agent_collect(self, name: str) -> bool:
        """Forget an ended workload and free what it holds. Returns False if it was gone already."""


class BuilderSpecs:
    """Hooks of a builder."""

    @hookspec(firstresult=True)
    def builder_describe(self) -> BuilderDescription:
        """Say which codesets the builder recognises and what it makes of them."""

    @hookspec(firstresult=True)
    def builder_detect(self, listing: FileListing) -> Detection:
        """Decide within 10 s whether a codeset is of one of the builder's types.

        Args:
            listing: Its file list, with the text of the small files that `describe().reads` names.
        """

    @hookspec(firstresult=True)
    def builder_build(self, request: BuildRequest) -> BuildResult:
        """Make runnables out of a checked-out codeset. Called inside a job, by `python -m fuseml_sdk.build`.

        Raises:
            InvalidInput: The codeset is broken; the message names file, place and remedy.
        """


#: Specification classes by family; the prefix of a hook's name is its family.
FAMILIES: dict[str, type] = {
    "fuseml": LifecycleSpecs,
    "store": StoreSpecs,
    "agent": AgentSpecs,
    "builder": BuilderSpecs,
}

#: Hooks that may be called again after a lost connection, because a second call changes nothing more.
IDEMPOTENT = frozenset({
    "fuseml_health", "store_describe", "store_register", "store_get", "store_search", "store_update", "store_delete",
    "store_locate", "store_files", "store_events", "store_ui_url", "agent_describe", "agent_submit", "agent_status",
    "agent_events", "agent_logs", "agent_cancel", "agent_collect", "builder_describe", "builder_detect",
})

#: Hooks that a plugin of a family cannot do without; the others are optional.
REQUIRED: dict[str, frozenset[str]] = {
    "store": frozenset({"store_describe", "store_get", "store_locate"}),
    "agent": frozenset({"agent_describe", "agent_submit", "agent_status", "agent_events", "agent_logs", "agent_cancel",
                        "agent_collect"}),
    "builder": frozenset({"builder_describe", "builder_detect", "builder_build"}),
}
