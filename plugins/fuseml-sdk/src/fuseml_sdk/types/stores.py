"""What artifact stores take and return."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from fuseml_sdk.types.artifacts import ArtifactDescriptor, FileEntry, Location
from fuseml_sdk.types.model import WireModel

StoreCapability = Literal["register", "search", "update", "delete", "events", "files", "ui_url", "collect_garbage"]


class ServedPrefix(WireModel):
    """An HTTP prefix that the data process routes to a socket of the store."""

    prefix: str
    socket: str


class StoreDescription(WireModel):
    """What an artifact store offers."""

    name: str
    kinds: list[str]
    schemes: list[str] = Field(description="location schemes it can hand out, preferred first")
    capabilities: list[StoreCapability]
    concurrency: int = Field(8, ge=1)
    events_interval: float | None = Field(None, description="seconds between calls of store_events when it cannot wait")
    serves: list[ServedPrefix] = Field(default_factory=list)


class RegisterRequest(WireModel):
    """Contents to take in, or to point at, as a new version of an artifact.

    For `source` a store takes over what lies there: a directory may be moved, so the caller must not use it
    afterwards. A codeset is registered by `digest` alone, its contents being in the repository already.
    """

    kind: str
    project: str
    name: str
    source: Location | None = None
    digest: str = Field("", description="identity if it is known; otherwise the store computes it")
    files: list[FileEntry] | None = Field(None, description="files of `source` with digests, as an agent computed them")
    type: str | None = None
    aliases: list[str] = Field(default_factory=list)
    labels: dict[str, str] = Field(default_factory=dict)
    metadata: dict[str, Any] = Field(default_factory=dict)


class StoreQuery(WireModel):
    """A search inside one store; empty fields do not restrict."""

    kind: str = ""
    project: str = ""
    name: str = Field("", description="glob")
    limit: int = Field(100, ge=1, le=1000)
    cursor: str = ""


class StorePage(WireModel):
    """One page of descriptors; an empty cursor means it is the last."""

    items: list[ArtifactDescriptor]
    cursor: str = ""


class DescriptorChange(WireModel):
    """Movable things to set on a version; None leaves them alone. Contents never change."""

    aliases: list[str] | None = None
    labels: dict[str, str] | None = None


class StoreEvent(WireModel):
    """Something that happened in the back-end, whoever did it."""

    type: Literal["created", "deleted", "alias-moved"]
    kind: str
    project: str
    name: str
    digest: str = ""
    aliases: list[str] = Field(default_factory=list)
    metadata: dict[str, Any] = Field(default_factory=dict)


class StoreEvents(WireModel):
    """Events since a cursor, oldest first."""

    events: list[StoreEvent] = Field(default_factory=list)
    cursor: str


class GarbageReport(WireModel):
    """What a collection removed, or would remove."""

    removed: list[str] = Field(default_factory=list, description="digests")
    bytes: int = 0


__all__ = ["DescriptorChange", "GarbageReport", "Location", "RegisterRequest", "ServedPrefix", "StoreCapability",
           "StoreDescription", "StoreEvent", "StoreEvents", "StorePage", "StoreQuery"]
