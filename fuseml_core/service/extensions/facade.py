"""One object for everything that can be done with extensions; the API and the composition root know only this."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fuseml_core.domain.errors import Unavailable
from fuseml_core.domain.extensions import ExtensionState, InstalledExtension
from fuseml_core.service.extensions.configure import Configurator
from fuseml_core.service.extensions.install import Installer
from fuseml_core.service.extensions.ports import (
    Bundles,
    ComponentHost,
    Environments,
    InstalledExtensions,
    Progress,
)
from fuseml_core.service.extensions.settings import ExtensionSettings
from fuseml_core.service.extensions.store import BundleStore
from fuseml_core.service.extensions.uninstall import Uninstaller

#: Seconds that an installation waits for another one.
_PATIENCE = 3600.0


class Extensions:
    """Install, list, inspect, configure and uninstall extensions; safe to use from several threads.

    Args:
        records: Rows of installed extensions.
        settings: What people set for them.
        bundles: Registries.
        environments: Virtual environments.
        host: The plugin host.
        store: Folder of unpacked bundles, such as `<home>/extensions/store`.
        engine: Version of FuseML, for `requires_fuseml`.
        users: Pipelines that use an extension, by its name; they are shown when an uninstallation is refused.
        pinned: Whether a pipeline or run still needs the files of a bundle digest; by default when it has users.
        on_installed: Called for each version that became active, such as to detect types of codesets again.
    """

    def __init__(self, *, records: InstalledExtensions, settings: ExtensionSettings, bundles: Bundles,
                 environments: Environments, host: ComponentHost, store: Path, engine: str,
                 users: Callable[[str], list[str]], pinned: Callable[[str], bool] | None = None,
                 on_installed: Callable[[InstalledExtension], None] | None = None) -> None:
        self._records, self._bundles, self._host, self._store = records, bundles, host, BundleStore(store)
        self._uninstaller = Uninstaller(records=records, environments=environments, host=host, store=self._store,
                                        users=users, pinned=pinned)
        self._installer = Installer(records=records, bundles=bundles, environments=environments, host=host,
                                    store=self._store, engine=engine, retire=self._uninstaller.retire,
                                    on_installed=on_installed or (lambda _extension: None))
        self._settings, self._configurator = settings, Configurator(settings, host)
        self._pinned = pinned
        self._lock = threading.Lock()

    def install(self, reference: str, allow_unsigned: bool = False,
                progress: Progress | None = None) -> dict[str, Any]:
        """Install or upgrade; see :meth:`Installer.install`. Waits while another installation runs.

        Returns:
            The extension as :meth:`get` shows it.
        """
        say = progress or (lambda _text: None)
        with self._alone(say):
            record = self._installer.install(reference.strip(), allow_unsigned=allow_unsigned, progress=say)
        return self._show(record)

    def uninstall(self, name: str, force: bool = False) -> None:
        """Uninstall; see :meth:`Uninstaller.uninstall`."""
        with self._alone(lambda _text: None):
            self._uninstaller.uninstall(name, force=force)
            self._settings.forget(name)
            self._clean_layers()

    def config(self, name: str) -> dict[str, Any]:
        """The settings of an extension and which there are; see :meth:`ExtensionSettings.show`."""
        return self._settings.show(name)

    def configure(self, name: str, values: Mapping[str, Any], unset: Collection[str] = ()) -> dict[str, Any]:
        """Change settings; see :meth:`Configurator.configure`. Waits while another installation runs.

        Returns:
            The settings as :meth:`config` shows them.
        """
        with self._alone(lambda _text: None):
            self._configurator.configure(name, values, unset)
        return self._settings.show(name)

    def list(self) -> list[dict[str, Any]]:
        """The active extensions by name, as :meth:`get` shows them."""
        return [self._show(record) for record in self._records.list()]

    def get(self, name: str) -> dict[str, Any]:
        """One extension, for people and programs.

        Returns:
            `name`, `version`, `digest`, `summary`, `state`, `installed_at`, `source`, `components`, `runnables`,
            `templates`, `permissions`, `dependencies` and `settings` (secrets as `***`).

        Raises:
            NotFound: It is not installed.
        """
        return self._show(self._settings.installed(name))

    def load_installed(self) -> Sequence[InstalledExtension]:
        """At start: register the components of active extensions, starting none, and remove what nothing needs.

        Returns:
            The active extensions.
        """
        active = self._records.list()
        for record in active:
            self._host.load(record)
        for version in [v for record in active for v in self._records.versions(record.name)]:
            if version.state is ExtensionState.RETIRED:
                self._uninstaller.retire(version)
        if self._pinned is not None:
            known = {version.digest for record in active for version in self._records.versions(record.name)}
            there = [f"sha256:{path.name}" for path in self._store.root.glob("*") if not path.name.startswith(".")]
            self._store.clean(known | {digest for digest in there if self._pinned(digest)})
        self._clean_layers()
        return active

    def _clean_layers(self) -> None:
        """Downloaded layers are kept while a version has them, so that the next version need not fetch them again."""
        self._bundles.clean({layer["digest"] for record in self._records.list()
                             for version in self._records.versions(record.name)
                             for layer in version.descriptor.get("layers") or []})

    @contextmanager
    def _alone(self, say: Progress) -> Iterator[None]:
        if not self._lock.acquire(blocking=False):
            say("waiting for another installation")
            if not self._lock.acquire(timeout=_PATIENCE):
                raise Unavailable("another installation is still running", hint="Try again when it has ended.")
        try:
            yield
        finally:
            self._lock.release()

    def _show(self, record: InstalledExtension) -> dict[str, Any]:
        manifest = record.manifest
        return {
            "name": record.name, "version": record.version, "digest": record.digest,
            "summary": manifest.get("summary") or "", "state": record.state.value, "installed_at": record.installed_at,
            "source": record.reference, "components": self._host.state(record),
            "runnables": [runnable["name"] for runnable in record.descriptor.get("runnables") or []],
            "templates": [f"{record.name}/{template['name']}" for template in record.descriptor.get("templates") or []],
            "permissions": list(manifest.get("permissions") or []),
            "dependencies": record.dependencies,
            "settings": self._settings.shown(record),
        }
