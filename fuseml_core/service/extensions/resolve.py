"""Deciding which versions of which extensions fit together, with reasons when none do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from resolvelib import AbstractProvider, BaseReporter, ResolutionImpossible, Resolver
from resolvelib.resolvers import ResolutionTooDeep

from fuseml_core.domain.errors import Conflict, Invalid
from fuseml_core.domain.extensions import InstalledExtension
from fuseml_core.service.extensions.explain import YOU, Requirement, impossible
from fuseml_core.service.extensions.ports import Available, Bundles, FoundBundle, Wish
from fuseml_sdk.versions import Range, Version, parse_range, parse_version

#: Who wants that what is installed stays there.
_STAYS = "what is installed"
_ROUNDS = 20_000


@dataclass(frozen=True, slots=True)
class Goal:
    """An extension that somebody asks for.

    Attributes:
        name: Of the extension.
        found: The one bundle that is meant; None: the best version that fits.
        sibling: Reference of a bundle beside which versions are looked for.
    """

    name: str
    found: FoundBundle | None
    sibling: str


class Candidate:
    """One version that could be chosen; it is looked up only when the source does not tell what it needs."""

    def __init__(self, name: str, version: Version, look_up: Callable[[], FoundBundle] | None,
                 installed: InstalledExtension | None = None, known: Available | None = None) -> None:
        self.name, self.version, self.installed, self._known = name, version, installed, known
        self._look_up = look_up
        self._fits: dict[str, bool] = {}

    def fits(self, wanted: Range) -> bool:
        """Whether the version lies in a range; the resolver asks the same thousands of times."""
        known = self._fits.get(wanted.text)
        if known is None:
            known = self._fits[wanted.text] = self.version in wanted
        return known

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

    @property
    def needs(self) -> Sequence[tuple[str, str]]:
        """Names and ranges of what it depends on."""
        if self._known is not None and self._known.dependencies is not None:
            return self._known.dependencies
        return [(d["name"], d.get("range") or "*") for d in self.manifest.get("dependencies") or []]

    @property
    def requires_fuseml(self) -> str:
        """Range of engine versions."""
        if self._known is not None and self._known.requires_fuseml:
            return self._known.requires_fuseml
        return str(self.manifest.get("requires_fuseml") or "*")

    @property
    def digest(self) -> str:
        """Of the bundle; looks it up."""
        if self.installed is not None:
            return self.installed.digest
        return self.found.digest if self.found is not None else ""


def resolve(goals: Sequence[Goal], installed: Sequence[InstalledExtension], bundles: Bundles, engine: str,
            wish: Wish) -> Mapping[str, Candidate]:
    """Choose a version of everything that will be there: goals, what they depend on, and what is installed.

    What is installed and fits is kept unless it is a goal. What is installed and nobody asks to change limits the
    versions of what it depends on; no goal goes back to an older version only to give a reason for changing it.

    Args:
        goals: What is asked for.
        installed: The active extensions.
        bundles: Where versions are looked up.
        engine: Version of FuseML.
        wish: Which versions may be chosen.

    Raises:
        Invalid: A goal needs another version of FuseML.
        Conflict: No choice meets all needs; the message says who wants what.
    """
    for goal in goals:
        if goal.found is not None:
            _check_engine(goal.found.descriptor["manifest"], engine)
    stays: frozenset[str] = frozenset()
    while True:
        chosen = _attempt(goals, installed, bundles, engine, wish, stays)
        moved = _changed_for_nothing(chosen, goals, installed)
        if not moved:
            return chosen
        stays |= moved  # each round fixes at least one more, so this ends


def _attempt(goals: Sequence[Goal], installed: Sequence[InstalledExtension], bundles: Bundles, engine: str, wish: Wish,
             stays: frozenset[str]) -> Mapping[str, Candidate]:
    provider = _Provider(goals, installed, bundles, engine, wish, stays)
    wanted = [Requirement(goal.name, _range("*"), YOU) for goal in goals]
    asked = {goal.name for goal in goals}
    wanted += [Requirement(extension.name, _range("*"), _STAYS) for extension in installed
               if extension.name not in asked]
    title = ", ".join(goal.name + (f" {goal.found.version}" if goal.found else "") for goal in goals)
    try:
        result = Resolver(provider, BaseReporter()).resolve(wanted, max_rounds=_ROUNDS)
    except ResolutionImpossible as error:
        raise impossible(title, error, provider.offer, provider.refused) from None
    except ResolutionTooDeep:
        raise Conflict(f"{title}: no set of versions that fit together was found after {_ROUNDS} attempts",
                       hint="Name the versions of some extensions, such as NAME:1.2.0.") from None
    return dict(result.mapping)


def _changed_for_nothing(chosen: Mapping[str, Candidate], goals: Sequence[Goal],
                         installed: Sequence[InstalledExtension]) -> frozenset[str]:
    """Installed extensions that would change although nobody asks for them or depends on them.

    resolvelib keeps a version that it chose for a dependant which it then chose otherwise.
    """
    needed = {name for candidate in chosen.values() for name, _ in candidate.needs}
    asked = {goal.name for goal in goals}
    return frozenset(extension.name for extension in installed
                     if extension.name not in asked and extension.name not in needed
                     and chosen[extension.name].installed is None)


class _Provider(AbstractProvider):  # type: ignore[type-arg]
    """How resolvelib sees extensions."""

    def __init__(self, goals: Sequence[Goal], installed: Sequence[InstalledExtension], bundles: Bundles, engine: str,
                 wish: Wish, stays: frozenset[str]) -> None:
        self._stays = stays
        self._goals = {goal.name: goal for goal in goals}
        self._installed = {extension.name: extension for extension in installed}
        self._bundles, self._engine, self._wish = bundles, parse_version(engine), wish
        self._candidates: dict[str, list[Candidate]] = {}
        self._siblings = {goal.name: goal.sibling for goal in goals}
        self._fits: dict[str, bool] = {}
        self.refused: dict[str, str] = {}

    def identify(self, requirement_or_candidate: Requirement | Candidate) -> str:
        return requirement_or_candidate.name

    def get_preference(self, identifier: str, resolutions: Mapping[str, Candidate],  # noqa: ARG002
                       candidates: Mapping[str, Iterator[Candidate]],  # noqa: ARG002
                       information: Mapping[str, Iterator[Any]],  # noqa: ARG002
                       backtrack_causes: Sequence[Any]) -> Any:
        """Decide first what has led into a dead end, then what leaves no choice, then goals, then by name."""
        blamed = any(identifier in (cause.requirement.name, cause.parent.name if cause.parent else "")
                     for cause in backtrack_causes)
        return (not blamed, identifier in self._installed and identifier not in self._goals,
                identifier not in self._goals, identifier)

    def find_matches(self, identifier: str, requirements: Mapping[str, Iterator[Requirement]],
                     incompatibilities: Mapping[str, Iterator[Candidate]]) -> Iterable[Candidate]:
        wanted = list(requirements[identifier])
        barred = {id(candidate) for candidate in incompatibilities[identifier]}
        stays = identifier in self._installed and all(need.wanted_by == _STAYS for need in wanted)
        for need in wanted:
            if need.sibling:
                self._siblings.setdefault(identifier, need.sibling)
        offered = [c for c in self.candidates(identifier) if c.installed] if stays else self.candidates(identifier)
        fitting = [c for c in offered if id(c) not in barred and all(c.fits(need.range) for need in wanted)]
        # Looking at what a version needs of FuseML may ask a registry: only when its turn comes.
        return lambda: (c for c in fitting if self._runs_here(c))  # type: ignore[return-value]

    def is_satisfied_by(self, requirement: Requirement, candidate: Candidate) -> bool:
        return candidate.fits(requirement.range)

    def get_dependencies(self, candidate: Candidate) -> list[Requirement]:
        title = f"{candidate.name} {candidate.version}" + (" (installed)" if candidate.installed else "")
        if candidate.installed is None:
            sibling = self._siblings.get(candidate.name, "")
            return [Requirement(name, _range(text), title, sibling) for name, text in candidate.needs]
        # What was taken away from it by force is not brought back on the occasion of another change.
        return [Requirement(name, _range(text), title, candidate.installed.reference) for name, text in candidate.needs
                if name in self._installed or name in self._goals]

    def candidates(self, name: str) -> list[Candidate]:
        """Everything that could be chosen for a name, best first."""
        if name not in self._candidates:
            self._candidates[name] = list(self._list(name))
        return self._candidates[name]

    def offer(self, name: str) -> list[Version]:
        """The versions that there are of a name, for explanations."""
        return [candidate.version for candidate in self.candidates(name)]

    def _list(self, name: str) -> Iterator[Candidate]:
        goal, kept = self._goals.get(name), self._installed.get(name)
        if goal is not None and goal.found is not None:
            found = goal.found
            if kept is not None and kept.digest == found.digest:
                yield Candidate(name, parse_version(kept.version), None, kept)
            else:
                yield Candidate(name, parse_version(found.version), lambda: found)
            return
        if kept is not None and goal is None:
            yield Candidate(name, parse_version(kept.version), None, kept)
            if name in self._stays:
                return
        yield from self._offered(name, kept, best=goal is not None)

    def _offered(self, name: str, kept: InstalledExtension | None, best: bool) -> Iterator[Candidate]:
        """Versions at the source; with `best`, what is installed stands at its place among them."""
        sibling = self._siblings.get(name) or (kept.reference if kept is not None else "")
        known = [a for a in self._bundles.versions(sibling, name, self._wish) if not a.yanked]
        mine = parse_version(kept.version) if kept is not None and best else None
        for available in known:
            version = parse_version(available.version)
            if mine is not None and kept is not None and not version.is_development and version <= mine:
                yield Candidate(name, mine, None, kept)
                mine = None
                if version == parse_version(kept.version):
                    continue
            yield Candidate(name, version, self._finder(sibling, name, available.version), known=available)
        if mine is not None:
            yield Candidate(name, mine, None, kept)

    def _finder(self, sibling: str, name: str, version: str) -> Callable[[], FoundBundle]:
        return lambda: self._bundles.find_version(sibling, name, version, self._wish)

    def _runs_here(self, candidate: Candidate) -> bool:
        if candidate.installed is not None:
            return True
        needed = candidate.requires_fuseml
        if needed not in self._fits:
            self._fits[needed] = self._engine in _range(needed)
        if not self._fits[needed]:
            self.refused.setdefault(candidate.name, f"{candidate.name} {candidate.version} needs FuseML {needed}")
        return self._fits[needed]


def _check_engine(manifest: Mapping[str, Any], engine: str) -> None:
    needed = str(manifest.get("requires_fuseml") or "*")
    if parse_version(engine) not in _range(needed):
        raise Invalid(f"{manifest['name']} {manifest['version']} needs FuseML {needed}; this is {engine}",
                      hint="Install another version of the extension, or upgrade FuseML.")


@lru_cache(maxsize=4096)
def _range(text: str) -> Range:
    return parse_range(text)
