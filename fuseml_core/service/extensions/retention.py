"""How long versions are kept: while a kept generation, a pipeline or a run needs them."""

from __future__ import annotations

from collections.abc import Callable

from fuseml_core.domain.extensions import ExtensionState, InstalledExtension
from fuseml_core.service.extensions.ports import (
    Bundles,
    ComponentHost,
    Environments,
    Generations,
    InstalledExtensions,
)
from fuseml_core.service.extensions.settings import ExtensionSettings
from fuseml_core.service.extensions.store import BundleStore


class Retention:
    """Removes generations beyond a number, and versions that nothing needs. Its caller lets only one run at a time.

    Args:
        records: Rows of installed extensions.
        generations: Rows of generations.
        settings: What is set; that of extensions which are in no kept generation goes, too.
        bundles: Registries; downloaded layers are kept while a version has them.
        environments: Virtual environments.
        host: The plugin host.
        store: Unpacked bundles.
        pinned: Whether a pipeline or run needs the files of a digest.
        keep: Number of generations, the one in force included.
    """

    def __init__(self, *, records: InstalledExtensions, generations: Generations, settings: ExtensionSettings,
                 bundles: Bundles, environments: Environments, host: ComponentHost, store: BundleStore,
                 pinned: Callable[[str], bool], keep: int) -> None:
        self._records, self._generations, self._settings, self._bundles = records, generations, settings, bundles
        self._environments, self._host, self._store = environments, host, store
        self._pinned, self._keep = pinned, max(1, keep)

    def prune(self) -> list[InstalledExtension]:
        """Let go of what nothing needs; killed anywhere, the next call goes on. Returns the removed versions."""
        kept = self._generations.list()
        self._generations.forget([generation.number for generation in kept[self._keep:]])
        needed = {member.digest for generation in kept[:self._keep] for member in generation.members}
        removed = [record for record in self._records.all()
                   if record.state is not ExtensionState.ACTIVE and record.digest not in needed
                   and not self._pinned(record.digest)]
        for record in removed:
            self._remove(record)
        names = {member.name for generation in kept[:self._keep] for member in generation.members}
        for record in removed:
            if record.name not in names:
                self._settings.forget(record.name)
        self._clean_layers()
        return removed

    def clean(self) -> None:
        """Remove folders that belong to no version: what a killed change left behind."""
        known = {record.digest for record in self._records.all()}
        self._store.clean(known | {digest for digest in self._store.digests() if self._pinned(digest)})
        self._clean_layers()

    def _remove(self, record: InstalledExtension) -> None:
        """Files first: while its row is there, a removal that was interrupted is taken up again."""
        self._host.unload(record)
        self._store.discard(record.digest)
        others = {other.environment for other in self._records.all() if other.digest != record.digest}
        if record.environment and record.environment not in others:
            self._environments.discard(record.environment)
        self._records.remove(record.digest)

    def _clean_layers(self) -> None:
        self._bundles.clean({layer["digest"] for record in self._records.all()
                             for layer in record.descriptor.get("layers") or []})
