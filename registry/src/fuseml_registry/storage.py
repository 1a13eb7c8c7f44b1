"""Files of the registry: blobs by digest, and for each repository what it holds.

    blobs/<algorithm>/<2 hex>/<hex>                      content, shared by all repositories
    repositories/<name>/_blobs/<algorithm>/<hex>         empty: the repository holds this blob
    repositories/<name>/_manifests/<algorithm>/<hex>     media type of the manifest
    repositories/<name>/_tags/<tag>                      digest
    repositories/<name>/_referrers/<algorithm>/<hex>/<algorithm>-<hex>   descriptor of a manifest with this subject
    repositories/<name>/_tombstones/<tag>                digest that an immutable tag had before it was deleted
    repositories/<name>/_deleted/<algorithm>/<hex>       media type of a manifest that was here and was deleted
    uploads/<id>/…                                       unfinished uploads

A component of a name never begins with `_`, so the folders cannot meet a repository. Every file appears complete,
by rename, after its bytes are on disk; a crash leaves unreachable temporary files at most.

Garbage collection removes what is unreachable and has an old modification time. Whoever makes something reachable, or
tells a client that it is there, renews that time first (`touch`), under the lock that collection takes to remove it.
"""

from __future__ import annotations

import os
import threading
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path

from fuseml_oci.digests import split_digest
from fuseml_sdk.durable import sync_directory

#: Locks that repositories, and contents, share by the hash of their name.
STRIPES = 64


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
        self._repository_locks = [threading.RLock() for _ in range(STRIPES)]
        self._link_locks = [threading.RLock() for _ in range(STRIPES)]
        self._content_locks = [threading.RLock() for _ in range(STRIPES)]
        for path in (self.uploads, self._blobs, self._repositories, self._temporary):
            path.mkdir(parents=True, exist_ok=True)

    def clear_leftovers(self) -> None:
        """Remove temporary files that a crash left. Only the one process that writes here may do so, at its start."""
        for leftover in self._temporary.iterdir():
            leftover.unlink(missing_ok=True)

    def repository_lock(self, name: str) -> threading.RLock:
        """The lock for changes of a repository's manifests and tags; the first to be taken."""
        return self._repository_locks[zlib.crc32(name.encode()) % STRIPES]

    def link_lock(self, name: str, digest: str) -> threading.RLock:
        """The lock for renewing or removing what a repository holds; taken after the repository's, one at a time."""
        return self._link_locks[zlib.crc32(f"{name}@{digest}".encode()) % STRIPES]

    def content_lock(self, digest: str) -> threading.RLock:
        """The lock for linking a content, and for removing it because nothing links it; the last to be taken."""
        return self._content_locks[zlib.crc32(digest.encode()) % STRIPES]

    @property
    def contents(self) -> Path:
        """Directory of all contents, `<algorithm>/<2 hex>/<hex>`."""
        return self._blobs

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

    def take_blob(self, name: str, source: Path, digest: str) -> None:
        """Make a verified, synchronised file a blob of a repository; `source` may be gone afterwards."""
        target = self.blob_path(digest)
        with self.link_lock(name, digest), self.content_lock(digest):
            if not touch(target):
                self._directory(target.parent)
                source.replace(target)
                sync_directory(target.parent)
            self.link(name, "_blobs", digest)

    def share_blob(self, name: str, digest: str) -> bool:
        """Let a repository hold a blob that is here already; False if it is not."""
        with self.link_lock(name, digest), self.content_lock(digest):
            if not touch(self.blob_path(digest)):
                return False
            self.link(name, "_blobs", digest)
            return True

    def renew(self, name: str, kind: str, digest: str) -> bool:
        """Keep what a repository holds from being collected for a while; False if it does not hold it.

        A client that hears that something is here will not push it again.
        """
        with self.link_lock(name, digest):
            return touch(self.link_path(name, kind, digest))

    def take_manifest(self, name: str, digest: str, data: bytes, media_type: str) -> None:
        """Store a manifest and let a repository hold it."""
        target = self.blob_path(digest)
        with self.link_lock(name, digest), self.content_lock(digest):
            if not touch(target):
                self.write(target, data)
            self.link(name, "_manifests", digest, media_type.encode())

    def link(self, name: str, kind: str, digest: str, data: bytes = b"") -> None:
        """Record that a repository holds a blob or manifest."""
        path = self.link_path(name, kind, digest)
        if not touch(path) or path.read_bytes() != data:
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

    def move(self, source: Path, target: Path) -> None:
        """Rename a small file durably; needs no room on a full disk."""
        self._directory(target.parent)
        source.replace(target)
        touch(target)
        sync_directory(target.parent)
        sync_directory(source.parent)

    def repositories(self) -> list[str]:
        """Names of all repositories that hold manifests, in ASCII order."""
        return sorted(self._names(self._repositories, "", {"_manifests"}))

    def holders(self) -> list[str]:
        """Names of all repositories that hold anything, in ASCII order."""
        return sorted(self._names(self._repositories, "", {"_manifests", "_blobs"}))

    def _names(self, folder: Path, prefix: str, kinds: set[str]) -> Iterator[str]:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        if prefix and not kinds.isdisjoint(names):
            yield prefix
        for name in names:
            if not name.startswith("_"):
                yield from self._names(folder / name, f"{prefix}/{name}" if prefix else name, kinds)

    def _directory(self, path: Path) -> None:
        """Make a directory and those above it, each durably."""
        if path.is_dir():
            return
        self._directory(path.parent)
        path.mkdir(exist_ok=True)
        sync_directory(path.parent)


def touch(path: Path) -> bool:
    """Renew the modification time of a file, so that it is not collected for a while; False if it is not there."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True
