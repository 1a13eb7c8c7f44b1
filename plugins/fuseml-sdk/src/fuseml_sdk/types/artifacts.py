"""Artifacts at rest: references, files and descriptors."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from fuseml_sdk.types.model import WireModel

#: Kinds every installation knows; extensions may add others.
CODESET, RUNNABLE, MODEL, DATASET = "codeset", "runnable", "model", "dataset"

#: Who looks after the contents: FuseML, nobody (passed between steps), or somebody else.
Management = Literal["internal", "anonymous", "external"]


class ArtifactRef(WireModel):
    """One artifact version, or all versions of a name when `digest` is empty."""

    kind: str = Field(description="codeset, runnable, model, dataset or a kind an extension adds")
    project: str
    name: str
    digest: str = Field("", description="`git:<40 hex>` for codesets, `sha256:<64 hex>` otherwise")


class FileEntry(WireModel):
    """One file inside an artifact."""

    path: str = Field(description="POSIX path relative to the artifact's root")
    size: int = Field(ge=0, description="bytes")
    digest: str = Field(description="`sha256:<hex>`, or `git:<hex>` (the blob) for codesets")
    executable: bool = Field(False, description="whether its mode has the bit for execution")


class FileListing(WireModel):
    """The files of an artifact and the text of those that were asked for and small enough."""

    files: list[FileEntry] = Field(default_factory=list)
    contents: dict[str, str] = Field(default_factory=dict, description="path to text")


class Location(WireModel):
    """Where bytes can be fetched, with what a consumer needs to do so."""

    uri: str = Field(description="file:, git+file:, git+http:, oci:, s3: or a scheme of an extension")
    headers: dict[str, str] = Field(default_factory=dict, description="short-lived credentials as headers")
    expires_at: float | None = Field(None, description="seconds since the epoch; None means no end")


class ArtifactDescriptor(WireModel):
    """What FuseML stores about one artifact version; the contents live at `location`."""

    kind: str
    project: str
    name: str
    digest: str
    type: str | None = Field(None, description="such as `mlflow-project`, `mlflow/sklearn`, `csv`")
    size: int | None = Field(None, ge=0, description="bytes")
    location: str = Field("", description="URI of the contents as the store keeps it")
    aliases: list[str] = Field(default_factory=list, description="movable names: branches, tags, stages")
    labels: dict[str, str] = Field(default_factory=dict)
    metadata: dict[str, Any] = Field(default_factory=dict, description="facets: signature, params, metrics, …")
    files: list[FileEntry] | None = Field(None, description="None: not listed here, ask store_files")
    management: Management = Field("internal", description="who looks after the contents: FuseML, nobody (passed "
                                   "between steps), or somebody else")

    @property
    def ref(self) -> ArtifactRef:
        """The reference to this version."""
        return ArtifactRef(kind=self.kind, project=self.project, name=self.name, digest=self.digest)
