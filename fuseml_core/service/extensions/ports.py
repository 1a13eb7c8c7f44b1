"""What the use cases of extensions need from outside, as Protocols."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from fuseml_core.domain.extensions import Generation, InstalledExtension, Member, TrustDecision

#: Takes one short line of progress at a time.
Progress = Callable[[str], None]


class InstalledExtensions(Protocol):
    """The rows of installed extensions, with their components, runnables and templates."""

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

    def all(self) -> Sequence[InstalledExtension]:
        """Every version of every extension, by name, the active one first."""
        ...

    def remove(self, digest: str) -> None:
        """Forget a version that is not active."""
        ...

    def describe(self, digest: str, described: Mapping[str, Any]) -> None:
        """Write down what the components of a version say about themselves."""
        ...


class DisabledExtensions(Protocol):
    """Names of disabled extensions; they stay disabled when another version comes into force."""

    def all(self) -> Mapping[str, float]:
        """Since when each is disabled, in seconds since the epoch."""
        ...

    def add(self, name: str, now: float) -> bool:
        """Disable one; returns False if it was already."""
        ...

    def remove(self, names: Collection[str]) -> None:
        """Enable some; those that are enabled are passed over."""
        ...


@dataclass(frozen=True, slots=True)
class Occupation:
    """Work that is going on with an extension.

    Attributes:
        text: What it is, for people: `the service default/churn`.
        agent: Name of the component that runs it; empty when the extension only gave the runnable or the template.
    """

    text: str
    agent: str


#: Finds the work that is going on with an extension, by its name.
FindWork = Callable[[str], "Sequence[Occupation]"]


@dataclass(frozen=True, slots=True)
class Switch:
    """Everything that one transaction changes when another set of extensions comes into force.

    Attributes:
        cause: Why, such as `install mlflow`.
        members: The whole new set.
        base: Number of the generation that it was planned from; another one in force now is a conflict.
        records: Versions that are not yet in the database.
        settings: Values to set, by extension.
        forget: Extensions whose settings are dropped.
        work: Kinds of work that must follow and may not be forgotten, such as `redetect`.
        watched: The components are watched for a while after the switch.
        failed: Number of the generation that this one takes the place of because it did not work; 0: none.
        note: What went wrong there.
    """

    cause: str
    members: Sequence[Member]
    base: int
    records: Sequence[InstalledExtension] = ()
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    forget: Collection[str] = ()
    work: Collection[str] = ()
    watched: bool = False
    failed: int = 0
    note: str = ""


class Generations(Protocol):
    """The sets of extensions that were active together."""

    def current(self) -> Generation:
        """The one in force; number 0, without members, before anything was installed."""
        ...

    def list(self) -> Sequence[Generation]:
        """All that are kept, the newest first."""
        ...

    def get(self, number: int) -> Generation | None:
        """One by its number, if it is kept."""
        ...

    def switch(self, change: Switch) -> Generation:
        """Make a new generation and put it in force, with everything that belongs to it, in one transaction.

        Raises:
            Conflict: Another generation is in force than the one that it was planned from.
        """
        ...

    def settle(self, number: int) -> None:
        """The components of a new generation stayed up."""
        ...

    def forget(self, numbers: Collection[int]) -> None:
        """Drop generations; the one in force stays whatever is said."""
        ...

    def embedded_at(self, registry: str) -> bool:
        """Tell where the embedded registry is now, `host:port`; references into it follow. Returns whether it moved."""
        ...

    def work(self) -> Mapping[str, str]:
        """What a switch left to be done, by kind, with the cause of the switch."""
        ...

    def done(self, kind: str) -> None:
        """Such work was done."""
        ...


class ChangeLock(Protocol):
    """One change of the extensions at a time, whichever server makes it."""

    def alone(self, what: str, patience: float, say: Progress) -> AbstractContextManager[None]:
        """Hold the lock for the change `what`; waits at most `patience` seconds and says what it waits for.

        Raises:
            Unavailable: Others took longer.
        """
        ...

    def running(self) -> str:
        """What is being changed now; empty when nothing is."""
        ...

    def interrupted(self) -> str:
        """What a server that died was changing; empty when nothing was. Forgets it."""
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
        config: `sha256:<hex>` of its config blob.
        advice: What the catalog says about this version: deprecated, yanked; one sentence each.
        channel: Of the catalog that it was chosen from; empty when no catalog was asked.
    """

    reference: str
    digest: str
    descriptor: dict[str, Any]
    config: str = ""
    advice: tuple[str, ...] = ()
    channel: str = ""

    @property
    def name(self) -> str:
        """Name of the extension."""
        return str(self.descriptor["manifest"]["name"])

    @property
    def version(self) -> str:
        """Semantic version."""
        return str(self.descriptor["manifest"]["version"])


@dataclass(frozen=True, slots=True)
class Wish:
    """Which versions may be chosen.

    Attributes:
        channel: Of a catalog; empty: the one that the marketplace or the package prefers.
        prereleases: Take pre-releases also where there are releases.
        offline: Ask nothing but this server: its own registry and what was fetched before.
    """

    channel: str = ""
    prereleases: bool = False
    offline: bool = False


@dataclass(frozen=True, slots=True)
class Available:
    """A version that could be chosen, not looked up yet.

    Attributes:
        version: Semantic version.
        yanked: Why it must not be chosen anew; empty when it may.
        requires_fuseml: Range of engine versions if the source knows it; empty: look it up.
        dependencies: `name` and `range` of what it needs if the source knows; None: look it up.
    """

    version: str
    yanked: str = ""
    requires_fuseml: str = ""
    dependencies: tuple[tuple[str, str], ...] | None = None


class Bundles(Protocol):
    """Registries that hold bundles, and the trust policy about them."""

    def find(self, reference: str, wish: Wish) -> FoundBundle:
        """Look a bundle up; a name stands for its best version in the embedded registry, else in a marketplace.

        Raises:
            Invalid, NotFound, Unavailable, Failed: It is no reference, no bundle, not there, or does not verify.
        """
        ...

    def versions(self, sibling: str, name: str, wish: Wish) -> Sequence[Available]:
        """Versions of an extension where another reference came from, best first; nothing if unknown there."""
        ...

    def find_version(self, sibling: str, name: str, version: str, wish: Wish) -> FoundBundle:
        """Look up one of these versions."""
        ...

    def decide(self, found: FoundBundle, wish: Wish) -> TrustDecision:
        """What the trust policy says about a bundle; a refusal is returned, not raised."""
        ...

    def doubt(self, name: str, reference: str, known: TrustDecision) -> TrustDecision | None:
        """What the policy has by now against a bundle that was let in by a decision; None for nothing.

        Asks no registry: the signatures that were good then are good, but their keys may not be trusted any more.
        """
        ...

    def advice(self, reference: str, name: str, version: str) -> Sequence[str]:
        """What the catalog at hand says about a version: deprecated, yanked; asks no registry."""
        ...

    def missing(self, found: FoundBundle) -> Sequence[str]:
        """Digests of its layers that would have to be downloaded."""
        ...

    def portable(self, reference: str) -> str:
        """The reference as another server can read it: a bundle in the embedded registry goes by its name."""
        ...

    def embedded(self) -> str:
        """`host:port` of the embedded registry now."""
        ...

    def own_signers(self) -> Collection[str]:
        """Fingerprints of keys that only this server has, so that they say nothing to another one."""
        ...

    def catalogs(self) -> Mapping[str, Mapping[str, Any]]:
        """`digest` and `version` of the catalog of each marketplace this server subscribed to, by its name."""
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

    def build(self, bundle: Path, manifest: dict[str, Any], progress: Progress, *,
              offline: bool = False) -> BuiltEnvironment | None:
        """Return the environment of an unpacked bundle, made if it is not there; None if the bundle has no code.

        `offline` asks no package index: wheels of the bundle and those fetched before must do.

        Raises:
            Invalid, Unavailable, Failed: It cannot be built.
        """
        ...

    def discard(self, path: str) -> None:
        """Remove an environment that nothing uses any more."""
        ...


class ComponentHost(Protocol):
    """The plugin host, as far as extensions need it.

    A version is registered beside the one in force, checked, put in force, and only then the other one unloaded: new
    calls go from one to the next in a single step, and those in flight end where they began.
    """

    def load(self, extension: InstalledExtension, only: Collection[str] | None = None) -> None:
        """Register the components of a version and put them in force, starting nothing; done already is fine.

        Args:
            extension: The version; nothing is done when it rests.
            only: Components to load although it rests.
        """
        ...

    def prepare(self, extension: InstalledExtension) -> None:
        """Register the components of a version, with the settings of now, beside those in force; starts nothing."""
        ...

    def check(self, extension: InstalledExtension) -> Mapping[str, Any]:
        """Start each component that was registered last and ask it to describe itself.

        Returns:
            What each says, by `<family>/<name>`; nothing when the extension rests.

        Raises:
            Failed: One does not start or answers wrongly; the message says which and why.
        """
        ...

    def put_in_force(self, extension: InstalledExtension) -> None:
        """Let new calls meet what was registered last of a version; the same version with other settings goes."""
        ...

    def discard(self, extension: InstalledExtension) -> None:
        """Remove what is registered of a version and not in force."""
        ...

    def unload(self, extension: InstalledExtension, keep: Collection[str] = ()) -> None:
        """Stop and remove the components of a version, but for agents to keep; not being registered is fine."""
        ...

    def state(self, extension: InstalledExtension) -> list[dict[str, Any]]:
        """Components with `family`, `name`, `hosting`, `state`, `pid`, `restarts`, `last_crash` and `enforced`."""
        ...

    def judge(self, permission: str) -> tuple[bool, str]:
        """Whether this machine keeps an extension from what a permission allows unless it declares it.

        Args:
            permission: As a manifest names it.

        Returns:
            Whether it does, and by what, or why not.
        """
        ...

    def judge_limit(self, name: str) -> tuple[bool, str]:
        """Whether this machine holds components to a limit, and by what or why not."""
        ...

    def isolation(self) -> list[dict[str, Any]]:
        """What keeps plugin processes in their place here: `name`, `enforced` and `reason` of each measure."""
        ...
