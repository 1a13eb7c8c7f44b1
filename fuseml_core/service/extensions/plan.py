"""Deciding which bundles an installation needs, with reasons when there is no way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from resolvelib import AbstractProvider, BaseReporter, ResolutionImpossible, Resolver

from fuseml_core.domain.errors import Conflict, Invalid, Refused
from fuseml_core.domain.extensions import InstalledExtension
from fuseml_core.service.extensions.ports import Bundles, FoundBundle
from fuseml_sdk.versions import Range, Version, parse_range, parse_version


@dataclass(frozen=True, slots=True)
class Requirement:
    """An extension that must be there, and who wants it."""

    name: str
    range: Range
    wanted_by: str


class Candidate:
    """One version of an extension that could be chosen; it is looked up only when its dependencies are asked for."""

    def __init__(self, name: str, version: Version, look_up: Callable[[], FoundBundle] | None,
                 installed: InstalledExtension | None = None) -> None:
        self.name, self.version, self.installed = name, version, installed
        self._look_up = look_up

    @cached_property
    def found(self) -> FoundBundle | None:
        """The bundle in the registry; None for what is installed."""
        return self._look_up() if self._look_up is not None else None

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest of the bundle."""
        if self.installed is not None:
            return self.installed.manifest
        return dict(self.found.descriptor["manifest"]) if self.found is not None else {}


def plan(root: FoundBundle, installed: Sequence[InstalledExtension], bundles: Bundles,
         engine: str) -> list[FoundBundle]:
    """Choose the bundles to install, dependencies first.

    What is installed and fits is kept; otherwise the highest version of the root's registry and namespace is taken.

    Args:
        root: The bundle that was asked for.
        installed: The active extensions.
        bundles: Where dependencies are looked up.
        engine: Version of FuseML.

    Raises:
        Invalid: A bundle needs another version of FuseML.
        Conflict: Dependencies cannot be met together, or something installed conflicts; the message explains.
    """
    _check_engine(root.descriptor["manifest"], engine)
    provider = _Provider(root, {extension.name: extension for extension in installed}, bundles, engine)
    wanted = Requirement(root.name, parse_range("*"), "you")
    try:
        result = Resolver(provider, BaseReporter()).resolve([wanted], max_rounds=1000)
    except ResolutionImpossible as error:
        raise Conflict(f"{root.name} {root.version} cannot be installed: {_explain(error, provider)}",
                       hint="Push the missing version to the registry, or install an older or newer "
                            f"version of {root.name}.") from None
    chosen: Mapping[str, Candidate] = result.mapping
    _check_conflicts(chosen.values(), installed)
    _check_dependents(chosen, installed)
    return [candidate.found for candidate in _ordered(chosen) if candidate.found is not None]


class _Provider(AbstractProvider):  # type: ignore[type-arg]
    """How resolvelib sees extensions."""

    def __init__(self, root: FoundBundle, installed: Mapping[str, InstalledExtension], bundles: Bundles,
                 engine: str) -> None:
        self._root, self._installed, self._bundles = root, installed, bundles
        self._engine = parse_version(engine)
        self._candidates: dict[str, list[Candidate]] = {}
        self.refused: dict[str, str] = {}

    def identify(self, requirement_or_candidate: Requirement | Candidate) -> str:
        return requirement_or_candidate.name

    def get_preference(self, identifier: str, *_facts: Any, **_named: Any) -> str:
        return identifier

    def find_matches(self, identifier: str, requirements: Mapping[str, Iterator[Requirement]],
                     incompatibilities: Mapping[str, Iterator[Candidate]]) -> Iterable[Candidate]:
        wanted = list(requirements[identifier])
        barred = {id(candidate) for candidate in incompatibilities[identifier]}
        return [candidate for candidate in self.candidates(identifier)
                if id(candidate) not in barred and all(candidate.version in need.range for need in wanted)]

    def is_satisfied_by(self, requirement: Requirement, candidate: Candidate) -> bool:
        return candidate.version in requirement.range

    def get_dependencies(self, candidate: Candidate) -> list[Requirement]:
        manifest = candidate.manifest
        title = f"{candidate.name} {candidate.version}"
        return [Requirement(d["name"], parse_range(d.get("range") or "*"), title)
                for d in manifest.get("dependencies") or []]

    def candidates(self, name: str) -> list[Candidate]:
        """Everything that could be chosen for a name, best first."""
        if name not in self._candidates:
            self._candidates[name] = list(self._list(name))
        return self._candidates[name]

    def _list(self, name: str) -> Iterator[Candidate]:
        if name == self._root.name:
            yield Candidate(name, parse_version(self._root.version), lambda: self._root)
            return
        if name in self._installed:
            kept = self._installed[name]
            yield Candidate(name, parse_version(kept.version), None, kept)
        for text in self._bundles.versions(self._root.reference, name):
            candidate = Candidate(name, parse_version(text), self._finder(name, text))
            needed = str(candidate.manifest.get("requires_fuseml") or "*")
            if self._engine in parse_range(needed):
                yield candidate
            else:
                self.refused[name] = f"{name} {text} needs FuseML {needed}"

    def _finder(self, name: str, version: str) -> Callable[[], FoundBundle]:
        return lambda: self._bundles.find_version(self._root.reference, name, version)


def _check_engine(manifest: Mapping[str, Any], engine: str) -> None:
    needed = str(manifest.get("requires_fuseml") or "*")
    if parse_version(engine) not in parse_range(needed):
        raise Invalid(f"{manifest['name']} {manifest['version']} needs FuseML {needed}; this is {engine}",
                      hint="Install another version of the extension, or upgrade FuseML.")


def _explain(error: ResolutionImpossible[Requirement, Candidate], provider: _Provider) -> str:
    """One sentence for each requirement that could not be met."""
    sentences = []
    for cause in error.causes:
        need: Requirement = cause.requirement
        there = ", ".join(str(c.version) for c in provider.candidates(need.name)) or "no version"
        by = need.wanted_by if need.wanted_by != "you" else "the request"
        sentences.append(f"{by} needs {need.name} {need.range}, and there is {there}"
                         + (f" ({provider.refused[need.name]})" if need.name in provider.refused else ""))
    return "; ".join(dict.fromkeys(sentences))


def _check_conflicts(chosen: Iterable[Candidate], installed: Sequence[InstalledExtension]) -> None:
    present = {extension.name: (parse_version(extension.version), extension.conflicts) for extension in installed}
    present |= {candidate.name: (candidate.version, candidate.manifest.get("conflicts") or []) for candidate in chosen}
    for name, (version, conflicts) in present.items():
        for conflict in conflicts:
            other = present.get(conflict["name"])
            if other is not None and other[0] in parse_range(conflict.get("range") or "*"):
                raise Conflict(f"{name} {version} conflicts with {conflict['name']} {conflict.get('range') or '*'}, "
                               f"and {conflict['name']} {other[0]} is or would be installed",
                               hint=f"Uninstall one of them: fuseml extension uninstall {conflict['name']}")


def _check_dependents(chosen: Mapping[str, Candidate], installed: Sequence[InstalledExtension]) -> None:
    """What is installed and stays must still find what it depends on."""
    for extension in installed:
        if extension.name in chosen:
            continue
        for dependency in extension.dependencies:
            candidate = chosen.get(dependency["name"])
            if candidate is not None and candidate.version not in parse_range(dependency.get("range") or "*"):
                raise Conflict(f"{extension.name} {extension.version} is installed and needs {dependency['name']} "
                               f"{dependency['range']}, not {candidate.version}",
                               hint=f"Upgrade or uninstall {extension.name} first.")


def _ordered(chosen: Mapping[str, Candidate]) -> list[Candidate]:
    """Dependencies before what needs them."""
    order: dict[str, Candidate] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in order:
            return
        if name in path:
            raise Refused(f"the extensions {', '.join(path)} depend on each other")
        for dependency in chosen[name].manifest.get("dependencies") or []:
            visit(dependency["name"], (*path, name))
        order[name] = chosen[name]

    for name in chosen:
        visit(name, ())
    return list(order.values())
