"""Search: words, facets, order and page in; packages and counts out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

from fuseml_registry.pages.entries import Entry
from fuseml_registry.pages.index import FACETS, SORTS, Index, bits

PAGE = 20
#: Words and characters of a query, values of a facet, and pages that are looked at.
MAX_WORDS, MAX_QUERY, MAX_CHOSEN, MAX_PAGE = 8, 200, 50, 5000
#: Values of a facet that are shown; chosen ones always are.
SHOWN_VALUES = 12


@dataclass(frozen=True, slots=True)
class Query:
    """What somebody looks for."""

    words: str = ""
    chosen: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sort: str = ""
    page: int = 1

    def url(self, *, page: int = 1, without: tuple[str, str] | None = None) -> str:
        """The query string that asks for this on another page, or without one value of a facet."""
        pairs = [("q", self.words)] if self.words else []
        pairs += [(facet, value) for facet in FACETS for value in self.chosen.get(facet, ())
                  if (facet, value) != without]
        if self.sort:
            pairs.append(("sort", self.sort))
        if page > 1:
            pairs.append(("page", str(page)))
        return f"?{urlencode(pairs)}" if pairs else "?"


@dataclass(frozen=True, slots=True)
class FacetValue:
    """A value of a facet: how many of the packages found have it, and whether it is chosen."""

    value: str
    count: int
    chosen: bool


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to a query: one page of packages, of how many, and the facets."""

    query: Query
    total: int
    pages: int
    entries: tuple[Entry, ...]
    facets: dict[str, tuple[FacetValue, ...]]
    suggestions: tuple[str, ...] = ()


def read_query(pairs: Iterable[tuple[str, str]]) -> Query:
    """Read the parameters of a URL; what makes no sense is passed over."""
    words, sort, page = "", "", 1
    chosen: dict[str, list[str]] = {}
    for key, value in pairs:
        if key == "q":
            words = " ".join(value[:MAX_QUERY].split())
        elif key in FACETS and value and len(chosen.setdefault(key, [])) < MAX_CHOSEN:
            chosen[key] += [value[:MAX_QUERY]] if value[:MAX_QUERY] not in chosen[key] else []
        elif key == "sort" and value in SORTS:
            sort = value
        elif key == "page" and value.isascii() and value.isdigit():
            page = min(max(int(value[:9]), 1), MAX_PAGE)
    return Query(words, {facet: tuple(values) for facet, values in chosen.items() if values}, sort, page)


def search(index: Index, query: Query, visible: int | None = None) -> Found:
    """Find packages. All words must occur; values of one facet widen, different facets narrow the result.

    Args:
        index: All packages.
        query: What is looked for.
        visible: The set of entries that may be found; by default all.
    """
    words = tuple(dict.fromkeys(query.words.lower().split()))[:MAX_WORDS]
    matching = _matching(index, words) & (index.everything if visible is None else visible)
    chosen = {facet: _chosen(index, facet, query) for facet in FACETS}
    hits = matching
    for members in chosen.values():
        hits &= members
    total = hits.bit_count()
    pages = max(1, -(-total // PAGE))
    page = min(query.page, pages)
    start = (page - 1) * PAGE
    positions = _in_order(index, hits, query, words, start + PAGE)[start:]
    suggestions = () if total or not words else _similar(index, query.words.lower(), visible)
    asked = Query(query.words, query.chosen, query.sort, page)
    return Found(asked, total, pages, tuple(index.entries[i] for i in positions),
                 {facet: _values(index, facet, query, matching, chosen) for facet in FACETS}, suggestions)


def _matching(index: Index, words: tuple[str, ...]) -> int:
    if not words:
        return index.everything
    first, *others = words
    return bits(position for position, entry in enumerate(index.entries)
                if first in entry.text and all(word in entry.text for word in others))


def _chosen(index: Index, facet: str, query: Query) -> int:
    values = query.chosen.get(facet)
    if not values:
        return index.everything
    members = 0
    for value in values:
        members |= index.facets.get(facet, {}).get(value, 0)
    return members


def _in_order(index: Index, hits: int, query: Query, words: tuple[str, ...], count: int) -> list[int]:
    order = index.orders.get(query.sort or ("" if words else "name"))
    if order is not None:
        found: list[int] = []
        for position in order:
            if hits >> position & 1:
                found.append(position)
                if len(found) == count:
                    break
        return found
    ranked = sorted((_rank(index.entries[position], words), position) for position in _positions(hits))
    return [position for _, position in ranked[:count]]


def _positions(hits: int) -> Iterator[int]:
    data = hits.to_bytes((hits.bit_length() + 7) // 8, "little")
    for number, byte in enumerate(data):
        rest = byte
        while rest:
            low = rest & -rest
            yield (number << 3) + low.bit_length() - 1
            rest ^= low


def _rank(entry: Entry, words: tuple[str, ...]) -> int:
    """How good a match is, the best first: the name, its beginning, in it, in the summary, elsewhere."""
    name, total = entry.name, 0
    head = entry.text[len(name):len(name) + len(entry.summary) + 1]
    for word in words:
        if word == name:
            continue
        total += 1 if name.startswith(word) else 2 if word in name else 4 if word in head else 6
    return total * 2 + (1 if entry.advice else 0)


def _values(index: Index, facet: str, query: Query, matching: int, chosen: Mapping[str, int]) -> tuple[FacetValue, ...]:
    """Counts as they would be if nothing were chosen in this facet, so that every value says what it would add."""
    others = matching
    for name, members in chosen.items():
        if name != facet:
            others &= members
    wanted = query.chosen.get(facet, ())
    counted = [FacetValue(value, (members & others).bit_count(), value in wanted)
               for value, members in index.facets.get(facet, {}).items()]
    counted.sort(key=lambda value: (-value.count, value.value))
    return tuple(value for number, value in enumerate(counted)
                 if value.chosen or (value.count and number < SHOWN_VALUES))


def _similar(index: Index, words: str, visible: int | None) -> tuple[str, ...]:
    """Names that look like what was typed; names of very different length are not compared."""
    names = {entry.name for position, entry in enumerate(index.entries)
             if abs(len(entry.name) - len(words)) <= 3 and (visible is None or visible >> position & 1)}
    return tuple(difflib.get_close_matches(words, sorted(names)[:1000], n=3, cutoff=0.6))
