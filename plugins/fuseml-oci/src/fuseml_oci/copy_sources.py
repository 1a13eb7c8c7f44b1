"""Where a copy comes from: a repository of a registry, or an OCI image layout."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol

from fuseml_oci import media
from fuseml_oci.client import RegistryClient
from fuseml_oci.descriptor import Descriptor
from fuseml_oci.layout import ImageLayout
from fuseml_oci.origin import Origin
from fuseml_oci.progress import Watch
from fuseml_oci.reference import Reference
from fuseml_oci.referring import described
from fuseml_oci.sections import Source
from fuseml_oci.sources import LayoutSource
from fuseml_oci.transfers import store
from fuseml_sdk.errors import InvalidInput, NotFound, Permanent

#: Blobs up to this size pass through memory, larger ones through a temporary file.
IN_MEMORY = 1 << 20
#: Names that stand for what is attached to something else: cosign's tags and fallback tags.
_ATTACHED = re.compile(r"sha(256|512)-[0-9a-f]*(\.[a-z]+)?")
#: Largest manifest, in bytes.
MAX_MANIFEST = 4 << 20


@dataclass(frozen=True, slots=True)
class LayoutEntry:
    """A place in an OCI image layout.

    Attributes:
        path: Folder or `.tar` file.
        name: Reference name or digest; empty for the only manifest of a layout.
    """

    path: Path
    name: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.name}" if self.name else str(self.path)


class Found(NamedTuple):
    """A manifest or index: its exact bytes, and a description with artifact type and annotations."""

    data: bytes
    descriptor: Descriptor


class CopySource(Protocol):
    """What is read while something is copied. Manifests are verified; blobs are while they are used."""

    @property
    def repository(self) -> tuple[Origin, str] | None:
        """Registry and repository, from which blobs can be mounted; None for other places."""

    @property
    def name(self) -> str:
        """The tag or reference name of what shall be copied; empty if it has none."""

    def root(self) -> Found:
        """Return what shall be copied."""

    def manifest(self, descriptor: Descriptor) -> Found:
        """Return a manifest or index that another one names."""

    def tagged(self, tag: str) -> Found | None:
        """Return what a tag points to, None without such a tag."""

    def referrers(self, digest: str) -> list[Descriptor]:
        """Return the manifests whose subject is a digest."""

    def content(self, descriptor: Descriptor) -> AbstractContextManager[Source]:
        """Make the bytes of a blob available for sending, as long as the context lasts."""

    def save(self, descriptor: Descriptor, destination: Path, watch: Watch) -> None:
        """Write a blob into a file that appears only when size and digest are right."""


class RepositoryCopySource:
    """A repository.

    Args:
        client: For the registry.
        reference: With tag or digest.
    """

    def __init__(self, client: RegistryClient, reference: Reference) -> None:
        self._client, self._reference = client, reference

    @property
    def repository(self) -> tuple[Origin, str] | None:
        """See `CopySource`."""
        return self._client.origin, self._reference.repository

    @property
    def name(self) -> str:
        """See `CopySource`."""
        return self._reference.tag

    def root(self) -> Found:
        """See `CopySource`."""
        if not self._reference.locator:
            raise InvalidInput(f"{self._reference} names no version", hint=f"Write {self._reference}:TAG.")
        return self._fetch(self._reference.locator)

    def manifest(self, descriptor: Descriptor) -> Found:
        """See `CopySource`."""
        found = self._fetch(descriptor.digest)
        return found._replace(descriptor=replace(found.descriptor, media_type=descriptor.media_type))

    def tagged(self, tag: str) -> Found | None:
        """See `CopySource`."""
        try:
            return self._fetch(tag)
        except NotFound:
            return None

    def referrers(self, digest: str) -> list[Descriptor]:
        """See `CopySource`."""
        return self._client.referrers(self._reference.repository, digest)

    @contextmanager
    def content(self, descriptor: Descriptor) -> Iterator[Source]:
        """See `CopySource`."""
        if descriptor.size <= IN_MEMORY:
            yield self._client.get_blob_bytes(self._reference.repository, descriptor)
            return
        with tempfile.TemporaryDirectory(prefix="fuseml-copy-") as folder:
            path = Path(folder) / "blob"
            self._client.pull_blob(self._reference.repository, descriptor, path)
            yield path

    def save(self, descriptor: Descriptor, destination: Path, watch: Watch) -> None:
        """See `CopySource`. What a lost connection has brought stays beside the destination."""
        self._client.pull_blob(self._reference.repository, descriptor, destination, keep=True, watch=watch)

    def _fetch(self, locator: str) -> Found:
        data, media_type, digest = self._client.get_manifest(self._reference.repository, locator)
        return Found(data, replace(described(data, media_type), digest=digest))


class LayoutCopySource:
    """An image layout.

    Args:
        layout: Opened.
        entry: Which of its manifests.
    """

    def __init__(self, layout: ImageLayout, entry: LayoutEntry) -> None:
        self._layout, self._entry = layout, entry
        self._source = LayoutSource(layout)

    @property
    def repository(self) -> tuple[Origin, str] | None:
        """See `CopySource`."""
        return None

    @property
    def name(self) -> str:
        """See `CopySource`."""
        return self._chosen().annotations.get(media.REF_NAME, "")

    def root(self) -> Found:
        """See `CopySource`."""
        self._check(self._layout.manifests())
        return self.manifest(self._chosen())

    def manifest(self, descriptor: Descriptor) -> Found:
        """See `CopySource`."""
        if descriptor.size > MAX_MANIFEST:
            raise InvalidInput(f"{self._entry}: the manifest {descriptor.digest} has {descriptor.size} bytes")
        data = self._layout.read(descriptor)
        return Found(data, replace(described(data, descriptor.media_type), digest=descriptor.digest))

    def tagged(self, tag: str) -> Found | None:
        """See `CopySource`."""
        found = self._layout.tagged(tag)
        return None if found is None else self.manifest(found)

    def referrers(self, digest: str) -> list[Descriptor]:
        """See `CopySource`."""
        return self._source.referrers(digest)

    @contextmanager
    def content(self, descriptor: Descriptor) -> Iterator[Source]:
        """See `CopySource`."""
        yield self._layout.section(descriptor)

    def save(self, descriptor: Descriptor, destination: Path, watch: Watch) -> None:
        """See `CopySource`."""
        store(self._layout.section(descriptor), descriptor, destination, watch)

    def _chosen(self) -> Descriptor:
        name, entries = self._entry.name, self._layout.manifests()
        if name:
            chosen = [d for d in entries if name in (d.digest, d.annotations.get(media.REF_NAME))]
        else:
            named = [d for d in entries if not _ATTACHED.fullmatch(d.annotations.get(media.REF_NAME) or "sha256-")]
            chosen = named or entries
        if len({d.digest for d in chosen}) != 1:
            names = sorted({d.annotations.get(media.REF_NAME) or d.digest for d in entries})
            raise InvalidInput(f"{self._entry} names {len(chosen) or 'no'} manifests",
                               hint=f"The layout holds: {', '.join(names) or 'nothing'}.")
        return max(chosen, key=lambda d: d.annotations.get(media.REF_NAME, ""))

    def _check(self, entries: list[Descriptor]) -> None:
        """Refuse a damaged signature, which would be left out in silence; that blobs are missing is allowed."""
        for entry in entries:
            try:
                self.manifest(entry)
            except NotFound:
                continue
            except InvalidInput as error:
                raise Permanent(f"{self._entry} is damaged: {error.message}", hint=error.hint) from None
