"""What the registry's storage holds, read for the pages: versions, bundles, small blobs. Nothing is ever written."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from fuseml_oci.bundles.descriptor import MAX_CONFIG, MAX_MANIFEST, BundleLayer, ExtensionDescriptor
from fuseml_oci.bundles.manifest import read_config, read_manifest
from fuseml_oci.digests import digest_bytes, split_digest
from fuseml_registry.pages.text import size_text
from fuseml_registry.storage import Storage
from fuseml_sdk.errors import InvalidInput, NotFound, PluginError
from fuseml_sdk.manifest import SEMVER
from fuseml_sdk.versions import parse_version

#: Descriptors kept in memory, and bytes of config blobs that they may have together.
_KEPT, _KEPT_BYTES = 128, 32 << 20
_MAX_TAG = 1024
#: The tag that moves to the newest development build.
DEVELOPMENT = "dev"


@dataclass(frozen=True, slots=True)
class Version:
    """A published version of a repository: its tag, the manifest it names and when it came (seconds since 1970)."""

    version: str
    digest: str
    pushed: float


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle as its manifest and config describe it; layers stay where they are."""

    repository: str
    digest: str
    manifest: bytes
    descriptor: ExtensionDescriptor

    @property
    def size(self) -> int:
        """Bytes of all layers together."""
        return sum(layer.size for layer in self.descriptor.layers)

    def layer(self, kind: str) -> BundleLayer | None:
        """The first layer of a kind, such as `readme`."""
        return next((layer for layer in self.descriptor.layers if layer.kind == kind), None)


class Holdings:
    """Reads bundles. Methods do disk work, are called from threads, and keep a bounded number of results."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._kept: OrderedDict[tuple[str, str], tuple[Bundle, int]] = OrderedDict()
        self._lock = threading.Lock()

    def tags(self, repository: str) -> list[str]:
        """All tags, in no order."""
        folder = self.storage.repository(repository) / "_tags"
        try:
            return [path.name for path in folder.iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def tagged(self, repository: str, tag: str) -> Version:
        """What a tag names.

        Raises:
            NotFound: There is no such tag.
        """
        path = self.storage.repository(repository) / "_tags" / tag
        try:
            with path.open("rb") as file:
                digest, pushed = file.read(_MAX_TAG).decode("ascii", "replace"), path.stat().st_mtime
            split_digest(digest)
        except (OSError, InvalidInput):
            raise NotFound(f"{repository} has no tag {tag!r}") from None
        return Version(tag, digest, pushed)

    def versions(self, repository: str, limit: int | None = None) -> list[Version]:
        """The tags that are versions, the highest first; several tags of one digest are several versions."""
        found = []
        for tag in ordered(self.tags(repository))[:limit]:
            try:
                found.append(self.tagged(repository, tag))
            except NotFound:  # deleted meanwhile
                continue
        return found

    def candidates(self, repository: str, limit: int, *, keep: bool = False) -> Iterator[tuple[Version, Bundle]]:
        """The versions of which one is shown, the best first; what cannot be read is left out.

        Args:
            repository: Name of a repository.
            limit: How many tags are tried.
            keep: Whether bundles stay in memory, because they will be asked for again.
        """
        tags = self.tags(repository)
        for tag in choose(tags)[:limit]:
            try:
                version = self.tagged(repository, tag)
                bundle = (self.bundle if keep else self.describe)(repository, version.digest)
            except PluginError:
                continue
            if tag != DEVELOPMENT:
                yield version, bundle
            elif bundle.descriptor.version in tags:
                yield replace(version, version=bundle.descriptor.version), bundle

    def bundle(self, repository: str, digest: str) -> Bundle:
        """Read a bundle's manifest and config.

        Raises:
            NotFound: The repository has no such manifest.
            InvalidInput: It is not a bundle, or is broken.
        """
        key = (repository, digest)
        link = self.storage.link_path(repository, "_manifests", digest)
        if not link.exists():
            raise NotFound(f"{repository} has no manifest {digest}")
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][0]
        found = self._read(repository, digest, link)
        weight = _weight(found)
        with self._lock:
            self._kept[key] = found, weight
            while len(self._kept) > _KEPT or sum(kept for _, kept in self._kept.values()) > _KEPT_BYTES:
                self._kept.popitem(last=False)
        return found

    def describe(self, repository: str, digest: str) -> Bundle:
        """Read a bundle as `bundle` does, without keeping it: for reading all of them once."""
        return self._read(repository, digest, self.storage.link_path(repository, "_manifests", digest))

    def manifest(self, repository: str, digest: str, limit: int = MAX_MANIFEST) -> tuple[bytes, str]:
        """Read a manifest of any kind; returns bytes and media type.

        Raises:
            NotFound: The repository has no such manifest.
            InvalidInput: It is larger than `limit` bytes, or was changed on disk.
        """
        link = self.storage.link_path(repository, "_manifests", digest)
        try:
            media_type = link.read_text(errors="replace")
        except OSError:
            raise NotFound(f"{repository} has no manifest {digest}") from None
        return self._verified(digest, limit), media_type

    def blob(self, repository: str, digest: str, limit: int) -> bytes:
        """Read a small blob whole.

        Raises:
            NotFound: The repository does not hold it.
            InvalidInput: It is larger than `limit` bytes, or was changed on disk.
        """
        self.blob_path(repository, digest)
        return self._verified(digest, limit)

    def blob_path(self, repository: str, digest: str) -> Path:
        """Where a blob of a repository lies.

        Raises:
            NotFound: The repository does not hold it.
        """
        path = self.storage.blob_path(digest)
        if not self.storage.link_path(repository, "_blobs", digest).exists() or not path.exists():
            raise NotFound(f"{repository} holds no blob {digest}")
        return path

    def _verified(self, digest: str, limit: int) -> bytes:
        try:
            with self.storage.blob_path(digest).open("rb") as file:
                data = file.read(limit + 1)
        except OSError:
            raise NotFound(f"the registry holds no content {digest}") from None
        if len(data) > limit:
            raise InvalidInput(f"{digest} is larger than {size_text(limit)}, the most that is shown")
        if digest_bytes(data, digest.partition(":")[0]) != digest:
            raise InvalidInput(f"{digest} has other contents on disk than its digest says")
        return data

    def _read(self, repository: str, digest: str, link: Path) -> Bundle:
        try:
            media_type = link.read_text(errors="replace")
        except OSError:
            raise NotFound(f"{repository} has no manifest {digest}") from None
        manifest = self._verified(digest, MAX_MANIFEST)
        parsed = read_manifest(manifest, media_type, repository)
        descriptor = read_config(parsed, self._verified(parsed.config.digest, MAX_CONFIG))
        return Bundle(repository, digest, manifest, descriptor)


def ordered(tags: list[str]) -> list[str]:
    """The tags that are versions, the highest first."""
    return sorted((tag for tag in tags if SEMVER.match(tag)), key=parse_version, reverse=True)


def choose(tags: list[str]) -> list[str]:
    """Versions in the order in which one is shown: releases, then pre-releases, then `dev`, then development builds."""
    versions = ordered(tags)
    parsed = {tag: parse_version(tag) for tag in versions}
    releases = [tag for tag in versions if not parsed[tag].pre]
    previews = [tag for tag in versions if parsed[tag].pre and not parsed[tag].is_development]
    moving = [DEVELOPMENT] if DEVELOPMENT in tags else []
    return releases + previews + moving + [tag for tag in versions if parsed[tag].is_development]


def _weight(bundle: Bundle) -> int:
    """Bytes of a bundle's documents, as a measure of the memory it takes."""
    return len(bundle.manifest) + sum(len(entry.path) + 200 for entry in bundle.descriptor.files)
