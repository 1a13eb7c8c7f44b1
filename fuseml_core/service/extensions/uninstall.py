"""Uninstall an extension, and let go of versions that nothing needs any more."""

from __future__ import annotations

from collections.abc import Callable

from fuseml_core.domain.errors import NotFound, Refused
from fuseml_core.domain.extensions import InstalledExtension
from fuseml_core.service.extensions.ports import ComponentHost, Environments, InstalledExtensions
from fuseml_core.service.extensions.store import BundleStore


class Uninstaller:
    """The use case *uninstall*. Its caller lets only one run at a time.

    Args:
        records: Rows of installed extensions.
        environments: Virtual environments.
        host: The plugin host.
        store: Unpacked bundles.
        users: Pipelines that use an extension, by its name, for people to read.
        pinned: Whether something still needs the files of a digest; by default when the extension has users.
    """

    def __init__(self, *, records: InstalledExtensions, environments: Environments, host: ComponentHost,
                 store: BundleStore, users: Callable[[str], list[str]],
                 pinned: Callable[[str], bool] | None = None) -> None:
        self._records, self._environments, self._host, self._store = records, environments, host, store
        self._users, self._pinned = users, pinned

    def uninstall(self, name: str, *, force: bool) -> None:
        """Remove an extension.

        Raises:
            NotFound: It is not installed.
            Refused: Other extensions or pipelines use it, and `force` is not given.
        """
        active = self._records.get(name)
        if active is None:
            raise NotFound(f"the extension {name!r} is not installed", hint="List them with: fuseml extension list")
        self._check_users(active, force)
        versions = list(self._records.versions(name))
        pinned = {record.digest for record in versions if self.is_pinned(record)}
        for record in versions:
            self._records.remove(record.digest)
            self._host.unload(record)
        for record in versions:
            if record.digest not in pinned:
                self._remove_files(record)

    def retire(self, record: InstalledExtension) -> None:
        """Stop a version that was replaced; forget it and remove its files if nothing pins it."""
        self._host.unload(record)
        if not self.is_pinned(record):
            self._records.remove(record.digest)
            self._remove_files(record)

    def is_pinned(self, record: InstalledExtension) -> bool:
        """Whether something still needs the files of a version."""
        return self._pinned(record.digest) if self._pinned is not None else bool(self._users(record.name))

    def _check_users(self, active: InstalledExtension, force: bool) -> None:
        dependents = [other.name for other in self._records.list()
                      if active.name in {dependency["name"] for dependency in other.dependencies}]
        users = self._users(active.name)
        if force or not (dependents or users):
            return
        reasons = [f"the extension {name} depends on it" for name in dependents]
        reasons += [f"the pipeline {name} uses it" for name in users]
        raise Refused(f"{active.name} cannot be uninstalled: {'; '.join(reasons)}",
                      hint="Remove those first, or uninstall with --force.",
                      details={"extensions": dependents, "pipelines": users})

    def _remove_files(self, record: InstalledExtension) -> None:
        self._store.discard(record.digest)
        others = {other.environment for active in self._records.list() for other in self._records.versions(active.name)}
        if record.environment and record.environment not in others:
            self._environments.discard(record.environment)
