"""Following a catalog: fetch what changed, believe only what a pinned key signed, never go back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

from fuseml_oci import media
from fuseml_oci.catalog.format import (
    MAX_PACKAGES,
    Blob,
    Namespaces,
    Node,
    Package,
    Root,
    decode,
    parse_moment,
)
from fuseml_oci.catalog.publish import LATEST, WORKERS, Progress
from fuseml_oci.catalog.reading import Catalog, check_package, root_descriptor, verified
from fuseml_oci.catalog.search import Row, row_of
from fuseml_oci.catalog.store import CatalogStore, Held
from fuseml_oci.catalog.tree import check_place
from fuseml_oci.descriptor import Descriptor
from fuseml_oci.digests import digest_bytes
from fuseml_oci.reference import Reference
from fuseml_oci.sources import ManifestSource
from fuseml_sdk.errors import InvalidInput, NotFound, Permanent, Retryable, Unsupported

#: Bytes of documents that one update may fetch.
MAX_TOTAL = 1 << 30


@dataclass(frozen=True, slots=True)
class Update:
    """What an update did.

    Attributes:
        held: The catalog that is current now.
        changed: Names of the packages that are new or changed.
        removed: Names of the packages that are gone.
        fetched: Documents that were fetched.
        size: Their bytes.
    """

    held: Held
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    fetched: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class Subscriber:
    """Keeps the copy of one catalog up to date.

    Attributes:
        reference: The repository; with a digest exactly this catalog is taken.
        source: To read from.
        store: The local copy.
        signers: Given the digest of a catalog, returns the fingerprints of the pinned keys that signed it.
        relocation: Given the digest of a catalog, returns where a mirror keeps its repositories.
        timeout: Seconds that an update may take.
        progress: Told what is being fetched.
        now: The time.
    """

    reference: Reference
    source: ManifestSource
    store: CatalogStore
    signers: Callable[[str], Sequence[str]]
    relocation: Callable[[str], dict[str, str]] = lambda _digest: {}
    timeout: float = 600.0
    progress: Progress = lambda _text: None
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))

    def update(self) -> Update:
        """Fetch the catalog if it changed.

        Raises:
            NotFound: There is no catalog.
            Permanent: It is not signed by a pinned key, expired, older than the one seen before, or altered.
            InvalidInput: It is not a catalog.
            Retryable: The registry does not answer, or it took too long.
        """
        held = self.store.held()
        digest, index = self._latest()
        if held is not None and held.digest == digest and self._is_whole(held):
            return Update(held.model_copy(update={"reference": str(self.reference)}))
        signers = tuple(self.signers(digest))
        if not signers:
            raise Permanent(f"{self.reference}: the catalog {digest} is not signed by a key that was given for it",
                            hint="Nothing was changed. If its curators have a new key, get the public half from them "
                            "and add the marketplace again with --key.")
        fetch = _Fetch(self)
        root = self._root(fetch, digest, index)
        self._check_root(root, digest, held)
        return self._take(fetch, root, digest, signers)

    def _latest(self) -> tuple[str, bytes]:
        """Digest and image index of what the tag points to now."""
        if self.reference.digest:
            return self.reference.digest, self.source.manifest(self.reference.digest)
        data = self.source.tagged(self.reference.tag or LATEST)
        if data is None:
            raise NotFound(f"{self.reference} has no catalog: there is no tag {self.reference.tag or LATEST}",
                           hint="Check the reference; `fuseml catalog publish` puts a catalog there.")
        return digest_bytes(data), data

    def _is_whole(self, held: Held) -> bool:
        """Whether the local copy has all its documents; a damaged one is fetched again."""
        try:
            catalog = self.store.catalog()
            blobs = [blob for _, blob in catalog.entries()] if catalog else []
        except (NotFound, InvalidInput, Permanent):
            return False
        rows = {row.digest for row in self.store.rows()}
        return catalog is not None and catalog.digest == held.digest and rows == {blob.digest for blob in blobs} \
            and all(self.store.has(blob.digest) for blob in blobs)

    def _root(self, fetch: _Fetch, digest: str, index: bytes) -> Root:
        manifests = _Manifests(self.source, {digest: index})
        config = root_descriptor(manifests, digest)
        for found, data in manifests.found.items():
            fetch.keep(found, data)
        blob = Blob(digest=config.digest, size=config.size)
        fetch.all([blob])
        return decode(Root, self.store.blob(config), f"the root of {self.reference}")

    def _check_root(self, root: Root, digest: str, held: Held | None) -> None:
        if parse_moment(root.expires) <= self.now():
            raise Permanent(f"{self.reference}: version {root.version} of the catalog expired at {root.expires}",
                            hint="Its curators must publish it again; or somebody holds newer versions back.")
        if held is None:
            return
        if root.name != held.name:
            raise Permanent(f"{self.reference} holds the catalog {root.name!r} now, and was subscribed to as "
                            f"{held.name!r}", hint="Remove the marketplace and add it again if this is meant to be.")
        if root.version < held.version or (root.version == held.version and digest != held.digest):
            raise Permanent(f"{self.reference} gives version {root.version} of the catalog ({digest[:19]}…), and "
                            f"version {held.version} ({held.digest[:19]}…) was seen before",
                            hint="Somebody put an old catalog back or published one version twice; nothing was "
                            "changed. Ask its curators.")

    def _take(self, fetch: _Fetch, root: Root, digest: str, signers: tuple[str, ...]) -> Update:
        entries = self._entries(fetch, root)
        fetch.all([root.namespaces])
        decode(Namespaces, self.store.blob(_descriptor(root.namespaces)), "the namespaces of the catalog")
        known = {row.name: row for row in self.store.rows()}
        fetch.all(entries.values(), "packages")
        rows: dict[str, Row] = {}
        for name, blob in entries.items():
            old = known.get(name)
            rows[name] = old if old is not None and old.digest == blob.digest else self._row(name, blob)
        held = Held(reference=str(self.reference), digest=digest, name=root.name, version=root.version,
                    issued=root.issued, expires=root.expires, signers=signers, relocated=self.relocation(digest))
        self.store.switch(held, rows.values())
        self.store.clean(fetch.wanted)
        changed = tuple(sorted(name for name, row in rows.items() if row is not known.get(name)))
        return Update(held, changed, tuple(sorted(set(known) - set(rows))), fetch.count, fetch.size)

    def _entries(self, fetch: _Fetch, root: Root) -> dict[str, Blob]:
        """Name and document of every package: the tree, level by level, so that each level is fetched at once."""
        entries: dict[str, Blob] = {}
        level = [(root.tree, "")]
        while level:
            fetch.all([blob for blob, _ in level], "nodes")
            below = []
            for blob, prefix in level:
                node = decode(Node, self.store.blob(_descriptor(blob)), "a node of the catalog")
                check_place(node, prefix)
                entries |= node.packages
                below += [(child, prefix + digit) for digit, child in node.children.items()]
            if len(entries) + len(below) > min(root.count, MAX_PACKAGES):
                raise InvalidInput(f"{self.reference}: the catalog lists more packages than the {root.count} it says")
            level = below
        if len(entries) != root.count:
            raise InvalidInput(f"{self.reference}: the catalog lists {len(entries)} packages and says {root.count}")
        return entries

    def _row(self, name: str, blob: Blob) -> Row:
        data = self.store.blob(_descriptor(blob))
        return row_of(check_package(decode(Package, data, f"the package {name} of the catalog"), name), blob.digest)


class _Fetch:
    """One update: fetches what the store does not have, and counts it."""

    def __init__(self, subscriber: Subscriber) -> None:
        self._subscriber, self._until = subscriber, time.monotonic() + subscriber.timeout
        self.wanted: set[str] = set()
        self.count = self.size = 0

    def keep(self, digest: str, data: bytes) -> None:
        """Have a document that was fetched already in the store."""
        self.wanted.add(digest)
        self._subscriber.store.put(digest, data)

    def all(self, blobs: Iterable[Blob], what: str = "") -> None:
        """Have all these documents in the store."""
        found = list(blobs)
        self.wanted |= {blob.digest for blob in found}
        missing = [blob for blob in found if not self._subscriber.store.has(blob.digest)]
        self.size += sum(blob.size for blob in missing)
        if self.size > MAX_TOTAL:
            raise Unsupported(f"{self._subscriber.reference}: the update has more than {MAX_TOTAL} bytes")
        with ThreadPoolExecutor(WORKERS) as workers:
            for number, _ in enumerate(workers.map(self._one, missing), start=1):
                if what and number % 500 == 0:
                    self._subscriber.progress(f"fetched {number} of {len(missing)} {what}")
        self.count += len(missing)

    def _one(self, blob: Blob) -> None:
        if time.monotonic() > self._until:
            raise Retryable(f"{self._subscriber.reference}: the update took more than "
                            f"{self._subscriber.timeout:g} s", hint="What was fetched is kept; update again.")
        data = self._subscriber.source.blob(_descriptor(blob))
        self._subscriber.store.put(blob.digest, verified(data, blob, str(self._subscriber.reference)))


class _Manifests:
    """Reads manifests and remembers them, so that they can be kept once they are found to be good."""

    def __init__(self, source: ManifestSource, found: dict[str, bytes]) -> None:
        self._source, self.found = source, found

    def manifest(self, digest: str) -> bytes:
        """Fetch a manifest that is not known yet; whoever asks verifies it."""
        if digest not in self.found:
            self.found[digest] = self._source.manifest(digest)
        return self.found[digest]

    def blob(self, descriptor: Descriptor) -> bytes:
        """Fetch a blob."""
        return self._source.blob(descriptor)


def _descriptor(blob: Blob) -> Descriptor:
    return Descriptor(media.CATALOG_DOCUMENT, blob.digest, blob.size)


def opened(store: CatalogStore) -> Catalog:
    """The current catalog of a store.

    Raises:
        NotFound: There is none yet.
    """
    catalog = store.catalog()
    if catalog is None:
        raise NotFound("the catalog was not fetched yet", hint="Fetch it: fuseml marketplace update")
    return catalog
