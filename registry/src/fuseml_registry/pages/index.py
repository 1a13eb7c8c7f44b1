"""The search index: an unchanging picture of all packages, with a set of bits for every value of every facet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from fuseml_registry.pages.entries import Entry

#: Facets in the order shown: how to get the values of an entry.
FACETS: dict[str, Callable[[Entry], Iterable[str]]] = {
    "fits": lambda entry: ("yes",) if entry.fits else (),
    "kind": lambda entry: entry.kinds,
    "channel": lambda entry: entry.channels,
    "namespace": lambda entry: (entry.namespace,),
    "licence": lambda entry: (entry.licence,) if entry.licence else (),
    "keyword": lambda entry: entry.keywords,
}
#: Sort orders by name: key of an entry, and whether the highest comes first.
SORTS: dict[str, tuple[Callable[[Entry], Any], bool]] = {
    "name": (lambda entry: (entry.name, entry.repository), False),
    "newest": (lambda entry: entry.pushed, True),
    "size": (lambda entry: entry.size, False),
}


@dataclass(frozen=True, slots=True)
class Index:
    """All packages at one moment.

    Attributes:
        entries: In the order of their names; a set of them is an integer with bit `i` for `entries[i]`.
        facets: Facet to value to the set of entries that have it.
        orders: Sort order to positions.
        everything: The set of all entries.
    """

    entries: tuple[Entry, ...] = ()
    facets: dict[str, dict[str, int]] = field(default_factory=dict)
    orders: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def everything(self) -> int:
        """The set of all entries."""
        return (1 << len(self.entries)) - 1


def build_index(entries: Iterable[Entry]) -> Index:
    """Make the index of some packages."""
    ordered = tuple(sorted(entries, key=SORTS["name"][0]))
    members: dict[str, dict[str, list[int]]] = {facet: defaultdict(list) for facet in FACETS}
    for position, entry in enumerate(ordered):
        for facet, values in FACETS.items():
            for value in values(entry):
                members[facet][value].append(position)
    facets = {facet: {value: bits(positions) for value, positions in values.items()}
              for facet, values in members.items()}
    return Index(ordered, facets, {name: _order(ordered, name) for name in SORTS})


def _order(entries: tuple[Entry, ...], name: str) -> tuple[int, ...]:
    key, reverse = SORTS[name]
    return tuple(sorted(range(len(entries)), key=lambda position: key(entries[position]), reverse=reverse))


def bits(positions: Iterable[int]) -> int:
    """The set of some positions; linear, unlike setting bits of an integer one by one."""
    positions = list(positions)
    if not positions:
        return 0
    buffer = bytearray((max(positions) >> 3) + 1)
    for position in positions:
        buffer[position >> 3] |= 1 << (position & 7)
    return int.from_bytes(buffer, "little")
