"""Virtual environments of extensions, built by uv."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from fuseml_core.adapters.extensions.errors import translated
from fuseml_core.domain.errors import Invalid
from fuseml_core.service.extensions.ports import BuiltEnvironment, Progress
from fuseml_core.settings import Settings
from fuseml_sdk.environments import (
    IndexSettings,
    ensure_environment,
    find_python,
    inspect_python,
    remove_unused,
)


class UvEnvironments:
    """Builds environments below `<home>/envs`; implements the port `Environments`.

    Args:
        settings: Home, interpreters, package index, proxy and CA.
        timeout: Seconds one build may take.
    """

    def __init__(self, settings: Settings, timeout: float = 1800.0) -> None:
        self._root, self._pythons, self._timeout = settings.path("envs"), settings.pythons, timeout
        self._index = IndexSettings(index_url=settings.index_url, proxy=settings.proxy,
                                    ca_bundle=settings.ca_bundle, offline=settings.offline,
                                    find_links=str(settings.path("wheels")))

    def build(self, bundle: Path, manifest: dict[str, Any], progress: Progress, *,
              offline: bool = False) -> BuiltEnvironment | None:
        """Return the environment of an unpacked bundle, made if it is not there; None if the bundle has no code."""
        wanted = manifest.get("environment")
        if not wanted:
            return None
        lock = bundle / str(wanted.get("lock") or "")
        text = lock.read_text(encoding="utf-8") if lock.is_file() else ""
        wheels = [bundle / "wheels" / name for name in wanted.get("wheels") or []]
        count = sum(1 for line in text.splitlines() if line[:1].isalnum()) + len(wheels)
        progress(f"preparing environment ({count} package{'' if count == 1 else 's'})")
        with translated(f"the environment of {manifest['name']} {manifest['version']} cannot be built: "):
            python = self._python(str(wanted.get("python") or ""), manifest)
            index = replace(self._index, offline=True) if offline else self._index
            built = ensure_environment(self._root, lock=text, python=python, wheels=wheels, index=index,
                                       timeout=self._timeout, links=bundle / "vendored")
        return BuiltEnvironment(str(built.path), str(built.python), built.built)

    def discard(self, path: str) -> None:
        """Remove an environment that nothing uses any more."""
        others = {entry.name for entry in self._root.iterdir()} if self._root.is_dir() else set()
        remove_unused(self._root, keep=others - {Path(path).name}, older_than=0.0)

    def _python(self, accepted: str, manifest: dict[str, Any]) -> Path:
        """The server's interpreter if the extension accepts it, else another installed one that it does."""
        from packaging.specifiers import InvalidSpecifier, SpecifierSet

        try:
            specifiers = SpecifierSet(accepted)
        except InvalidSpecifier:
            raise Invalid(f"{manifest['name']}: environment.python: {accepted!r} is not a range of versions") from None
        tried = []
        for wanted in (None, "3.13", "3.12", "3.14", "3.11", "3.10"):
            python, _warning = find_python(wanted, self._pythons)
            facts = inspect_python(python)
            if facts is not None and specifiers.contains(facts.version, prereleases=True):
                return python
            tried.append(facts.version if facts else str(python))
        raise Invalid(f"{manifest['name']} {manifest['version']} needs Python {accepted}; there is "
                      f"{', '.join(dict.fromkeys(tried))}", hint="Install it, or name it in FUSEML_PYTHONS.")
