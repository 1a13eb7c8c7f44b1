"""What the use cases of extensions need from outside, as Protocols."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fuseml_core.domain.extensions import InstalledExtension

#: Takes one short line of progress at a time.
Progress = Callable[[str], None]


class InstalledExtensions(Protocol):
    """The rows of installed extensions, with their components, runnables and templates."""

    def add(self, *records: InstalledExtension) -> None:
        """Make versions active in one transaction; active versions of the same names become retired."""
        ...

    def list(self) -> Sequence[InstalledExtension]:
        """The active extensions by name."""
        ...

    def get(self, name: str) -> InstalledExtension | None:
        """The active version of an extension."""
        ...

    def by_digest(self, digest: str) -> InstalledExtension | None:
        """One version, active or retired."""
        ...

    def versions(self, name: str) -> Sequence[InstalledExtension]:
        """All versions of an extension that are still there, the active one first."""
        ...

    def remove(self, digest: str) -> None:
        """Forget a version."""
        ...


class StoredSettings(Protocol):
    """What people set for extensions; kept by name, so that it survives upgrades."""

    def get(self, extension: str) -> dict[str, Any]:
        """All settings of an extension, secrets included."""
        ...

    def change(self, extension: str, values: Mapping[str, Any], unset: Collection[str]) -> None:
        """Set and unset settings in one transaction."""
        ...

    def forget(self, extension: str) -> None:
        """Remove all settings of an extension."""
        ...


@dataclass(frozen=True, slots=True)
class FoundBundle:
    """A bundle in a registry, known by its descriptor, not fetched.

    Attributes:
        reference: With digest.
        digest: `sha256:<hex>` of its OCI manifest.
        descriptor: As in :class:`InstalledExtension`.
    """

    reference: str
    digest: str
    descriptor: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the extension."""
        return str(self.descriptor["manifest"]["name"])

    @property
    def version(self) -> str:
        """Semantic version."""
        return str(self.descriptor["manifest"]["version"])


class Bundles(Protocol):
    """Registries that hold bundles."""

    def is_trusted(self, reference: str) -> bool:
        """Whether policy trusts the registry of a reference. Raises `Invalid` if it is no reference."""
        ...

    def find(self, reference: str) -> FoundBundle:
        """Look a bundle up; a name stands for its highest version in the embedded registry.

        Raises:
            Invalid, NotFound, Unavailable, Failed: It is no reference, no bundle, not there, or does not verify.
        """
        ...

    def versions(self, sibling: str, name: str) -> Sequence[str]:
        """Versions of an extension in the registry and namespace of another reference; nothing if unknown there."""
        ...

    def find_version(self, sibling: str, name: str, version: str) -> FoundBundle:
        """Look up one of these versions."""
        ...

    def fetch(self, found: FoundBundle, destination: Path, progress: Progress) -> None:
        """Download, verify and unpack a bundle into a folder that does not exist yet; nothing is left on failure."""
        ...

    def clean(self, keep: Collection[str]) -> None:
        """Drop downloaded layers whose digest is not in `keep`."""
        ...


@dataclass(frozen=True, slots=True)
class BuiltEnvironment:
    """A virtual environment: absolute path, interpreter in it, and whether it was made just now."""

    path: str
    python: str
    is_new: bool


class Environments(Protocol):
    """Virtual environments of extensions."""

    def build(self, bundle: Path, manifest: dict[str, Any], progress: Progress) -> BuiltEnvironment | None:
        """Return the environment of an unpacked bundle, made if it is not there; None if the bundle has no code.

        Raises:
            Invalid, Unavailable, Failed: It cannot be built.
        """
        ...

    def discard(self, path: str) -> None:
        """Remove an environment that nothing uses any more."""
        ...


class ComponentHost(Protocol):
    """The plugin host, as far as extensions need it."""

    def load(self, extension: InstalledExtension) -> None:
        """Register the components of a version without starting anything; done already is fine."""
        ...

    def check(self, extension: InstalledExtension) -> None:
        """Start each registered component and ask it to describe itself.

        Raises:
            Failed: One does not start or answers wrongly; the message says which and why.
        """
        ...

    def configure(self, extension: InstalledExtension) -> None:
        """Give the registered components the settings of now: new calls meet them at once, those in flight end.

        Raises:
            Failed: A component does not work with them; the message says which and why.
        """
        ...

    def unload(self, extension: InstalledExtension) -> None:
        """Stop and remove the components of a version; those not registered are passed over."""
        ...

    def state(self, extension: InstalledExtension) -> list[dict[str, Any]]:
        """Components with `family`, `name`, `hosting`, `state`, `pid`, `restarts`, `last_crash`."""
        ...
