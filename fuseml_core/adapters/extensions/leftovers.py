"""What extensions leave behind: generations, unpacked bundles, environments, layers, wheels, archives."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuseml_core.domain.extensions import ExtensionState, Generation
from fuseml_core.service.extensions.care_ports import Leftover
from fuseml_core.service.extensions.ports import ChangeLock, ComponentHost, Generations, InstalledExtensions
from fuseml_core.service.extensions.store import BundleStore
from fuseml_oci.digests import digest_file
from fuseml_sdk.environments import remove_unused, users_of

#: Seconds that a change of the extensions is waited for.
_PATIENCE = 60.0
#: Seconds since its last use in which an export or import may still want something, whatever age is asked for.
_BUSY = 600.0
_HEX = re.compile(r"[0-9a-f]{64}")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Kept:
    """What decides which versions of extensions stay.

    Attributes:
        records: Rows of installed extensions.
        generations: Rows of generations.
        pinned: Whether a pipeline or run needs the files of a digest.
        keep: Number of generations, the one in force included.
    """

    records: InstalledExtensions
    generations: Generations
    pinned: Callable[[str], bool]
    keep: int

    def split(self, older_than: float) -> tuple[list[Generation], list[Generation]]:
        """The generations that stay and those that go."""
        every = list(self.generations.list())
        gone = [g for g in every[max(1, self.keep):] if time.time() - g.created_at >= older_than]
        return [g for g in every if g not in gone], gone

    def digests(self, older_than: float) -> frozenset[str]:
        """Digests of bundles that stay."""
        stay, _gone = self.split(older_than)
        needed = {member.digest for generation in stay for member in generation.members}
        return frozenset(needed | {r.digest for r in self.records.all() if r.state is ExtensionState.ACTIVE})

    def is_needed(self, digest: str, older_than: float) -> bool:
        """Whether a bundle stays."""
        return digest in self.digests(older_than) or self.pinned(digest)


class OldGenerations:
    """Generations beyond those that are kept; implements `Leftovers`.

    Args:
        kept: What stays.
        lock: Lets one change run at a time.
    """

    def __init__(self, kept: Kept, lock: ChangeLock) -> None:
        self._kept, self._lock = kept, lock

    def find(self, older_than: float) -> Sequence[Leftover]:
        """Old generations."""
        return [Leftover("generation", str(g.number), f"only the last {max(1, self._kept.keep)} are kept", 0,
                         time.time() - g.created_at, str(g.number)) for g in self._kept.split(older_than)[1]]

    def remove(self, leftover: Leftover) -> bool:
        """Forget one."""
        with self._lock.alone("gc", _PATIENCE, lambda _text: None):
            self._kept.generations.forget([int(leftover.key)])
        return True


class UnusedBundles:
    """Versions and unpacked bundles that no generation and no pipeline needs; implements `Leftovers`.

    Args:
        kept: What stays.
        lock: Lets one change run at a time.
        store: Unpacked bundles.
        host: The plugin host.
    """

    def __init__(self, kept: Kept, lock: ChangeLock, store: BundleStore, host: ComponentHost) -> None:
        self._kept, self._lock, self._store, self._host = kept, lock, store, host
        self._older_than = 0.0

    def find(self, older_than: float) -> Sequence[Leftover]:
        """Rows and folders."""
        self._older_than = older_than
        needed = self._kept.digests(older_than)
        known = {record.digest: record for record in self._kept.records.all()}
        found = []
        for digest in sorted({*known, *self._store.digests()} - needed):
            path, record = self._store.path(digest), known.get(digest)
            age = age_of(path)
            if age < older_than or self._kept.pinned(digest):
                continue
            name = f"{record.name} {record.version}" if record else digest[:19]
            why = "no kept generation and no pipeline needs this version" if record else "it belongs to no version"
            found.append(Leftover("bundle", name, why, size_of(path), age, digest))
        return found

    def remove(self, leftover: Leftover) -> bool:
        """Remove folder and row, unless it has come to be needed."""
        digest = leftover.key
        with self._lock.alone("gc", _PATIENCE, lambda _text: None):
            if self._kept.is_needed(digest, self._older_than):
                return False
            record = self._kept.records.by_digest(digest)
            if record is not None:
                self._host.unload(record)
            self._store.discard(digest)
            self._kept.records.remove(digest)
        return True


class UnusedEnvironments:
    """Environments of no version, no workload and of nothing that still exists; implements `Leftovers`.

    Args:
        root: Folder of environments.
        kept: Versions of extensions that stay.
        existing: Digests of artifacts and runnables that exist, asked anew each time.
    """

    def __init__(self, root: Path, kept: Kept, existing: Callable[[], Collection[str]]) -> None:
        self._root, self._kept, self._existing = root, kept, existing

    def find(self, older_than: float) -> Sequence[Leftover]:
        """Environments, by name."""
        needed = self._needed()
        unused = remove_unused(self._root, needed, older_than, dry_run=True)
        return [Leftover("environment", name[:12], "no installed version and nothing that exists uses it",
                         size_of(self._root / name), age_of(self._root / name / "last-used"), name) for name in unused]

    def remove(self, leftover: Leftover) -> bool:
        """Remove one, unless a workload runs in it or something has come to need it."""
        keep = {path.name for path in entries(self._root)} - {leftover.key}
        return bool(remove_unused(self._root, keep | self._needed(), 0.0))

    def _needed(self) -> set[str]:
        records = {Path(record.environment).name for record in self._kept.records.all() if record.environment}
        existing = {digest.partition(":")[2] for digest in self._existing()}
        existing |= {record.digest.partition(":")[2] for record in self._kept.records.all()}
        return records | {path.name for path in entries(self._root) if users_of(path) & existing}


class UnusedLayers:
    """Downloaded layers of no version, and parts of downloads that nobody took up again; implements `Leftovers`.

    Args:
        content: Folder with `sha256/<hex>` files.
        records: Rows of installed extensions.
        lock: Lets one change run at a time; a change takes layers that are here already.
    """

    def __init__(self, content: Path, records: InstalledExtensions, lock: ChangeLock) -> None:
        self._folder, self._records, self._lock = content / "sha256", records, lock

    def find(self, older_than: float) -> Sequence[Leftover]:
        """Files of layers."""
        needed = self._needed()
        return [Leftover("layer", path.name[:19], "no installed version has it", size_of(path), age_of(path), path.name)
                for path in entries(self._folder) if path.name not in needed and age_of(path) >= older_than]

    def remove(self, leftover: Leftover) -> bool:
        """Remove one, unless it has come to be needed."""
        with self._lock.alone("gc", _PATIENCE, lambda _text: None):
            return leftover.key not in self._needed() and _unlink(self._folder / leftover.key)

    def _needed(self) -> set[str]:
        return {layer["digest"].partition(":")[2] for record in self._records.all()
                for layer in record.descriptor.get("layers") or []}


class UnusedWheels:
    """Imported wheels that the lock of no unpacked bundle allows; implements `Leftovers`.

    Args:
        folder: Folder of imported wheels.
        store: Unpacked bundles.
        needed: Returns the digests of wheels that came with bundles which can still be installed.
    """

    def __init__(self, folder: Path, store: BundleStore, needed: Callable[[], Collection[str]]) -> None:
        self._folder, self._store, self._needed = folder, store, needed

    def find(self, older_than: float) -> Sequence[Leftover]:
        """Wheel files."""
        old = [path for path in entries(self._folder) if age_of(path) >= max(older_than, _BUSY)]
        if not old:
            return []
        allowed = {*self._hashes(), *(digest.partition(":")[2] for digest in self._needed())}
        return [Leftover("wheel", path.name, "no bundle that is here needs it", size_of(path), age_of(path), path.name)
                for path in old if path.name.startswith(".") or digest_file(path)[0].partition(":")[2] not in allowed]

    def remove(self, leftover: Leftover) -> bool:
        """Remove one."""
        return _unlink(self._folder / leftover.key)

    def _hashes(self) -> Iterator[str]:
        for lock in self._store.root.glob("*/*.lock"):
            yield from _HASH.findall(lock.read_text(encoding="utf-8", errors="replace"))


class OldTransfers:
    """What exports and imports left: fetched blobs, archives that were never finished; implements `Leftovers`.

    Args:
        lock: Lets one change run at a time; an import is one.
        folders: Of exports and imports.
    """

    def __init__(self, lock: ChangeLock, *folders: Path) -> None:
        self._lock, self._folders = lock, folders

    def find(self, older_than: float) -> Sequence[Leftover]:
        """Files and folders right below, blobs one by one."""
        return [Leftover("transfer", path.name[:19], "an export or import left it", size_of(path), age_of(path),
                         str(path)) for path in self._paths() if age_of(path) >= max(older_than, _BUSY)]

    def remove(self, leftover: Leftover) -> bool:
        """Remove one, unless it was used since."""
        path = Path(leftover.key)
        with self._lock.alone("gc", _PATIENCE, lambda _text: None):
            if path not in set(self._paths()) or age_of(path) < leftover.age:
                return False
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
                return not path.exists()
            return _unlink(path)

    def _paths(self) -> Iterator[Path]:
        for folder in self._folders:
            for path in entries(folder):
                if path.name == "blobs":
                    yield from (blob for algorithm in entries(path) for blob in entries(algorithm))
                elif path.name == "exports":
                    yield from entries(path)
                else:
                    yield path


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, by name; nothing if it is not there."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def age_of(path: Path) -> float:
    """Seconds since something was changed; large when it is not there."""
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return float(1 << 40)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; files with several names count once for each."""
    if not path.is_dir():
        return path.lstat().st_size if path.exists() else 0
    total = 0
    for at, _folders, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(at, name)).st_size  # noqa: PTH118 - thousands of files
            except OSError:
                continue
    return total


def _unlink(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True
