"""Installed extensions and the generations they form."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class ExtensionState(StrEnum):
    """State of a version on this server. `retired`: not in force, and kept while a generation or a pipeline pins it."""

    ACTIVE = "active"
    FAILED = "failed"
    UNINSTALLING = "uninstalling"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class TrustDecision:
    """What the trust policy said about a bundle, and why.

    Attributes:
        allowed: Whether it may be installed.
        rule: The rule that decided, such as `embedded/**`; empty when none did.
        reason: One sentence for people.
        hint: What to do when it is refused.
        signers: Fingerprints of the keys whose signatures are good, `sha256:<64 hex>`.
        attestations: Predicate types of the attestations that are good.
        overridable: It is refused only because it is not signed; `--allow-unsigned` overrides that and nothing else.
        overridden: Refused as unsigned, and allowed by `--allow-unsigned`.
    """

    allowed: bool
    rule: str = ""
    reason: str = ""
    hint: str = ""
    signers: tuple[str, ...] = ()
    attestations: tuple[str, ...] = ()
    overridable: bool = False
    overridden: bool = False


@dataclass(frozen=True, slots=True)
class Member:
    """One extension of a generation.

    Attributes:
        name: Name of the extension.
        version: Semantic version.
        digest: `sha256:<hex>` of the bundle's OCI manifest.
        reference: Where it came from, with digest.
        requested: Somebody asked for it; otherwise it is there because another member depends on it.
        trust: The decision of the trust policy when it was installed.
        channel: Of the catalog that it was chosen from; empty when no catalog was asked.
    """

    name: str
    version: str
    digest: str
    reference: str
    requested: bool
    trust: TrustDecision
    channel: str = ""


class GenerationState(StrEnum):
    """`new`: its components are still watched after the switch; `failed`: they did not stay up, it was rolled back."""

    NEW = "new"
    SETTLED = "settled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Generation:
    """The set of extensions that were active together. The one with the highest number is in force.

    Attributes:
        number: Counts up from 1; numbers are never used again.
        cause: What made it, such as `install mlflow` or `rollback to 3`.
        created_at: Seconds since the epoch.
        members: By name.
        state: See :class:`GenerationState`.
        note: What went wrong, for a generation that failed; else empty.
    """

    number: int
    cause: str
    created_at: float
    members: tuple[Member, ...]
    state: GenerationState = GenerationState.SETTLED
    note: str = ""

    def member(self, name: str) -> Member | None:
        """The member of this name."""
        return next((member for member in self.members if member.name == name), None)


@dataclass(frozen=True, slots=True)
class Rest:
    """Why nothing of an installed extension is loaded now.

    Attributes:
        state: One word or two for lists: `disabled`, `safe mode`, `leaving`.
        reason: One sentence for people, without a full stop.
        hint: What to do about it.
    """

    state: str
    reason: str
    hint: str


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
        config: `sha256:<hex>` of the bundle's config blob, the descriptor; empty for what was installed before it was
            written down.
        described: What each component said about itself when this version was checked, by `<family>/<name>`; empty
            for what was not started yet.
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
    config: str = ""
    described: dict[str, Any] = field(default_factory=dict)

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
