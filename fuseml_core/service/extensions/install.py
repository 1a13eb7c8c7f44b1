"""Install an extension: resolve, trust, fetch, unpack, environment, health check, one transaction."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuseml_core.domain.errors import Refused
from fuseml_core.domain.extensions import ExtensionState, InstalledExtension
from fuseml_core.service.extensions.plan import plan
from fuseml_core.service.extensions.ports import (
    Bundles,
    ComponentHost,
    Environments,
    FoundBundle,
    InstalledExtensions,
    Progress,
)
from fuseml_core.service.extensions.store import BundleStore

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A version that is ready to become active, and what undoing it takes."""

    record: InstalledExtension
    is_new_folder: bool
    is_new_environment: bool


class Installer:
    """The use case *install*. Its caller lets only one run at a time.

    Args:
        records: Rows of installed extensions.
        bundles: Registries.
        environments: Virtual environments.
        host: The plugin host.
        store: Unpacked bundles.
        engine: Version of FuseML.
        on_installed: Called for each version that became active, after it did.
        retire: Called for each version that was replaced.
    """

    def __init__(self, *, records: InstalledExtensions, bundles: Bundles, environments: Environments,
                 host: ComponentHost, store: BundleStore, engine: str,
                 on_installed: Callable[[InstalledExtension], None],
                 retire: Callable[[InstalledExtension], None]) -> None:
        self._records, self._bundles, self._environments = records, bundles, environments
        self._host, self._store, self._engine = host, store, engine
        self._on_installed, self._retire = on_installed, retire

    def install(self, reference: str, *, allow_unsigned: bool, progress: Progress) -> InstalledExtension:
        """Install a bundle and what it depends on, or upgrade to it. If anything fails, everything is as before.

        Args:
            reference: `mlflow`, `mlflow:0.1.0` or `oci://host/namespace/name:tag@digest`.
            allow_unsigned: Install from registries that are not trusted, too.
            progress: Told what is being done.

        Returns:
            The active version.

        Raises:
            Refused: The registry is not trusted.
            Invalid, NotFound, Conflict, Unavailable, Failed: As the message says.
        """
        progress(f"resolving {reference}")
        self._check_trust(reference, allow_unsigned)
        root = self._bundles.find(reference)
        active = self._records.get(root.name)
        if active is not None and active.digest == root.digest and self._is_whole(active):
            progress(f"{root.name} {root.version} is already installed")
            return active
        chosen = plan(root, self._records.list(), self._bundles, self._engine)
        if len(chosen) > 1:
            progress("installing " + ", ".join(f"{found.name} {found.version}" for found in chosen))
        records = self._carry_out(chosen, progress)
        return next(record for record in records if record.name == root.name)

    def _check_trust(self, reference: str, allow_unsigned: bool) -> None:
        if not allow_unsigned and not self._bundles.is_trusted(reference):
            raise Refused(f"{reference} comes from a registry that is not trusted, and its bundles are not signed",
                          hint="If you trust it, install with --allow-unsigned; or push the bundle to this server's "
                               "own registry: fuseml bundle push FILE NAME.")

    def _is_whole(self, record: InstalledExtension) -> bool:
        return self._store.has(record.digest) and (record.python is None or Path(record.python).exists())

    def _carry_out(self, chosen: Sequence[FoundBundle], progress: Progress) -> list[InstalledExtension]:
        """Prepare and check all, then switch to all in one transaction."""
        replaced = [record for found in chosen if (record := self._records.get(found.name)) is not None]
        prepared: list[_Prepared] = []
        try:
            for found in chosen:
                say = progress if len(chosen) == 1 else _prefixed(progress, found.name)
                prepared.append(self._prepare(found, say))
            for item in prepared:
                self._check(item.record, progress)
            records = [item.record for item in prepared]
            self._records.add(*records)
        except BaseException:
            self._undo(prepared, replaced)
            raise
        self._finish(records, replaced)
        return records

    def _prepare(self, found: FoundBundle, progress: Progress) -> _Prepared:
        is_new = not self._store.has(found.digest)
        path = self._store.path(found.digest)
        if is_new:
            path = self._store.put(found.digest, lambda folder: self._bundles.fetch(found, folder, progress))
        try:
            environment = self._environments.build(path, found.descriptor["manifest"], progress)
        except BaseException:
            if is_new:
                self._store.discard(found.digest)
            raise
        record = InstalledExtension(
            name=found.name, version=found.version, digest=found.digest, reference=found.reference,
            descriptor=found.descriptor, store=str(path), state=ExtensionState.ACTIVE, installed_at=time.time(),
            environment=environment.path if environment else None, python=environment.python if environment else None)
        return _Prepared(record, is_new, environment is not None and environment.is_new)

    def _check(self, record: InstalledExtension, progress: Progress) -> None:
        count = len(record.components)
        if count:
            progress(f"starting {record.name} ({count} component{'s' if count > 1 else ''})")
        self._host.load(record)
        self._host.check(record)

    def _undo(self, prepared: Sequence[_Prepared], replaced: Sequence[InstalledExtension]) -> None:
        """Remove what was made. What was active before, even of the same digest, stays registered."""
        before = {record.digest for record in replaced}
        for item in reversed(prepared):
            if item.record.digest not in before:
                self._host.unload(item.record)
            if item.is_new_environment and item.record.environment:
                self._environments.discard(item.record.environment)
            if item.is_new_folder:
                self._store.discard(item.record.digest)

    def _finish(self, records: Sequence[InstalledExtension], replaced: Sequence[InstalledExtension]) -> None:
        """The switch is made; trouble from here on must not make the installation look failed."""
        digests = {record.digest for record in records}
        for call, subjects in ((self._retire, [old for old in replaced if old.digest not in digests]),
                               (self._on_installed, list(records))):
            for subject in subjects:
                try:
                    call(subject)
                except Exception:
                    log.exception("after the installation of %s %s", subject.name, subject.version)


def _prefixed(progress: Progress, name: str) -> Progress:
    """Progress of one bundle among several."""
    return lambda text: progress(f"{name}: {text}")
