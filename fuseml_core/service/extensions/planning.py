"""Planning installations and upgrades: which bundles, trusted by whom, with which settings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from fuseml_core.domain.errors import Conflict, Invalid, NotFound, Refused, Unavailable
from fuseml_core.domain.extensions import Generation, InstalledExtension, Member, TrustDecision
from fuseml_core.service.extensions.contract_fit import foreseen
from fuseml_core.service.extensions.explain import check_conflicts
from fuseml_core.service.extensions.options import Options
from fuseml_core.service.extensions.plan import Plan, PlannedChange, action_of
from fuseml_core.service.extensions.ports import Bundles, FoundBundle, Generations, InstalledExtensions
from fuseml_core.service.extensions.resolve import Candidate, Goal, resolve
from fuseml_core.service.extensions.settings import ExtensionSettings
from fuseml_core.service.extensions.store import BundleStore
from fuseml_sdk.permissions import KINDS, unknown
from fuseml_sdk.versions import parse_range

Item = TypeVar("Item")
#: What is known about members that were installed before decisions were written down.
UNKNOWN = TrustDecision(True, reason="the decision was not written down")


class Planner:
    """Plans installations and upgrades; changes nothing.

    Args:
        records: Rows of installed extensions.
        generations: Rows of generations.
        bundles: Registries.
        settings: What is set.
        store: Unpacked bundles.
        engine: Version of FuseML.
    """

    def __init__(self, records: InstalledExtensions, generations: Generations, bundles: Bundles,
                 settings: ExtensionSettings, store: BundleStore, engine: str) -> None:
        self._records, self._generations, self._bundles = records, generations, bundles
        self._settings, self._store, self._engine = settings, store, engine

    def install(self, references: Sequence[str], options: Options) -> Plan:
        """Plan to install bundles and what they depend on.

        Args:
            references: `mlflow`, `mlflow:0.1.0` or `oci://host/namespace/name:tag@digest` each.
            options: Trust, channel, settings.

        Raises:
            Refused: The trust policy does not allow one.
            Invalid, NotFound, Conflict, Unavailable, Failed: As the message says.
        """
        goals: list[Goal] = []
        for found in self._find_all(references, options):
            if any(goal.name == found.name and goal.found != found for goal in goals):
                raise Invalid(f"two different bundles of {found.name} are asked for", hint="Name one of them.")
            goals.append(Goal(found.name, found, found.reference))
        return self.choose(f"install {', '.join(references)}", goals, options, asked={goal.name for goal in goals})

    def _find_all(self, references: Sequence[str], options: Options) -> list[FoundBundle]:
        """Look bundles up; offline, say of all that are not here, not only of the first."""
        found, missing = [], []
        for reference in dict.fromkeys(reference.strip() for reference in references):
            try:
                found.append(self._bundles.find(reference, options.wish))
            except Unavailable as error:
                if not options.wish.offline or "missing" not in error.details:
                    raise
                missing.append(error)
        if missing:
            raise Unavailable("\n".join(error.message for error in missing), hint=missing[0].hint,
                              details={"missing": [name for error in missing for name in error.details["missing"]]})
        return found

    def upgrade(self, names: Sequence[str], options: Options) -> Plan:
        """Plan to bring extensions to the best version that everything installed can live with.

        Args:
            names: Of installed extensions; none means all.
            options: As for :meth:`install`.

        Raises:
            NotFound: One is not installed.
            Refused, Conflict, Unavailable, Failed: As the message says.
        """
        installed = {record.name: record for record in self._records.list()}
        for name in names:
            if name not in installed:
                raise NotFound(f"the extension {name!r} is not installed",
                               hint=f"Install it: fuseml extension install {name}")
        goals = [Goal(name, None, installed[name].reference) for name in names or sorted(installed)]
        cause = f"upgrade {', '.join(names)}" if names else "upgrade --all"
        return self.choose(cause, goals, options, asked=())

    def choose(self, cause: str, goals: Sequence[Goal], options: Options, asked: Collection[str]) -> Plan:
        """Resolve goals and describe what follows.

        Args:
            cause: For the new generation.
            goals: What is asked for.
            options: Trust, channel, settings.
            asked: Names that count as requested from now on.
        """
        installed = self._records.list()
        chosen = resolve(goals, installed, self._bundles, self._engine, options.wish) if goals else {}
        check_conflicts([(c.name, c.version, c.manifest.get("conflicts") or []) for c in chosen.values()])
        _check_dependents(chosen, installed)
        return self._describe(cause, chosen, installed, options, asked)

    def _describe(self, cause: str, chosen: Mapping[str, Candidate], installed: Sequence[InstalledExtension],
                  options: Options, asked: Collection[str]) -> Plan:
        current, active = self._generations.current(), {record.name: record for record in installed}
        wanted_by, here = _wanted_by(chosen), {record.digest: record for record in self._records.all()}
        members = {record.name: _member_of(record, current) for record in installed}
        changes: list[PlannedChange] = []
        warnings: list[str] = []
        for candidate in _ordered(chosen):
            old = active.get(candidate.name)
            if old is not None and candidate.digest == old.digest:
                if self._is_whole(old):
                    warnings += self._bundles.advice(old.reference, old.name, old.version)
                    continue
                found = self._bundles.find(old.reference, options.wish)
            else:
                assert candidate.found is not None
                found = candidate.found
            change = self._change(found, old, here.get(found.digest), members.get(candidate.name), options,
                                  wanted_by.get(candidate.name, ()))
            if change.member is not None:
                members[candidate.name] = change.member
            changes.append(change)
            warnings += foreseen(found.name, found.version, found.descriptor)
            warnings += found.advice or self._bundles.advice(found.reference, found.name, found.version)
        for name in asked:
            members[name] = replace(members[name], requested=True)
        for change in changes:
            warnings += self._settings.foresee(change, options.settings.get(change.name, {}))
        _check_settings(options, changes)
        return Plan(cause, current.number, changes, [members[name] for name in sorted(members)],
                    list(dict.fromkeys(warnings)), self._settings.typed(changes, options.settings))

    def _change(self, found: FoundBundle, old: InstalledExtension | None, kept: InstalledExtension | None,
                member: Member | None, options: Options, wanted_by: Sequence[str]) -> PlannedChange:
        _check_permissions(found)
        self._settings.limits.check(found.descriptor.get("manifest") or {})
        trust = self.trust(found, options)
        at_hand = kept is not None and self._is_whole(kept)
        missing = set(self._bundles.missing(found)) if not self._store.has(found.digest) else set()
        sizes = {layer["digest"]: int(layer["size"]) for layer in found.descriptor.get("layers") or []}
        download = sum(size for digest, size in sizes.items() if digest in missing)
        return PlannedChange(
            found.name, action_of(old, found.version, found.digest), old, None if at_hand else found,
            kept if at_hand else None,
            Member(found.name, found.version, found.digest, found.reference, member is not None and member.requested,
                   trust, found.channel), wanted_by, download, sum(sizes.values()))

    def trust(self, found: FoundBundle, options: Options) -> TrustDecision:
        """The decision about a bundle; `--allow-unsigned` makes up for missing signatures only.

        Raises:
            Refused: It may not be installed.
        """
        decision = self._known(found) if options.wish.offline else None
        decision = decision or self._bundles.decide(found, options.wish)
        if decision.allowed:
            return decision
        if options.allow_unsigned and decision.overridable:
            return replace(decision, allowed=True, overridden=True)
        raise Refused(f"{found.name} {found.version} is not trusted: {decision.reason}", hint=decision.hint,
                      details={"reference": found.reference, "rule": decision.rule})

    def _known(self, found: FoundBundle) -> TrustDecision | None:
        """The decision made when a bundle was fetched, unless today's policy has something against it."""
        made = next((member.trust for generation in self._generations.list() for member in generation.members
                     if member.digest == found.digest), None)
        if made is None or self._bundles.doubt(found.name, found.reference, made) is not None:
            return None
        return made

    def _is_whole(self, record: InstalledExtension) -> bool:
        return is_whole(self._store, record)


def is_whole(store: BundleStore, record: InstalledExtension) -> bool:
    """Whether the files of a version and its environment are there."""
    return store.has(record.digest) and (record.python is None or Path(record.python).exists())


def _member_of(record: InstalledExtension, current: Generation) -> Member:
    member = current.member(record.name)
    if member is not None and member.digest == record.digest:
        return member
    return Member(record.name, record.version, record.digest, record.reference, True, UNKNOWN)


def _check_settings(options: Options, changes: Iterable[PlannedChange]) -> None:
    for name in set(options.settings) - {change.name for change in changes}:
        raise Invalid(f"settings of {name!r} are given, and this changes nothing of it",
                      hint=f"Write: fuseml extension configure {name} KEY=VALUE")


def _check_permissions(found: FoundBundle) -> None:
    """What nobody here understands nobody can agree to, nor enforce."""
    names = unknown(entry["name"] for entry in (found.descriptor.get("manifest") or {}).get("permissions") or [])
    if names:
        raise Invalid(f"{found.name} {found.version} declares permissions that do not exist: {', '.join(names)}",
                      hint=f"There are {', '.join(KINDS)}. Ask its author to correct it, or upgrade FuseML.")


def _wanted_by(chosen: Mapping[str, Candidate]) -> dict[str, list[str]]:
    wanted: dict[str, list[str]] = {}
    for candidate in chosen.values():
        for name, text in candidate.needs:
            wanted.setdefault(name, []).append(f"{candidate.name} {candidate.version} ({text})")
    return wanted


def _check_dependents(chosen: Mapping[str, Candidate], installed: Sequence[InstalledExtension]) -> None:
    """What is installed and stays must still find what it depends on, also what was missing before."""
    for extension in installed:
        if extension.name in chosen and chosen[extension.name].installed is None:
            continue
        for dependency in extension.dependencies:
            candidate = chosen.get(dependency["name"])
            if candidate is not None and candidate.version not in parse_range(dependency.get("range") or "*"):
                raise Conflict(f"{extension.name} {extension.version} is installed and needs {dependency['name']} "
                               f"{dependency['range']}, not {candidate.version}",
                               hint=f"Upgrade or uninstall {extension.name} first.")


def _ordered(chosen: Mapping[str, Candidate]) -> list[Candidate]:
    """Dependencies before what needs them."""
    return ordered(chosen, lambda candidate: [name for name, _ in candidate.needs])


def ordered(items: Mapping[str, Item], needs: Callable[[Item], Iterable[str]]) -> list[Item]:
    """Sort by dependency; needs that are not among the items are passed over.

    Raises:
        Refused: Some depend on each other.
    """
    order: dict[str, Item] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in order or name not in items:
            return
        if name in path:
            raise Refused(f"the extensions {', '.join(path)} depend on each other")
        for needed in needs(items[name]):
            visit(needed, (*path, name))
        order[name] = items[name]

    for name in items:
        visit(name, ())
    return list(order.values())
