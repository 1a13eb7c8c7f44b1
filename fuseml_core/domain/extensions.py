"""Installed extensions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class ExtensionState(StrEnum):
    """State of an installed version. `retired`: replaced by another version and kept while something pins it."""

    ACTIVE = "active"
    FAILED = "failed"
    UNINSTALLING = "uninstalling"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class InstalledExtension:
    """One version of an extension on this server; its digest identifies it.

    Attributes:
        name: Name of the extension.
        version: Semantic version.
        digest: `sha256:<hex>` of the bundle's OCI manifest.
        reference: Where it came from, with digest.
        descriptor: The bundle's descriptor as a JSON object: `manifest`, `runnables`, `templates`, `layers`, `files`.
        store: Absolute path of the unpacked bundle.
        state: Only one version of a name is active.
        installed_at: Seconds since the epoch.
        environment: Absolute path of its virtual environment; None when the bundle has no code.
        python: Absolute path of the interpreter in it.
    """

    name: str
    version: str
    digest: str
    reference: str
    descriptor: dict[str, Any]
    store: str
    state: ExtensionState
    installed_at: float
    environment: str | None = None
    python: str | None = None

    @property
    def manifest(self) -> dict[str, Any]:
        """What `extension.toml` said."""
        return dict(self.descriptor["manifest"])

    @property
    def components(self) -> list[dict[str, Any]]:
        """The plugin objects: `family`, `name`, `plugin`, `summary`."""
        return list(self.manifest.get("components") or [])

    @property
    def dependencies(self) -> list[dict[str, Any]]:
        """Extensions that must be installed: `name`, `range`."""
        return list(self.manifest.get("dependencies") or [])

    @property
    def conflicts(self) -> list[dict[str, Any]]:
        """Extensions that must not be installed: `name`, `range`."""
        return list(self.manifest.get("conflicts") or [])
