"""Keeping the search index up to date: only repositories whose folders changed are read again."""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from fuseml_registry.pages.catalogs import LATEST, Catalogs, curated
from fuseml_registry.pages.entries import Entry, make_entry, with_catalogs
from fuseml_registry.pages.holdings import Holdings
from fuseml_registry.pages.index import Index, build_index

log = logging.getLogger(__name__)

#: Seconds that an index is used before folders are looked at again.
MAX_AGE = 1.0
#: Packages in the index, and versions of one that are tried until one can be read.
MAX_PACKAGES, MAX_TRIED = 50_000, 50
#: A folder that changed within this many nanoseconds may change again without its time telling.
_SETTLED = 100_000_000
_NEVER = -1


@dataclass(slots=True)
class _Seen:
    """A repository as it was read."""

    stamp: tuple[int, int]
    entry: Entry | None = None
    may_be_catalog: bool = False


@dataclass(slots=True)
class _Folder:
    """A folder below `repositories`, and the folders in it."""

    changed: int
    inner: tuple[str, ...]
    repository: bool


@dataclass(slots=True)
class Scanner:
    """Makes the index and renews it when the storage has changed. Called from threads.

    Args:
        holdings: Of the registry.
        catalogs: Of the registry.
        engine: Version of this server, empty if there is none.
    """

    holdings: Holdings
    catalogs: Catalogs
    engine: str
    _index: Index = field(default_factory=Index)
    _age: float = -1e9
    _folders: dict[str, _Folder] = field(default_factory=dict)
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _entries: dict[str, Entry] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def index(self) -> Index:
        """The index, at most a second old.

        Whoever comes while another thread renews it gets the older one, unless there is none yet.
        """
        began = time.monotonic()
        if began - self._age < MAX_AGE:
            return self._index
        if self._lock.acquire(blocking=self._age < 0):
            try:
                if self._age < began:
                    self._renew()
                    self._age = time.monotonic()
            finally:
                self._lock.release()
        return self._index

    def _renew(self) -> None:
        repositories = self._repositories()
        changed = set(self._seen) - set(repositories)
        for name in changed:
            del self._seen[name]
        for name in repositories:
            stamp = self._stamp(name)
            if name not in self._seen or _NEVER in stamp or self._seen[name].stamp != stamp:
                self._seen[name] = self._read(name, stamp)
                changed.add(name)
        if self.catalogs.update(name for name, seen in self._seen.items() if seen.may_be_catalog):
            changed.update(self._seen)
        if changed:
            self._combine(changed)

    def _combine(self, changed: set[str]) -> None:
        before = dict(self._entries) if len(changed) < 100 else None
        for name in changed:
            seen = self._seen.get(name)
            if seen is None or seen.entry is None:
                self._entries.pop(name, None)
            else:
                self._entries[name] = self._shown(name, seen.entry)
        if before is None or before != self._entries:
            self._index = build_index(self._entries.values())

    def _shown(self, name: str, entry: Entry) -> Entry:
        """Add what catalogs say; instead of a yanked version the one before it is shown."""
        listings = self.catalogs.listings(name, (entry.digest,))
        if curated(entry.digest, listings).advice == "yanked":
            for version, bundle in self.holdings.candidates(name, MAX_TRIED):
                if curated(bundle.digest, listings).advice != "yanked":
                    entry = make_entry(bundle, version, self.engine)
                    break
        return with_catalogs(entry, listings, self.engine)

    def _read(self, name: str, stamp: tuple[int, int]) -> _Seen:
        tags = self.holdings.tags(name)
        try:
            for version, bundle in self.holdings.candidates(name, MAX_TRIED):
                return _Seen(stamp, make_entry(bundle, version, self.engine))
        except Exception:
            log.exception("%s cannot be shown", name)
        return _Seen(stamp, may_be_catalog=LATEST in tags)

    def _stamp(self, name: str) -> tuple[int, int]:
        folder = self.holdings.storage.repository(name)
        return _changed(folder / "_tags"), _changed(folder / "_manifests" / "sha256")

    def _repositories(self) -> list[str]:
        """Names of all repositories; folders whose time did not change are not listed again."""
        found: list[str] = []
        kept: dict[str, _Folder] = {}
        pending = [""]
        while pending:
            name = pending.pop()
            path = self.holdings.storage.repository(name)
            changed = _changed(path)
            folder = self._folders.get(name)
            if folder is None or folder.changed in (_NEVER, 0) or folder.changed != changed:
                folder = _listed(path, changed)
            kept[name] = folder
            if name and folder.repository:
                found.append(name)
            pending += [f"{name}/{inner}" if name else inner for inner in folder.inner]
            if len(found) > MAX_PACKAGES:
                log.warning("only %d repositories are shown", MAX_PACKAGES)
                break
        self._folders = kept
        return found


def _listed(path: Path, changed: int) -> _Folder:
    try:
        with os.scandir(path) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return _Folder(0, (), repository=False)
    return _Folder(changed, tuple(sorted(name for name in names if not name.startswith("_"))), "_manifests" in names)


def _changed(path: Path) -> int:
    """Time of a folder's last change in nanoseconds; 0 if it is not there, -1 if it may still be changing."""
    try:
        changed = path.stat().st_mtime_ns
    except OSError:
        return 0
    return changed if time.time_ns() - changed > _SETTLED else _NEVER
