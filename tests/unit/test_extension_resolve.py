"""The resolver of extensions against trying everything, on small random catalogs."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuseml_core.domain.errors import Conflict
from fuseml_core.domain.extensions import ExtensionState, InstalledExtension
from fuseml_core.service.extensions.ports import Available, FoundBundle, Wish
from fuseml_core.service.extensions.resolve import Goal, resolve
from fuseml_sdk.versions import parse_range, parse_version

NAMES = ("a", "b", "c", "d")
VERSIONS = ("3.0.0", "2.0.0", "1.0.0")
RANGES = ("*", ">=2", "<3", "==2.0.0", "<2")
Needs = dict[tuple[str, str], dict[str, str]]


class Catalog:
    """What each version of each extension needs."""

    def __init__(self, needs: Needs, yanked: frozenset[tuple[str, str]] = frozenset()) -> None:
        self.needs, self.yanked, self.looked_up = needs, yanked, 0

    def versions(self, _sibling, name, _wish):
        return [Available(v, yanked="bad" if (name, v) in self.yanked else "") for v in VERSIONS if (name, v) in self.needs]

    def find_version(self, _sibling, name, version, _wish):
        self.looked_up += 1
        return FoundBundle(f"oci://x/{name}:{version}", f"sha256:{name}{version}", {"manifest": manifest(self.needs, name, version)})


def manifest(needs: Needs, name: str, version: str) -> dict:
    return {"name": name, "version": version,
            "dependencies": [{"name": n, "range": r} for n, r in needs[name, version].items()]}


def installed(needs: Needs, name: str, version: str) -> InstalledExtension:
    return InstalledExtension(name, version, f"sha256:{name}{version}", f"oci://x/{name}:{version}",
                              {"manifest": manifest(needs, name, version)}, "/s", ExtensionState.ACTIVE, 0.0)


@st.composite
def worlds(draw):
    needs = {(n, v): draw(st.dictionaries(st.sampled_from(NAMES[NAMES.index(n) + 1:]), st.sampled_from(RANGES), max_size=2))
             if n != NAMES[-1] else {} for n in NAMES for v in VERSIONS}
    here = draw(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VERSIONS), max_size=3))
    goals = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=2, unique=True))
    exact = {goal: draw(st.sampled_from(VERSIONS)) for goal in goals if draw(st.booleans())}
    return needs, here, goals, exact


def needs_of(choice, needs, here, goals, name):
    """What counts: what is installed and stays does not bring back what was taken away from it."""
    wanted = needs[name, choice[name]]
    if here.get(name) == choice[name]:
        wanted = {n: r for n, r in wanted.items() if n in here or n in goals}
    return wanted


def is_solution(choice, needs, here, goals, exact) -> bool:
    wanted = {n: needs_of(choice, needs, here, goals, n) for n in choice}
    if any(goal not in choice for goal in goals) or any(choice[g] != v for g, v in exact.items()):
        return False
    if any(n not in goals and n not in here and not any(n in other for other in wanted.values()) for n in choice):
        return False  # nothing comes along without a reason
    for name in here:
        if name not in choice:
            return False
        is_wanted = any(name in other for other in wanted.values())
        if name not in goals and not is_wanted and choice[name] != here[name]:
            return False
    return all(n in choice and parse_version(choice[n]) in parse_range(r) for other in wanted.values() for n, r in other.items())


def moves_what_stands_in_the_way(choice, needs, here, goals) -> bool:
    """Whether an extension changes that nobody asks to change and whose needs of now limit the choice.

    The resolver tells people to upgrade it first; it does not look for another extension to go back to an older
    version only because that one gives a reason for the change.
    """
    return any(choice[n] != here[n] and needs_of(here, needs, here, goals, n) for n in here if n not in goals)


@settings(max_examples=300, deadline=None)
@given(worlds())
def test_r172_a_choice_is_found_exactly_when_there_is_one(world):
    needs, here, goals, exact = world
    catalog = Catalog(needs)
    asked = [Goal(g, catalog.find_version("", g, exact[g], None) if g in exact else None, "oci://x/y:1.0.0") for g in goals]
    solutions = [choice for versions in itertools.product([None, *VERSIONS], repeat=len(NAMES))
                 if is_solution(choice := {n: v for n, v in zip(NAMES, versions, strict=True) if v}, needs, here, goals, exact)]
    records = [installed(needs, name, version) for name, version in here.items()]
    try:
        chosen = resolve(asked, records, catalog, "0.1.0", Wish())
    except Conflict as refused:
        assert [s for s in solutions if not moves_what_stands_in_the_way(s, needs, here, goals)] == [], refused.message
        assert "needs" in refused.message
        return
    choice = {name: str(candidate.version) for name, candidate in chosen.items()}
    assert is_solution(choice, needs, here, goals, exact)
    assert {n for n, c in chosen.items() if c.installed} == {n for n, v in choice.items() if here.get(n) == v}


def test_only_what_is_chosen_is_looked_up():
    """A registry is asked about each version that is tried, so nothing is tried without need."""
    needs: Needs = {(n, v): {} for n in NAMES for v in VERSIONS}
    needs["a", "3.0.0"] = {"b": "<3", "c": "*"}
    catalog = Catalog(needs)
    found = catalog.find_version("", "a", "3.0.0", None)
    chosen = resolve([Goal("a", found, found.reference)], [], catalog, "0.1.0", Wish())
    assert {n: str(c.version) for n, c in chosen.items()} == {"a": "3.0.0", "b": "2.0.0", "c": "3.0.0"}
    assert catalog.looked_up <= 3


def test_yanked_versions_are_passed_over_and_what_is_installed_stays():
    needs: Needs = {(n, v): {} for n in NAMES for v in VERSIONS}
    needs["a", "1.0.0"] = {"b": "*"}
    catalog = Catalog(needs, frozenset({("b", "3.0.0")}))
    found = catalog.find_version("", "a", "1.0.0", None)
    assert str(resolve([Goal("a", found, "")], [], catalog, "0.1.0", Wish())["b"].version) == "2.0.0"
    kept = resolve([Goal("b", None, "")], [installed(needs, "b", "3.0.0")], catalog, "0.1.0", Wish())
    assert kept["b"].installed is not None, "an upgrade does not go back from a yanked version by itself"


def test_a_version_that_needs_another_fuseml_is_passed_over_or_named():
    class Picky(Catalog):
        def versions(self, _sibling, name, _wish):
            return [Available("2.0.0", requires_fuseml=">=7", dependencies=()), Available("1.0.0", dependencies=())]

    needs: Needs = {("a", "1.0.0"): {"b": "*"}, ("b", "1.0.0"): {}, ("b", "2.0.0"): {}}
    catalog = Picky(needs)
    found = catalog.find_version("", "a", "1.0.0", None)
    assert str(resolve([Goal("a", found, "")], [], catalog, "0.1.0", Wish())["b"].version) == "1.0.0"
    needs["a", "1.0.0"] = {"b": ">=2"}
    found = catalog.find_version("", "a", "1.0.0", None)
    with pytest.raises(Conflict, match=r"a 1\.0\.0 needs b >=2, and there is 2\.0\.0, 1\.0\.0 \(b 2\.0\.0 needs FuseML >=7\)"):
        resolve([Goal("a", found, "")], [], catalog, "0.1.0", Wish())


def test_what_was_changed_for_a_version_that_is_not_taken_after_all_stays():
    needs: Needs = {(n, v): {} for n in NAMES for v in VERSIONS}
    needs["a", "2.0.0"], needs["b", "3.0.0"] = {"b": "<3"}, {"c": "*", "d": "<3"}
    here = [installed(needs, "d", "3.0.0"), installed(needs, "a", "2.0.0")]
    chosen = resolve([Goal("b", None, "oci://x/b:1.0.0")], here, Catalog(needs), "0.1.0", Wish())
    assert {n: str(c.version) for n, c in chosen.items()} == {"a": "2.0.0", "b": "2.0.0", "d": "3.0.0"}
