"""What the catalogs in the registry say about bundles: channels, deprecations, yanks, keywords."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from fuseml_oci import media
from fuseml_oci.catalog.format import Blob, Decision, Package
from fuseml_oci.catalog.reading import Catalog, open_catalog
from fuseml_registry.pages.holdings import Holdings
from fuseml_registry.pages.keys import KnownKey, known_keys, signers
from fuseml_registry.pages.source import StorageSource
from fuseml_sdk.errors import PluginError

log = logging.getLogger(__name__)

#: The tag under which a catalog's newest state is found.
LATEST = "latest"
#: Packages that are read of one catalog.
MAX_PACKAGES = 20_000
#: Seconds that one update may read a catalog; the next update goes on with the rest.
TIME_LIMIT = 1.0


#: Stands for the digest of a catalog that was not read to its end.
_UNFINISHED = "unfinished"


@dataclass(frozen=True, slots=True)
class Curated:
    """What a catalog says about one version, as far as lists show it."""

    channels: tuple[str, ...] = ()
    requires: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """A catalog's entry about a package, as far as it is kept in memory.

    Attributes:
        catalog: Name of the catalog.
        repository: Where in this registry the catalog lies.
        signed: Whether a known key signed it; an unsigned catalog may have been pushed by anybody.
        place: Repository of the package within its registry.
        versions: By digest of the bundle: what is said about another bundle under the same version does not count.
    """

    catalog: str
    repository: str
    signed: bool
    place: str
    document: Blob
    name: str
    keywords: tuple[str, ...]
    versions: dict[str, Curated]


@dataclass(frozen=True, slots=True)
class Listed:
    """A catalog's entry about a package with everything it says."""

    listing: Listing
    package: Package
    decisions: tuple[Decision, ...] = ()


@dataclass(frozen=True, slots=True)
class _Read:
    """One state of one catalog."""

    digest: str
    catalog: Catalog | None = None
    by_document: dict[str, Listing] = field(default_factory=dict)
    by_place: dict[str, Listing] = field(default_factory=dict)
    by_digest: dict[str, Listing] = field(default_factory=dict)


class Catalogs:
    """Reads the catalogs of the registry, each again only when its tag moved, and then only changed packages.

    Args:
        holdings: Of the registry.
        keys: Folder of public keys that this server knows; None for none.
    """

    def __init__(self, holdings: Holdings, keys: Path | None) -> None:
        self._holdings, self._keys = holdings, keys
        self._read: dict[str, _Read] = {}

    def update(self, repositories: Iterable[str]) -> bool:
        """Read what changed.

        Args:
            repositories: Those that have the tag `latest` and hold no bundle.

        Returns:
            Whether anything did.
        """
        found = {name: digest for name in repositories if (digest := self._catalog(name))}
        changed = {name for name, digest in found.items()
                   if name not in self._read or self._read[name].digest != digest}
        loaded = {name: self._load(name, found[name]) if name in changed else self._read[name] for name in found}
        gone = set(self._read) - set(found)
        self._read = loaded
        return bool(changed or gone)

    def listings(self, place: str, digests: Iterable[str] = ()) -> tuple[Listing, ...]:
        """The catalogs that list a repository, or in another place (a mirror's) a bundle in it; signed ones first.

        A catalog and its mirror in the same registry say the same, and are heard once.

        Args:
            place: The repository.
            digests: Of bundles in it.
        """
        wanted = tuple(digests)
        found = [listing for _, read in sorted(self._read.items())
                 if (listing := read.by_place.get(place) or next(
                     (read.by_digest[digest] for digest in wanted if digest in read.by_digest), None))]
        found.sort(key=lambda listing: not listing.signed)
        different = {(listing.catalog, listing.document.digest): listing for listing in reversed(found)}
        return tuple(listing for listing in found if different[listing.catalog, listing.document.digest] is listing)

    def listed(self, place: str, digests: Iterable[str] = ()) -> tuple[Listed, ...]:
        """The same with everything the catalogs say, read from the storage."""
        found = []
        for listing in self.listings(place, digests):
            read = self._read.get(listing.repository)
            if read is None or read.catalog is None:
                continue
            try:
                package = read.catalog.read_package(listing.name, listing.document)
                history = read.catalog.history(package)
                found.append(Listed(listing, package, history.decisions if history else ()))
            except PluginError as error:
                log.warning("the catalog in %s says nothing usable about %s: %s", listing.repository, place, error)
        return tuple(found)

    def _catalog(self, repository: str) -> str:
        """Digest of the catalog that a repository holds; empty if it holds none."""
        try:
            digest = self._holdings.tagged(repository, LATEST).digest
            if repository in self._read and self._read[repository].digest == digest:
                return digest
            data, media_type = self._holdings.manifest(repository, digest)
            found = media_type == media.INDEX and json.loads(data).get("artifactType") == media.CATALOG
        except (PluginError, ValueError, AttributeError, RecursionError):
            return ""
        return digest if found else ""

    def _load(self, repository: str, digest: str) -> _Read:
        source = StorageSource(self._holdings, repository)
        before = self._read.get(repository)
        known = before.by_document if before else {}
        try:
            catalog = open_catalog(source, digest)
            signed = bool(signers(source, digest, known_keys(self._keys)).good)
            read = _Read(digest, catalog)
            deadline, complete = time.monotonic() + TIME_LIMIT, True
            for name, blob in islice(catalog.entries(), MAX_PACKAGES):
                listing = known.get(blob.digest)
                if listing is None or listing.signed != signed:
                    if time.monotonic() > deadline:
                        complete = False
                        continue
                    listing = _listing(catalog, repository, signed, name, blob)
                read.by_document[blob.digest] = read.by_place[listing.place] = listing
                read.by_digest.update(dict.fromkeys(listing.versions, listing))
        except PluginError as error:
            log.warning("the catalog in %s cannot be used: %s", repository, error)
            return _Read(digest)
        return read if complete else replace(read, digest=_UNFINISHED)


def endorsed(listed: Iterable[Listed]) -> list[KnownKey]:
    """Keys that signed catalogs name for a package."""
    return [KnownKey(key.pem, f"{key.name or 'a key'} (catalog {entry.listing.catalog})")
            for entry in listed if entry.listing.signed and entry.package.signers
            for key in entry.package.signers.keys]


def curated(digest: str, listings: Iterable[Listing]) -> Curated:
    """Sum up what catalogs say about a bundle; where they differ, the first wins."""
    channels: list[str] = []
    requires = advice = ""
    for listing in listings:
        found = listing.versions.get(digest)
        if found is not None:
            channels += found.channels
            requires, advice = requires or found.requires, advice or found.advice
    return Curated(tuple(dict.fromkeys(channels)), requires, advice)


def _listing(catalog: Catalog, repository: str, signed: bool, name: str, blob: Blob) -> Listing:
    package = catalog.read_package(name, blob)
    versions = {}
    inside = {channel: {entry.version for entry in entries} for channel, entries in package.channels.items()}
    for entry in package.versions:
        channels = tuple(channel for channel, members in inside.items() if entry.version in members)
        against = "yanked" if entry.yanked else "deprecated" if any(
            not advice.channel for advice in package.advice(entry.version)) else ""
        requires = entry.requires_fuseml if "requires_fuseml" in entry.patched else ""
        versions[entry.digest] = Curated(channels, requires, against)
    place = package.repository.removeprefix("oci://").partition("/")[2]
    return Listing(catalog.root.name, repository, signed, place, blob, name, package.keywords, versions)
