"""Virtual environments of extensions, built by uv."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from fuseml_core.adapters.extensions.errors import translated
from fuseml_core.service.extensions.ports import BuiltEnvironment, Progress
from fuseml_core.service.extensions.pythons import accepted_python
from fuseml_core.settings import Settings
from fuseml_sdk.environments import (
    IndexSettings,
    ensure_environment,
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
            python = accepted_python(str(wanted.get("python") or ""), self._pythons,
                                     f"{manifest['name']} {manifest['version']}")
            index = replace(self._index, offline=True) if offline else self._index
            built = ensure_environment(self._root, lock=text, python=python, wheels=wheels, index=index,
                                       timeout=self._timeout, links=bundle / "vendored")
        return BuiltEnvironment(str(built.path), str(built.python), built.built)

    def discard(self, path: str) -> None:
        """Remove an environment that nothing uses any more."""
        others = {entry.name for entry in self._root.iterdir()} if self._root.is_dir() else set()
        remove_unused(self._root, keep=others - {Path(path).name}, older_than=0.0)
