"""What artifact stores take and return."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from fuseml_sdk.types.artifacts import ArtifactDescriptor, FileEntry, Location
from fuseml_sdk.types.model import WireModel

StoreCapability = Literal["register", "search", "update", "delete", "events", "files", "ui_url", "collect_garbage"]


class ServedPrefix(WireModel):
    """An HTTP prefix that the data process routes to a socket of the store."""

    prefix: str = Field(description="path that requests begin with, such as `/git/`")
    socket: str = Field(description="absolute path of the Unix socket that answers them")


class StoreDescription(WireModel):
    """What an artifact store offers."""

    name: str
    kinds: list[str] = Field(description="kinds of artifacts that it keeps: codeset, model, dataset, …")
    schemes: list[str] = Field(description="location schemes it can hand out, preferred first")
    capabilities: list[StoreCapability] = Field(description="optional hooks that it offers, without `store_`")
    concurrency: int = Field(8, ge=1, description="hook calls that may run at once")
    events_interval: float | None = Field(None, description="seconds between calls of store_events when it cannot wait")
    serves: list[ServedPrefix] = Field(default_factory=list, description="HTTP prefixes of a built-in store")


class RegisterRequest(WireModel):
    """Contents to take in, or to point at, as a new version of an artifact.

    For `source` a store takes over what lies there: a directory may be moved, so the caller must not use it
    afterwards. A codeset is registered by `digest` alone, its contents being in the repository already.
    """

    kind: str
    project: str
    name: str
    source: Location | None = Field(None, description="where the contents lie; None: they are known by `digest`")
    digest: str = Field("", description="identity if it is known; otherwise the store computes it")
    files: list[FileEntry] | None = Field(None, description="files of `source` with digests, as an agent computed them")
    type: str | None = Field(None, description="such as `mlflow/sklearn`; None: the store finds out or leaves it")
    aliases: list[str] = Field(default_factory=list, description="movable names to give to the version")
    labels: dict[str, str] = Field(default_factory=dict)
    metadata: dict[str, Any] = Field(default_factory=dict)


class StoreQuery(WireModel):
    """A search inside one store; empty fields do not restrict."""

    kind: str = ""
    project: str = ""
    name: str = Field("", description="glob")
    limit: int = Field(100, ge=1, le=1000, description="entries on a page at most")
    cursor: str = Field("", description="of the last page; empty: the first page")


class StorePage(WireModel):
    """One page of descriptors; an empty cursor means it is the last."""

    items: list[ArtifactDescriptor]
    cursor: str = Field("", description="for the next page; empty: this was the last")


class DescriptorChange(WireModel):
    """Movable things to set on a version; None leaves them alone. Contents never change."""

    aliases: list[str] | None = Field(None, description="all movable names that it is to have")
    labels: dict[str, str] | None = Field(None, description="all labels that it is to have")


class StoreEvent(WireModel):
    """Something that happened in the back-end, whoever did it."""

    type: Literal["created", "deleted", "alias-moved"] = Field(description="what happened")
    kind: str
    project: str
    name: str
    digest: str = ""
    aliases: list[str] = Field(default_factory=list, description="movable names that it has now")
    metadata: dict[str, Any] = Field(default_factory=dict)


class StoreEvents(WireModel):
    """Events since a cursor, oldest first."""

    events: list[StoreEvent] = Field(default_factory=list)
    cursor: str = Field(description="for the next call")


class GarbageReport(WireModel):
    """What a collection removed, or would remove."""

    removed: list[str] = Field(default_factory=list, description="digests")
    bytes: int = Field(0, description="space that they take")


__all__ = ["DescriptorChange", "GarbageReport", "Location", "RegisterRequest", "ServedPrefix", "StoreCapability",
           "StoreDescription", "StoreEvent", "StoreEvents", "StorePage", "StoreQuery"]
