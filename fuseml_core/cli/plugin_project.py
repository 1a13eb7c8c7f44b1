"""The project of a plugin: a folder with `extension.toml`, and the environment in `.venv` that it is run in.

The environment holds what the bundle would hold, the lock and the wheels, and the project itself as it lies there, so
that a change needs no installation. Editors find it by its name.
"""

from __future__ import annotations

import hashlib
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fuseml_core.domain.errors import Invalid
from fuseml_core.settings import Settings, from_environment

if TYPE_CHECKING:
    from fuseml_sdk.environments import IndexSettings
    from fuseml_sdk.manifest import Component, ExtensionManifest

#: Group of dependencies that tests need; https://packaging.python.org/en/latest/specifications/dependency-groups/
TEST_GROUP = "test"
#: Part of the stamp; another number whenever environments must be made differently.
_LAYOUT = "1"
#: File in an environment that was made here, with what it depends on; empty while it is made.
_MARK = "fuseml-stamp"
#: Seconds that making the environment may take.
_TIMEOUT = 900.0
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class PluginProject:
    """The source of an extension with plugins.

    Attributes:
        folder: Absolute path of the folder with `extension.toml`.
        manifest: What that file says.
    """

    folder: Path
    manifest: ExtensionManifest

    @property
    def components(self) -> list[Component]:
        """The plugins that run here; those that somebody else runs are left out."""
        return [entry for entry in self.manifest.components if entry.plugin]

    @property
    def sources(self) -> list[Path]:
        """Folders whose files make the plugin: the projects among the wheels."""
        return [path for path in self._wheels() if path.is_dir()]

    def environment(self, say: Say = lambda _line: None) -> Path:
        """Make the environment, or bring it up to date.

        Args:
            say: Takes a line about each thing that takes a while.

        Returns:
            The interpreter in `.venv`.

        Raises:
            PluginError: What is needed is not at hand, or cannot be installed; nothing half-made is left.
        """
        from fuseml_core.service.extensions.pythons import accepted_python

        settings, wanted = from_environment(), self.manifest.environment
        base = accepted_python(wanted.python if wanted else "", settings.pythons,
                               f"{self.manifest.name} {self.manifest.version}")
        place, stamp = self.folder / ".venv", self._stamp(base)
        python, mark = place / "bin/python", place / _MARK
        if python.exists() and mark.is_file() and mark.read_text(encoding="utf-8") == stamp:
            return python
        if place.exists() and not mark.is_file():
            raise Invalid(f"{place} was made by somebody else, and a plugin runs in an environment that FuseML makes",
                          hint="Remove it, or move it away.")
        try:
            self._make(place, base, _index(settings), say)
            mark.write_text(stamp, encoding="utf-8")
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        return python

    def _make(self, place: Path, base: Path, index: IndexSettings, say: Say) -> None:
        from fuseml_sdk.environments.tool import run_uv

        def uv(*arguments: str, stdin: str | None = None) -> None:
            run_uv(list(arguments), index=index, timeout=_TIMEOUT, stdin=stdin)

        python, quiet = str(place / "bin/python"), ("--quiet", "--python", str(place / "bin/python"))
        if place.exists():
            shutil.rmtree(place)
        say(f"Making the environment {place} …")
        place.mkdir()
        (place / _MARK).touch()  # whose it is, also if this is killed before it is complete
        uv("venv", "--quiet", "--no-project", "--allow-existing", "--python", str(base), str(place))
        lock = self._lock()
        if lock:
            _first_offline(lambda *offline: uv("pip", "sync", *quiet, "--require-hashes", *offline, "-", stdin=lock))
        wheels = self._wheels()
        if wheels:
            named = [word for path in wheels for word in ((("--editable",) if path.is_dir() else ()) + (str(path),))]
            _first_offline(lambda *offline: uv("pip", "install", *quiet, "--no-deps", *offline, *named))
        if self._has_tests():
            links = [word for path in wheels if path.is_file() for word in ("--find-links", str(path.parent))]
            group = f"{self.folder / 'pyproject.toml'}:{TEST_GROUP}"
            _first_offline(lambda *offline: uv("pip", "install", "--quiet", "--python", python, *links, *offline,
                                               "--group", group))

    def _lock(self) -> str:
        path = self.folder / self.manifest.environment.lock if self.manifest.environment else None
        return path.read_text(encoding="utf-8") if path and path.is_file() else ""

    def _wheels(self) -> list[Path]:
        source = self.manifest.environment
        found = [(self.folder / entry).resolve() for entry in source.wheels] if source else []
        for path in found:
            if not path.exists():
                raise Invalid(f"extension.toml: environment.wheels: there is no {path}.",
                              hint="Name the folder of a project or the file of a wheel.")
        return found

    def _has_tests(self) -> bool:
        path = self.folder / "pyproject.toml"
        return path.is_file() and TEST_GROUP in tomllib.loads(path.read_text(encoding="utf-8")).get(
            "dependency-groups", {})

    def _stamp(self, base: Path) -> str:
        """What the environment depends on; the code of the projects is not part of it, for it is used where it lies."""
        known = hashlib.sha256(f"{_LAYOUT} {base} {self.folder} {self._lock()}".encode())
        for path in self._wheels():
            file = path / "pyproject.toml" if path.is_dir() else path
            known.update(f"{path}\n".encode() + (file.read_bytes() if file.is_file() else b""))
        return known.hexdigest()


def open_project(folder: Path) -> PluginProject:
    """Read the project of a folder.

    Raises:
        Invalid: It has no `extension.toml`, that is wrong, or the extension has no plugin of its own.
    """
    from fuseml_oci.bundles.build import read_source_manifest

    project = PluginProject(folder.resolve(), read_source_manifest(folder))
    if not project.components:
        raise Invalid(f"{folder} has no plugin: its extension.toml names no component with `plugin`.",
                      hint="Begin one with: fuseml plugin new store NAME")
    return project


def _first_offline(install: Callable[..., None]) -> None:
    """Install from what is cached, else with the index: a question for each distribution is what takes the time."""
    from fuseml_sdk.errors import InvalidInput, NotReady, Retryable

    try:
        install("--offline")
    except (InvalidInput, NotReady, Retryable):
        install()


def _index(settings: Settings) -> IndexSettings:
    from fuseml_sdk.environments import IndexSettings

    return IndexSettings(index_url=settings.index_url, proxy=settings.proxy, ca_bundle=settings.ca_bundle,
                         offline=settings.offline, find_links=str(settings.path("wheels")))
