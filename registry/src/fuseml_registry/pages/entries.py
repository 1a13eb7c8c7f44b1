"""What is kept in memory of each package: enough to find it and to show it in a list."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fuseml_registry.pages.catalogs import Listing, curated
from fuseml_registry.pages.fit import fit_of
from fuseml_registry.pages.holdings import Bundle, Version
from fuseml_registry.pages.text import shortened, visible

#: What a package may contain, in the order shown, with its name for people.
KINDS = {"template": "Pipeline templates", "runnable": "Runnables", "store": "Artifact stores",
         "agent": "Workload agents", "builder": "Builders"}
#: Keywords of one package, names of its contents, and characters of its description that are searched.
_MAX_KEYWORDS, _MAX_NAMES, _MAX_DESCRIPTION = 20, 200, 2000


@dataclass(frozen=True, slots=True)
class Entry:
    """A package: the version of it that is shown, and what catalogs say.

    Attributes:
        pushed: Seconds since the epoch.
        kinds: Among KINDS.
        channels: Channels that hold the version shown.
        fits: Whether it fits this server; None when nobody knows.
        advice: `yanked`, `deprecated` or empty.
        text: Everything searched, in lower case: name, summary, contents and description, keywords; one per line.
    """

    repository: str
    name: str
    version: str
    digest: str
    summary: str
    licence: str
    namespace: str
    kinds: tuple[str, ...]
    keywords: tuple[str, ...]
    channels: tuple[str, ...]
    requires: str
    fits: bool | None
    pushed: float
    size: int
    icon: bool
    advice: str
    text: str


def make_entry(bundle: Bundle, version: Version, engine: str) -> Entry:
    """Sum up a bundle.

    Args:
        bundle: The version that is shown.
        version: Its tag.
        engine: Version of this server, empty if there is none.
    """
    manifest = bundle.descriptor.manifest
    contents = [("template", [t.name for t in bundle.descriptor.templates]),
                ("runnable", [r.name for r in bundle.descriptor.runnables]),
                *((component.family, [component.name]) for component in manifest.components)]
    names = [name for _, group in contents for name in group][:_MAX_NAMES]
    text = "\n".join([manifest.name, _line(manifest.summary), " ".join(names),
                      shortened(manifest.description, _MAX_DESCRIPTION)]).lower()
    return Entry(
        repository=bundle.repository, name=manifest.name, version=version.version, digest=bundle.digest,
        summary=_line(manifest.summary), licence=_line(manifest.licence), namespace=namespace_of(bundle.repository),
        kinds=tuple(kind for kind in KINDS if any(family == kind and group for family, group in contents)),
        keywords=_keywords(getattr(manifest, "keywords", ())), channels=(), requires=_line(manifest.requires_fuseml),
        fits=fit_of(manifest.requires_fuseml, engine).fits, pushed=version.pushed, size=bundle.size,
        icon=bundle.layer("icon") is not None, advice="", text=visible(text))


def with_catalogs(entry: Entry, listings: tuple[Listing, ...], engine: str) -> Entry:
    """Add what catalogs say about a package."""
    told = curated(entry.digest, listings)
    keywords = _keywords([*entry.keywords, *(word for listing in listings for word in listing.keywords)])
    requires = told.requires or entry.requires
    return replace(entry, channels=told.channels, advice=told.advice, keywords=keywords, requires=requires,
                   fits=fit_of(requires, engine).fits, text="\n".join([entry.text, *keywords]))


def namespace_of(repository: str) -> str:
    """The part of a repository's name before the last slash."""
    return repository.rpartition("/")[0] or "(none)"


def _keywords(words: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_line(word).lower() for word in words))[:_MAX_KEYWORDS]


def _line(text: str) -> str:
    return shortened(visible(" ".join(text.split())), 200)
