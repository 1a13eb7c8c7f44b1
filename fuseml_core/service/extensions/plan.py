"""What a change of the extensions would do, before it is done: the plan that `--dry-run` shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from fuseml_core.domain.extensions import InstalledExtension, Member, TrustDecision
from fuseml_core.service.extensions.ports import FoundBundle
from fuseml_sdk.permissions import asked_for
from fuseml_sdk.versions import parse_version

#: Whether a permission is enforced on this machine, and by what or why not.
Judge = Callable[[str], tuple[bool, str]]
#: The limits of the components of a manifest, for people and programs.
LimitsOf = Callable[[Mapping[str, Any]], Sequence[dict[str, Any]]]


class Action(StrEnum):
    """What happens to one extension. `replace`: the same version with other contents; `repair`: files were gone."""

    INSTALL = "install"
    UPGRADE = "upgrade"
    DOWNGRADE = "downgrade"
    REPLACE = "replace"
    REPAIR = "repair"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class PlannedChange:
    """What happens to one extension.

    Attributes:
        name: Of the extension.
        action: What is done.
        old: The version that is active now.
        found: The bundle that is fetched; None when it is here already.
        kept: The version that is here and becomes active again; None when it is fetched.
        member: What the new generation says about it; None when it is removed.
        why: Who wants it, such as `kserve 0.2.0`; empty when it was asked for.
        download: Bytes to fetch.
        size: Bytes of all layers.
    """

    name: str
    action: Action
    old: InstalledExtension | None = None
    found: FoundBundle | None = None
    kept: InstalledExtension | None = None
    member: Member | None = None
    why: Sequence[str] = ()
    download: int = 0
    size: int = 0

    @property
    def descriptor(self) -> dict[str, Any]:
        """Of the new version; empty when it is removed."""
        if self.found is not None:
            return self.found.descriptor
        return self.kept.descriptor if self.kept is not None else {}

    @property
    def manifest(self) -> dict[str, Any]:
        """Of the new version; empty when it is removed."""
        return dict(self.descriptor.get("manifest") or {})

    def view(self, judge: Judge, limits: LimitsOf) -> dict[str, Any]:
        """For people and programs.

        Args:
            judge: Says of a permission whether it is enforced here.
            limits: Says what components may use.
        """
        gone, come = _permissions(self.old.manifest if self.old else {}), _permissions(self.manifest)
        judge = judge_of(self.manifest, judge)
        trust = self.member.trust if self.member else None
        return {
            "name": self.name, "action": self.action.value, "from": self.old.version if self.old else None,
            "to": self.member.version if self.member else None, "digest": self.member.digest if self.member else None,
            "reference": self.member.reference if self.member else None,
            "requested": self.member.requested if self.member else False, "wanted_by": list(self.why),
            "download_bytes": self.download, "size_bytes": self.size,
            "permissions": {"added": [judged(p, judge) for n, p in come.items() if n not in gone],
                            "removed": [judged(p, judge) for n, p in gone.items() if n not in come]},
            "dependencies": list(self.manifest.get("dependencies") or []),
            "environment": _environment(self.descriptor, self.old),
            "components": [_component(c) for c in self.manifest.get("components") or []],
            "limits": list(limits(self.manifest)),
            "trust": trust_view(trust) if trust else None,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """A change of the extensions.

    Attributes:
        cause: Why, such as `install mlflow`.
        base: Number of the generation that it starts from.
        changes: Dependencies before what needs them; removals last, in the opposite order.
        members: The whole new set.
        warnings: What people should know, one sentence each.
        settings: Values to set, by extension.
        refusals: Why it will not be done: trust; empty when it can be done.
    """

    cause: str
    base: int
    changes: Sequence[PlannedChange]
    members: Sequence[Member]
    warnings: Sequence[str] = ()
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def view(self, judge: Judge, limits: LimitsOf) -> dict[str, Any]:
        """For people and programs: `cause`, `base`, `changes`, `warnings`, `download_bytes` and the new `members`."""
        return {
            "cause": self.cause, "base": self.base, "changes": [change.view(judge, limits) for change in self.changes],
            "warnings": list(self.warnings), "download_bytes": sum(change.download for change in self.changes),
            "members": [{"name": m.name, "version": m.version, "digest": m.digest, "requested": m.requested}
                        for m in self.members],
        }


def action_of(old: InstalledExtension | None, version: str, digest: str) -> Action:
    """What putting a version in the place of another one is."""
    if old is None:
        return Action.INSTALL
    if old.digest == digest:
        return Action.REPAIR
    mine, new = parse_version(old.version), parse_version(version)
    if mine.release == new.release and (mine == new or (mine.is_development and new.is_development)):
        return Action.REPLACE
    return Action.UPGRADE if new > mine else Action.DOWNGRADE


def trust_view(trust: TrustDecision) -> dict[str, Any]:
    """A decision for people and programs."""
    return {"allowed": trust.allowed, "rule": trust.rule, "reason": trust.reason, "signers": list(trust.signers),
            "attestations": list(trust.attestations), "overridden": trust.overridden, "hint": trust.hint}


def judge_of(manifest: Mapping[str, Any], judge: Judge) -> Judge:
    """The judge of one extension: where somebody else runs a component, only secrets are in the server's hands.

    Args:
        manifest: Of the extension.
        judge: Says of a permission whether it is enforced for plugins that the server runs.
    """
    if not any(component.get("address") for component in manifest.get("components") or []):
        return judge
    return lambda name: judge(name) if name.startswith("secrets:") else (False, "somebody else runs it")


def judged(permission: Mapping[str, str], judge: Judge) -> dict[str, Any]:
    """A permission for people and programs: `name`, `reason`, whether it is `enforced` here, and by what or why not."""
    enforced, how = judge(permission["name"])
    return {**permission, "enforced": enforced, "how": how}


def _permissions(manifest: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    return {p["name"]: p for p in asked_for(manifest)}


def _environment(descriptor: Mapping[str, Any], old: InstalledExtension | None) -> str:
    """`none`, `same` as that of the active version, or `build`."""
    mine = _ingredients(descriptor)
    if not mine:
        return "none"
    return "same" if old is not None and old.environment and _ingredients(old.descriptor) == mine else "build"


def _ingredients(descriptor: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What an environment is made of: the lock and the wheels, by digest."""
    wanted = (descriptor.get("manifest") or {}).get("environment")
    if not wanted:
        return []
    lock = wanted.get("lock") or "requirements.lock"
    files = [(f["path"], f.get("digest") or "") for f in descriptor.get("files") or []
             if f.get("path") == lock or str(f.get("path")).startswith("wheels/")]
    return sorted([*files, ("python", str(wanted.get("python") or ""))])


def _component(entry: Mapping[str, Any]) -> str:
    """A component in one line; of one that somebody else runs it says what the server does not do for it."""
    title = f"{entry['family']} {entry['name']}"
    if not entry.get("address"):
        return title
    return f"{title} at {entry['address']}: somebody else runs it, so it is neither isolated nor restarted"
