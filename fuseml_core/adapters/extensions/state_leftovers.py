"""What extensions that are not installed any more leave beside their environments: scratch files, and their data."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from fuseml_core.adapters.extensions.leftovers import age_of, entries, size_of
from fuseml_core.service.extensions.care_ports import Leftover
from fuseml_core.service.extensions.ports import ChangeLock, InstalledExtensions

#: Seconds that a change of the extensions is waited for.
_PATIENCE = 60.0


class AbandonedFolders:
    """Folders of extensions of which no version is here; implements `Leftovers`.

    Beside the state folder of an extension, `<name>`, lies the host's, `.<name>`, with temporary files and compiled
    modules. The former holds what the extension itself keeps, such as the contents of a store.

    Args:
        root: Folder of state folders.
        records: Rows of installed extensions.
        lock: Lets one change run at a time; a change makes such folders before there is a row.
        hosts: Look for the host's folders; else for the state folders.
    """

    def __init__(self, root: Path, records: InstalledExtensions, lock: ChangeLock, *, hosts: bool) -> None:
        self._root, self._records, self._lock, self._hosts = root, records, lock, hosts

    def find(self, older_than: float) -> Sequence[Leftover]:
        """Folders, by the name of the extension."""
        kind, what = ("scratch", "temporary files") if self._hosts else ("state", "what it kept")
        known = {record.name for record in self._records.all()}
        found = [(path.name.removeprefix("."), path) for path in entries(self._root)
                 if path.is_dir() and path.name.startswith(".") == self._hosts]
        return [Leftover(kind, name, f"{what}; the extension is not installed", size_of(path), age, path.name)
                for name, path in found if name not in known and (age := _unused_for(path)) >= older_than]

    def remove(self, leftover: Leftover) -> bool:
        """Remove one, unless the extension has come back."""
        path = self._root / leftover.key
        with self._lock.alone("gc", _PATIENCE, lambda _text: None):
            if any(record.name == leftover.name for record in self._records.all()):
                return False
            shutil.rmtree(path, ignore_errors=True)
        return not path.exists()


def _unused_for(folder: Path) -> float:
    """Seconds since something was made or removed in it."""
    return min(map(age_of, (folder, *entries(folder))))
