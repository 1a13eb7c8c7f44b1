"""Files of the registry: blobs by digest, and for each repository what it holds.

    blobs/<algorithm>/<2 hex>/<hex>                      content, shared by all repositories
    repositories/<name>/_blobs/<algorithm>/<hex>         empty: the repository holds this blob
    repositories/<name>/_manifests/<algorithm>/<hex>     media type of the manifest
    repositories/<name>/_tags/<tag>                      digest
    repositories/<name>/_referrers/<algorithm>/<hex>/<algorithm>-<hex>   descriptor of a manifest with this subject
    uploads/<id>/…                                       unfinished uploads

A component of a name never begins with `_`, so the folders cannot meet a repository. Every file appears complete,
by rename, after its bytes are on disk; a crash leaves unreachable temporary files at most.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from fuseml_oci.digests import split_digest
from fuseml_sdk.durable import sync_directory


class Storage:
    """Blobs and the links of repositories. Arguments are checked by the caller: names, tags and digests are valid.

    Args:
        root: Directory for everything; made if missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.uploads = root / "uploads"
        self._blobs = root / "blobs"
        self._repositories = root / "repositories"
        self._temporary = root / "tmp"
        for path in (self.uploads, self._blobs, self._repositories, self._temporary):
            path.mkdir(parents=True, exist_ok=True)
        for leftover in self._temporary.iterdir():
            leftover.unlink(missing_ok=True)

    def blob_path(self, digest: str) -> Path:
        """Where the content of a digest lies, whether it exists or not."""
        algorithm, value = split_digest(digest)
        return self._blobs / algorithm / value[:2] / value

    def repository(self, name: str) -> Path:
        """Directory of a repository, whether it exists or not."""
        return self._repositories / name

    def link_path(self, name: str, kind: str, digest: str) -> Path:
        """Path of a link; `kind` is `_blobs` or `_manifests`."""
        algorithm, value = split_digest(digest)
        return self.repository(name) / kind / algorithm / value

    def exists(self, name: str) -> bool:
        """Whether something was ever pushed to a repository."""
        path = self.repository(name)
        return any((path / kind).is_dir() for kind in ("_manifests", "_blobs"))

    def adopt(self, source: Path, digest: str) -> None:
        """Move a verified, synchronised file to its place among the blobs."""
        target = self.blob_path(digest)
        self._directory(target.parent)
        source.replace(target)
        sync_directory(target.parent)

    def write_blob(self, digest: str, data: bytes) -> None:
        """Store small content, such as a manifest."""
        target = self.blob_path(digest)
        if not target.exists():
            self.write(target, data)

    def link(self, name: str, kind: str, digest: str, data: bytes = b"") -> None:
        """Record that a repository holds a blob or manifest."""
        path = self.link_path(name, kind, digest)
        if not path.exists() or path.read_bytes() != data:
            self.write(path, data)

    def write(self, path: Path, data: bytes) -> None:
        """Write a small file atomically and durably."""
        self._directory(path.parent)
        temporary = self._temporary / uuid.uuid4().hex
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_directory(path.parent)

    def remove(self, path: Path) -> bool:
        """Delete a file durably; False if it was not there."""
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        sync_directory(path.parent)
        return True

    def repositories(self) -> list[str]:
        """Names of all repositories that hold manifests, in ASCII order."""
        return sorted(self._names(self._repositories, ""))

    def _names(self, folder: Path, prefix: str) -> Iterator[str]:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        if prefix and "_manifests" in names:
            yield prefix
        for name in names:
            if not name.startswith("_"):
                yield from self._names(folder / name, f"{prefix}/{name}" if prefix else name)

    def _directory(self, path: Path) -> None:
        """Make a directory and those above it, each durably."""
        if path.is_dir():
            return
        self._directory(path.parent)
        path.mkdir(exist_ok=True)
        sync_directory(path.parent)
