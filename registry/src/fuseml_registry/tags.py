"""Tags: movable names of manifests. An immutable one, such as a strict semantic version, never gets other content.

That holds after it was deleted, too: a tombstone keeps its digest, so that `1.2.3` can come back as it was, and not
otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from fuseml_registry.errors import RegistryError, manifest_unknown
from fuseml_registry.storage import Storage
from fuseml_sdk.manifest import SEMVER


class Tags:
    """The tags of all repositories. Methods do disk work and are called from threads.

    Args:
        storage: Where they are kept.
        immutable: `semver`, `none`, or a regular expression for tags that never change.
    """

    def __init__(self, storage: Storage, immutable: str = "semver") -> None:
        self._storage = storage
        self._immutable = SEMVER if immutable == "semver" else None if immutable == "none" else re.compile(immutable)

    def get(self, name: str, tag: str) -> str:
        """Return the digest a tag points to.

        Raises:
            RegistryError: MANIFEST_UNKNOWN.
        """
        digest = _read(self._path(name, tag))
        if not digest:
            raise manifest_unknown(name, tag)
        return digest

    def check(self, name: str, tag: str, digests: Sequence[str]) -> None:
        """Refuse to change an immutable tag.

        Args:
            name: Repository.
            tag: Tag that is to be set.
            digests: Of the new manifest, in every algorithm.

        Raises:
            RegistryError: DENIED with status 409 if the tag is immutable and has, or had, other content.
        """
        if not self._is_immutable(tag):
            return
        current, former = _read(self._path(name, tag)), _read(self._tombstone(name, tag))
        if current and current not in digests:
            raise _denied(name, tag, current, "is a published version")
        if not current and former and former not in digests:
            raise _denied(name, tag, former, "was a published version")

    def set(self, name: str, tag: str, digest: str, digests: Sequence[str]) -> None:
        """Point a tag to a manifest, durably, unless it may not change (see `check`)."""
        with self._storage.repository_lock(name):
            self.check(name, tag, digests)
            self._storage.write(self._path(name, tag), digest.encode())

    def delete(self, name: str, tag: str) -> None:
        """Remove a tag; its manifest stays.

        Raises:
            RegistryError: MANIFEST_UNKNOWN.
        """
        with self._storage.repository_lock(name):
            self.get(name, tag)
            if self._is_immutable(tag):
                self._storage.move(self._path(name, tag), self._tombstone(name, tag))
            else:
                self._storage.remove(self._path(name, tag))

    def delete_all_of(self, name: str, digest: str) -> None:
        """Remove every tag that points to a manifest."""
        with self._storage.repository_lock(name):
            for tag in self.names(name):
                if _read(self._path(name, tag)) == digest:
                    self.delete(name, tag)

    def names(self, name: str) -> list[str]:
        """Return all tags of a repository in ASCII order."""
        folder = self._storage.repository(name) / "_tags"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def _is_immutable(self, tag: str) -> bool:
        return self._immutable is not None and self._immutable.fullmatch(tag) is not None

    def _path(self, name: str, tag: str) -> Path:
        return self._storage.repository(name) / "_tags" / tag

    def _tombstone(self, name: str, tag: str) -> Path:
        return self._storage.repository(name) / "_tombstones" / tag


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def _denied(name: str, tag: str, digest: str, what: str) -> RegistryError:
    return RegistryError(409, "DENIED", f"{name}:{tag} {what} with the digest {digest} and cannot be changed; publish "
                         "the new content under a new version", detail={"tag": tag, "digest": digest})
