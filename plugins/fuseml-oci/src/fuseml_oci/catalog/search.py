"""Searching packages: one small row each, kept in memory, ranked by where the words are found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import chain
from typing import Any

from fuseml_oci.catalog.format import CHANNELS, Package

#: Characters of a description that are searched.
_DESCRIPTION = 600


@dataclass(frozen=True, slots=True)
class Offer:
    """The version that a channel gives."""

    version: str
    requires_fuseml: str = "*"


@dataclass(frozen=True, slots=True)
class Row:
    """What a search knows of a package.

    Attributes:
        name, namespace, summary, licence, keywords, kinds: As the package has them.
        offers: Channel to its highest version that is not yanked.
        deprecated: Advice against the package; empty if there is none.
        text: What is searched, in lower case.
        digest: Of the package's document; a row is good as long as that is the same.
        default_channel: Of the package.
    """

    name: str
    namespace: str = ""
    summary: str = ""
    licence: str = ""
    keywords: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    offers: Mapping[str, Offer] = field(default_factory=dict)
    deprecated: str = ""
    text: str = ""
    digest: str = ""
    default_channel: str = "stable"

    def to_json(self) -> dict[str, Any]:
        """The row as the cache holds it."""
        return asdict(self)


def read_row(value: Mapping[str, Any]) -> Row:
    """The row of :meth:`Row.to_json`."""
    known = {entry.name for entry in fields(Row)}
    values: dict[str, Any] = {key: tuple(entry) if isinstance(entry, list) else entry
                              for key, entry in value.items() if key in known}
    values["offers"] = {channel: Offer(**offer) for channel, offer in (value.get("offers") or {}).items()}
    return Row(**values)


def row_of(package: Package, digest: str = "") -> Row:
    """Make the row of a package.

    Args:
        package: The package.
        digest: Of its document.
    """
    offers: dict[str, Offer] = {}
    for channel in CHANNELS:
        best = next((entry for entry in package.in_channel(channel) if entry.yanked is None), None)
        if best is not None:
            offers[channel] = Offer(best.version, best.requires_fuseml)
    advice = next((entry for entry in package.deprecations if entry.version is None and entry.channel is None), None)
    text = " ".join((package.name, package.summary, *package.keywords, package.namespace,
                     package.description[:_DESCRIPTION])).lower()
    return Row(package.name, package.namespace, package.summary, package.licence, package.keywords,
               tuple(package.kinds), offers, advice.message if advice else "", text, digest, package.default_channel)


@dataclass(frozen=True, slots=True)
class Hits:
    """What a search found.

    Attributes:
        rows: The best ones, best first.
        total: How many there are.
        facets: `channel`, `keyword`, `kind`, each value with its number of hits.
    """

    rows: Sequence[Row]
    total: int
    facets: Mapping[str, Mapping[str, int]]


class SearchIndex:
    """Rows of many packages.

    Args:
        rows: One for each package; of two with the same name the first counts.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        known: dict[str, Row] = {}
        for row in rows:
            known.setdefault(row.name, row)
        #: Those that are not advised against first, each part by name: the order of equally good hits.
        self.rows = dict(sorted(known.items(), key=lambda entry: (bool(entry[1].deprecated), entry[0])))
        self._texts = {name: (frozenset(" ".join(row.keywords).lower().split()), f"{name} {row.summary.lower()}")
                       for name, row in self.rows.items()}
        self._facets: Mapping[str, Mapping[str, int]] = _facets(list(self.rows.values()))

    def search(self, text: str = "", *, channel: str = "", keyword: str = "", kind: str = "",
               limit: int = 50) -> Hits:
        """Find packages that contain all words of a text.

        Args:
            text: Words, in any order; nothing finds everything.
            channel: Only packages with a version for subscribers of this channel.
            keyword: Only packages with this keyword.
            kind: Only packages that bring this kind of thing.
            limit: Rows to return at most.
        """
        words = text.lower().split()
        found = list(self.rows.values())
        for word in words:  # one list after the other is twice as fast as all words for each row
            found = [row for row in found if word in row.text]
        found = _filtered(found, channel, keyword.lower(), kind)
        facets = self._facets if len(found) == len(self.rows) else _facets(found)
        return Hits(self._best(found, words)[:limit] if words else found[:limit], len(found), facets)

    def _best(self, found: list[Row], words: list[str]) -> list[Row]:
        """The name itself first, then its beginning, a part of it, keywords, the summary, anything else."""
        whole, first, wanted = "-".join(words), words[0], frozenset(words)
        ranks: tuple[list[Row], ...] = ([], [], [], [], [], [])
        for row in found:
            name = row.name
            keywords, summary = self._texts[name]
            if first in name:
                rank = 0 if name == whole else 1 if name.startswith(first) else 2 if _all(words, name) else 5
            else:
                rank = 5
            if rank == 5 and wanted <= keywords:
                rank = 3
            if rank == 5 and _all(words, summary):
                rank = 4
            ranks[rank].append(row)
        return list(chain.from_iterable(ranks))


def _filtered(rows: list[Row], channel: str, keyword: str, kind: str) -> list[Row]:
    if channel:
        rows = [row for row in rows if channel in row.offers]
    if kind:
        rows = [row for row in rows if kind in row.kinds]
    if keyword:
        rows = [row for row in rows if keyword in (word.lower() for word in row.keywords)]
    return rows


def _all(words: list[str], text: str) -> bool:
    return words[0] in text if len(words) == 1 else all(word in text for word in words)


def _facets(rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    counts = {"channel": Counter(chain.from_iterable(row.offers for row in rows)),
              "keyword": Counter(chain.from_iterable(row.keywords for row in rows)),
              "kind": Counter(chain.from_iterable(row.kinds for row in rows))}
    return {name: dict(counter.most_common(20)) for name, counter in counts.items()}
