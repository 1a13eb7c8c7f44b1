"""Tags: movable names of manifests. A strict semantic version, once set, never moves."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from fuseml_oci.digests import split_digest
from fuseml_registry.errors import RegistryError, manifest_unknown
from fuseml_registry.storage import Storage
from fuseml_sdk.manifest import SEMVER


class Tags:
    """The tags of all repositories. Methods do disk work and are called from threads."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._lock = threading.Lock()

    def get(self, name: str, tag: str) -> str:
        """Return the digest a tag points to.

        Raises:
            RegistryError: MANIFEST_UNKNOWN.
        """
        try:
            return self._path(name, tag).read_text()
        except FileNotFoundError:
            raise manifest_unknown(name, tag) from None

    def check(self, name: str, tag: str, digests: Sequence[str]) -> None:
        """Refuse to move a version.

        Args:
            name: Repository.
            tag: Tag that is to be set.
            digests: Of the new manifest, in every algorithm.

        Raises:
            RegistryError: DENIED with status 409 if the tag is a semantic version with other content.
        """
        try:
            current = self.get(name, tag)
        except RegistryError:
            return
        if current not in digests and SEMVER.fullmatch(tag):
            raise RegistryError(
                409, "DENIED", f"{name}:{tag} is a published version with the digest {current} and cannot be changed; "
                "publish the new content under a new version", detail={"tag": tag, "digest": current})

    def set(self, name: str, tag: str, digest: str, digests: Sequence[str]) -> None:
        """Point a tag to a manifest, durably, unless it is a version with other content (see `check`)."""
        with self._lock:
            self.check(name, tag, digests)
            self._storage.write(self._path(name, tag), digest.encode())

    def delete(self, name: str, tag: str) -> None:
        """Remove a tag; its manifest stays.

        Raises:
            RegistryError: MANIFEST_UNKNOWN.
        """
        with self._lock:
            if not self._storage.remove(self._path(name, tag)):
                raise manifest_unknown(name, tag)

    def delete_all_of(self, name: str, digest: str) -> None:
        """Remove every tag that points to a manifest."""
        split_digest(digest)
        with self._lock:
            for tag in self.names(name):
                if self._path(name, tag).read_text() == digest:
                    self._storage.remove(self._path(name, tag))

    def names(self, name: str) -> list[str]:
        """Return all tags of a repository in ASCII order."""
        folder = self._storage.repository(name) / "_tags"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def _path(self, name: str, tag: str) -> Path:
        return self._storage.repository(name) / "_tags" / tag
