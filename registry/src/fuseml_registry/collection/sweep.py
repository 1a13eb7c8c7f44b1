"""Removing what cannot be reached (sweeping): one thing at a time, each checked again under its lock."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from fuseml_registry.collection.marks import (
    Held,
    attached_to,
    linked,
    manifests_of,
    reachable,
    removal_order,
    subjects_that_are_gone,
)
from fuseml_registry.collection.report import Report
from fuseml_registry.configuration import Collection
from fuseml_registry.manifests import Manifests
from fuseml_registry.storage import Storage
from fuseml_registry.uploads import Uploads

#: Called with a sentence about what is being done.
Progress = Callable[[str], None]


class Collector:
    """Collects the garbage of one registry. Only the process that writes to the registry may use it.

    Args:
        storage, manifests, uploads: Those of the registry, because their locks are shared.
        policy: What goes.
    """

    def __init__(self, storage: Storage, manifests: Manifests, uploads: Uploads, policy: Collection) -> None:
        self._storage, self._manifests, self._uploads, self._policy = storage, manifests, uploads, policy

    def collect(self, *, dry_run: bool = False, policy: Collection | None = None,
                progress: Progress = lambda _: None) -> Report:
        """Collect once.

        Args:
            dry_run: Remove nothing, only report.
            policy: Instead of the registry's own.
            progress: Told what is being done.
        """
        began = time.monotonic()
        report = Report(dry_run)
        one = _Collection(self._storage, self._manifests, policy or self._policy, report)
        # Whatever is renewed from now on is younger than this, also when the clock of the disk is coarse.
        names = self._storage.holders()
        for number, name in enumerate(names, 1):
            progress(f"repository {number} of {len(names)}: {name}")
            one.repository(name)
        progress("contents that no repository holds")
        one.contents()
        report.removed["uploads"] = self._uploads.sweep(dry_run=dry_run, at_once=True)
        report.seconds = round(time.monotonic() - began, 3)
        return report


class _Collection:
    """The state of one collection: which contents are still held."""

    def __init__(self, storage: Storage, manifests: Manifests, policy: Collection, report: Report) -> None:
        self._storage, self._manifests, self._policy, self._report = storage, manifests, policy, report
        self._oldest = time.time() - policy.age
        self._held: set[bytes] = set()

    def repository(self, name: str) -> None:
        """Remove the unreachable manifests, blobs and entries of referrers of a repository."""
        manifests = manifests_of(self._storage, name)
        deleted = frozenset(digest for digest, _ in linked(self._storage, name, "_deleted"))
        if not all(held.readable for held in manifests.values()):
            self._keep_all(name)
            return
        kept = reachable(manifests, deleted, self._policy, self._oldest)
        for digest, dependent in removal_order(manifests, set(manifests) - kept, deleted):
            gone = subjects_that_are_gone(manifests[digest], manifests, deleted)
            if digest in kept or not self._remove_manifest(name, manifests[digest], gone):
                kept.update({digest}, dependent)
        self._held.update(_key(digest) for digest in kept)
        named = {blob for digest in kept for blob in manifests[digest].names}
        for digest, link in linked(self._storage, name, "_blobs"):
            if digest in named or not self._remove_blob(name, digest, link):
                self._held.add(_key(digest))
        self._remove_entries(name, kept)
        self._remove_markers(name, {subject for digest in kept for subject in attached_to(
            manifests[digest], manifests, deleted)})

    def contents(self) -> None:
        """Remove the contents that no repository holds."""
        for folder in sorted(self._storage.contents.glob("*/*")):
            for path in sorted(folder.iterdir()):
                digest = f"{folder.parent.name}:{path.name}"
                try:
                    size = path.stat().st_size
                except FileNotFoundError:
                    continue
                if _key(digest) not in self._held and self._remove_content(digest, path):
                    self._report.freed += size
                else:
                    self._report.contents += 1
                    self._report.stored += size

    def _keep_all(self, name: str) -> None:
        """A manifest is damaged: nothing of the repository is touched."""
        for kind in ("_manifests", "_blobs"):
            self._held.update(_key(digest) for digest, _ in linked(self._storage, name, kind))

    def _remove_manifest(self, name: str, held: Held, gone: list[str]) -> bool:
        """Remove a manifest with its tags, unless somebody used it since it was marked, or its subject came back."""
        with self._storage.repository_lock(name), self._storage.link_lock(name, held.digest):
            if not self._is_old(self._storage.link_path(name, "_manifests", held.digest)):
                return False
            if any(self._storage.link_path(name, "_manifests", subject).exists() for subject in gone):
                return False
            if not self._report.dry_run:
                self._manifests.forget(name, held.digest, held.subject)
        self._report.add("manifests", f"{name}@{held.digest}")
        return True

    def _remove_blob(self, name: str, digest: str, link: Path) -> bool:
        with self._storage.link_lock(name, digest):
            if not self._is_old(link):
                return False
            if not self._report.dry_run:
                self._storage.remove(link)
        self._report.add("blobs", f"{name}@{digest}")
        return True

    def _remove_content(self, digest: str, path: Path) -> bool:
        with self._storage.content_lock(digest):
            if not self._is_old(path):
                return False
            if not self._report.dry_run:
                self._storage.remove(path)
        self._report.add("contents", digest)
        return True

    def _remove_entries(self, name: str, kept: set[str]) -> None:
        """Remove entries of referrers whose manifest is gone, which a crash may have left."""
        folder = self._storage.repository(name) / "_referrers"
        for path in sorted(folder.glob("*/*/*")):
            digest = path.name.replace("-", ":", 1)
            if digest in kept:
                continue
            with self._storage.repository_lock(name):
                if self._storage.link_path(name, "_manifests", digest).exists() or not self._is_old(path):
                    continue
                if not self._report.dry_run:
                    self._storage.remove(path)
            self._report.add("referrers", f"{name}@{digest}")

    def _remove_markers(self, name: str, subjects: set[str]) -> None:
        """Forget manifests that were deleted and that nothing here is attached to any more."""
        for digest, marker in linked(self._storage, name, "_deleted"):
            if digest in subjects or self._report.dry_run:
                continue
            with self._storage.repository_lock(name):
                if self._is_old(marker):
                    self._storage.remove(marker)

    def _is_old(self, path: Path) -> bool:
        try:
            return path.stat().st_mtime < self._oldest
        except FileNotFoundError:
            return False


def _key(digest: str) -> bytes:
    """A digest in few bytes; collections hold one for each content."""
    algorithm, _, value = digest.partition(":")
    return algorithm.encode() + bytes.fromhex(value)
