"""What marketplaces offer: catalogs that this server follows, read from its own copies without asking any registry."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from fuseml_core.adapters.extensions.errors import translated
from fuseml_core.adapters.extensions.subscriptions import Subscription, Subscriptions
from fuseml_core.domain.errors import Conflict
from fuseml_core.service.extensions.ports import Available
from fuseml_oci import media
from fuseml_oci.catalog.format import Package, PackageVersion, decode, parse_moment
from fuseml_oci.catalog.reading import check_package
from fuseml_oci.catalog.relocation import read_relocation, relocated, signed_by
from fuseml_oci.catalog.search import Hits, Row, SearchIndex
from fuseml_oci.catalog.store import CatalogStore, Held
from fuseml_oci.catalog.subscriber import Subscriber
from fuseml_oci.client import RegistryClient
from fuseml_oci.descriptor import Descriptor
from fuseml_oci.reference import Reference, parse
from fuseml_oci.signing.keys import PublicKey, read_public
from fuseml_oci.sources import RepositorySource
from fuseml_oci.trust.endorsement import EndorsedKeys
from fuseml_sdk.errors import InvalidInput, PluginError
from fuseml_sdk.versions import parse_range, parse_version

#: Seconds that one update may take.
UPDATE_TIMEOUT = 600.0
#: Seconds after which a catalog that was not checked counts as stale.
STALE_AFTER = 2 * 86_400.0
#: What a catalog may say otherwise than the bundle.
_CORRECTABLE = {"requires_fuseml", "dependencies", "conflicts"}


class Marketplaces:
    """All marketplaces of a server; safe to use from several threads.

    Args:
        subscriptions: Where they are kept.
        connect: Returns a client for the registry of a reference.
        engine: Version of FuseML: versions that work with it are better than others. Empty: all are alike.
        clock: Seconds since the epoch.
    """

    def __init__(self, subscriptions: Subscriptions, connect: Callable[[Reference], RegistryClient],
                 engine: str = "", clock: Callable[[], float] = time.time) -> None:
        self.subscriptions, self._connect, self._clock = subscriptions, connect, clock
        self._engine = parse_version(engine) if engine else None
        self._loaded: dict[str, _Loaded] = {}
        self._known: dict[str, Subscription] | None = None
        self._index: tuple[tuple[Any, ...], SearchIndex] | None = None
        self._lock = threading.Lock()

    def add(self, name: str, reference: str, keys: Sequence[str], channel: str | None,
            progress: Callable[[str], None]) -> dict[str, Any]:
        """Subscribe to a catalog; it is fetched and verified first, and nothing is left when that fails.

        Raises:
            Conflict: There is a marketplace of this name.
            Invalid, NotFound, Failed, Unavailable: The catalog cannot be had or is not signed by the keys.
        """
        with translated(), self._lock:
            if any(entry.name == name for entry in self.subscriptions.list()):
                raise Conflict(f"there is a marketplace {name!r} already",
                               hint=f"Choose another name, or remove it first: fuseml marketplace remove {name}")
            place = parse(reference)
            if place.locator:
                raise InvalidInput(f"{reference} has a tag or digest", hint="Write the repository only; the server "
                                   "follows what its curators publish.")
            pems = tuple(read_public(key.encode(), "the key").pem.decode() for key in keys)
            subscription = Subscription.model_validate({"name": name, "reference": str(place), "keys": pems,
                                                        "channel": channel, "added_at": self._clock()})
            try:
                self._follow(subscription, progress).update()
            except BaseException:
                if (self.subscriptions.root / name).exists():
                    self.subscriptions.remove(name)
                raise
            self._save(subscription.model_copy(update={"checked_at": self._clock()}))
        return self.show(name)

    def update(self, name: str, progress: Callable[[str], None]) -> dict[str, Any]:
        """Fetch what changed; a failure is remembered, and what was fetched before goes on being used."""
        with self._lock:
            subscription = self.subscriptions.get(name)
            try:
                done = self._follow(subscription, progress).update()
            except PluginError as error:
                self._save(subscription.model_copy(update={"problem": error.message,
                                                           "tried_at": self._clock()}))
                with translated(f"marketplace {name}: "):
                    raise
            self._save(subscription.model_copy(update={"checked_at": self._clock(), "problem": ""}))
        return {**self.show(name), "changed": list(done.changed), "removed": list(done.removed),
                "fetched": done.fetched, "fetched_bytes": done.size}

    def remove(self, name: str) -> None:
        """Forget a marketplace; extensions installed from it stay."""
        with self._lock:
            self.subscriptions.get(name)
            self.subscriptions.remove(name)
            self._known = None
            self._loaded.pop(name, None)

    def show(self, name: str) -> dict[str, Any]:
        """One marketplace, for people and programs.

        Returns:
            `name`, `reference`, `channel`, `keys` (fingerprints), `catalog` (its name), `version`, `digest`, `issued`,
            `expires`, `packages`, `checked_at`, `tried_at`, `state` (current, stale, expired or missing) and `problem`.
        """
        subscription, loaded = self.subscriptions.get(name), self._load(name)
        held = loaded.held if loaded else None
        return {"name": name, "reference": subscription.reference, "channel": subscription.channel or "",
                "keys": [key.fingerprint for key in subscription.public_keys()],
                "catalog": held.name if held else "", "version": held.version if held else 0,
                "digest": held.digest if held else "", "issued": held.issued if held else "",
                "expires": held.expires if held else "", "packages": len(loaded.rows) if loaded else 0,
                "checked_at": subscription.checked_at, "tried_at": subscription.tried_at,
                "state": self._state(subscription, held), "problem": subscription.problem}

    def list(self) -> list[dict[str, Any]]:
        """All marketplaces in the order of adding, as :meth:`show` gives them."""
        return [self.show(entry.name) for entry in self.subscriptions.list()]

    def catalogs(self) -> Mapping[str, Mapping[str, Any]]:
        """`digest` and `version` of the catalog of each marketplace, by its name."""
        every = ((name, self._load(name)) for name in self._names())
        return {name: {"digest": loaded.held.digest, "version": loaded.held.version}
                for name, loaded in every if loaded}

    def names(self) -> Collection[str]:
        """Names of all extensions that a marketplace has."""
        return {row for name in self._names() if (loaded := self._load(name)) for row in loaded.rows}

    def channels(self) -> Mapping[str, str]:
        """The channel that each marketplace is followed in; empty when it leaves that to each package."""
        return {name: subscription.channel or "" for name, subscription in self._names().items()}

    def outdated(self) -> Sequence[dict[str, Any]]:
        """Marketplaces whose catalog is stale, expired or missing: `name`, `state`, `problem`."""
        found = []
        for name, subscription in self._names().items():
            loaded = self._load(name)
            state = self._state(subscription, loaded.held if loaded else None)
            if state != "current":
                found.append({"name": name, "state": state, "problem": subscription.problem})
        return found

    def find(self, name: str) -> tuple[str, Package] | None:
        """The marketplace that a name belongs to, and the package.

        The first marketplace that has a name owns it: versions of two are never mixed, so that nobody can slip a higher
        version of somebody else's extension in.
        """
        for marketplace in self._names():
            loaded = self._load(marketplace)
            package = loaded.package(name) if loaded else None
            if package is not None:
                return marketplace, package
        return None

    def versions(self, name: str, channel: str = "") -> Sequence[Available]:
        """What is offered of an extension, best first; nothing if no marketplace knows it.

        The best is the highest; those that do not work with this FuseML come after all others, yanked ones last.

        Args:
            name: Of the extension.
            channel: By default that of the subscription, else that of the package.
        """
        found = self.find(name)
        if found is None:
            return []
        marketplace, package = found
        wanted = channel or self._names()[marketplace].channel or package.default_channel
        entries = sorted(package.in_channel(wanted), key=lambda entry: (entry.yanked is not None, self._misfits(entry)))
        return [_available(entry) for entry in entries]

    def locate(self, name: str, version: str) -> str:
        """Where one version is, whatever its channel, yanked ones too; a mirror's place if the catalog was mirrored.

        Returns:
            The reference with tag and digest; empty when no marketplace has it.
        """
        found = self.find(name)
        entry = found[1].find(version) if found else None
        if found is None or entry is None:
            return ""
        loaded = self._load(found[0])
        place = parse(relocated(found[1].repository, loaded.held.relocated if loaded else {}))
        return str(place.with_tag(version).with_digest(entry.digest))

    def corrected(self, name: str, version: str, manifest: Mapping[str, Any]) -> Mapping[str, Any]:
        """The manifest of a version as the curators corrected it after publication.

        Args:
            name: Of the extension.
            version: Which one.
            manifest: What the bundle says itself.
        """
        found = self.find(name)
        entry = found[1].find(version) if found else None
        if entry is None or not entry.patched:
            return manifest
        said = entry.model_dump(mode="json", include=set(entry.patched) & _CORRECTABLE)
        return {**manifest, **said}

    def endorsed(self, name: str, place: Reference, digest: str) -> Sequence[PublicKey]:
        """Keys that the signed catalog of the name's marketplace names for its bundles, with the number it wants.

        A name alone is not enough: somebody else's bundle may have it, too. The keys count for what the catalog lists,
        wherever a copy of it lies, and for what lies where the catalog says that the package is.

        Args:
            name: Of the extension.
            place: Where the bundle comes from.
            digest: Of its manifest.
        """
        found = self.find(name)
        rule = found[1].signers if found else None
        if found is None or rule is None or not self._is_about(*found, place, digest):
            return EndorsedKeys()
        return EndorsedKeys((read_public(key.pem.encode(), f"a key of {name}") for key in rule.keys), rule.threshold)

    def advice(self, name: str, version: str, channel: str = "") -> Sequence[str]:
        """What people should read who take a version: yanked, deprecated, or known from an expired catalog."""
        found = self.find(name)
        entry = found[1].find(version) if found else None
        if found is None or entry is None:
            return []
        marketplace, package = found
        lines = [f"{name} {version} is yanked: {entry.yanked.reason}"] if entry.yanked else []
        for advice in package.advice(version, channel or None):
            about = f" {advice.version}" if advice.version else ""
            instead = f" Use {advice.replacement} instead." if advice.replacement else ""
            lines.append(f"{name}{about} is deprecated: {advice.message}{instead}")
        state = self.show(marketplace)
        if state["state"] == "expired":
            lines.append(f"the catalog of the marketplace {marketplace} expired at {state['expires']}; newer advice "
                         f"may be missing (fuseml marketplace update {marketplace})")
        return lines

    def search(self, embedded: Iterable[Row] = (), **wanted: Any) -> tuple[Hits, Mapping[str, str]]:
        """Search all marketplaces; see :meth:`SearchIndex.search` for what may be wanted.

        Args:
            embedded: What the embedded registry holds; it comes first.
            wanted: Text and filters.

        Returns:
            The hits, and for each name where it comes from: a marketplace, or `embedded`.
        """
        own, every = list(embedded), [(name, self._load(name)) for name in self._names()]
        key = (tuple((name, loaded.held.digest) for name, loaded in every if loaded), tuple(own))
        if self._index is None or self._index[0] != key:
            self._index = (key, SearchIndex([*own, *(row for _, loaded in every if loaded
                                                     for row in loaded.rows.values())]))
        hits = self._index[1].search(**wanted)
        places: list[tuple[str, Collection[str]]] = [("embedded", {row.name for row in own})]
        places += [(name, loaded.rows) for name, loaded in every if loaded]
        return hits, {row.name: next(place for place, names in places if row.name in names) for row in hits.rows}

    def _is_about(self, marketplace: str, package: Package, place: Reference, digest: str) -> bool:
        """Whether a package is that of a bundle."""
        if any(entry.digest == digest for entry in package.versions):
            return True
        loaded = self._load(marketplace)
        repositories = {package.repository, relocated(package.repository, loaded.held.relocated if loaded else {})}
        return any((known.registry, known.repository) == (place.registry, place.repository)
                   for known in map(parse, repositories))

    def _misfits(self, entry: PackageVersion) -> bool:
        return self._engine is not None and self._engine not in parse_range(entry.requires_fuseml)

    def _names(self) -> Mapping[str, Subscription]:
        """The marketplaces in the order of adding; kept in memory, because only this object changes them."""
        known = self._known
        if known is None:
            known = self._known = {entry.name: entry for entry in self.subscriptions.list()}
        return known

    def _save(self, subscription: Subscription) -> None:
        self.subscriptions.save(subscription)
        self._known = None

    def _follow(self, subscription: Subscription, progress: Callable[[str], None]) -> Subscriber:
        place, keys = subscription.place, subscription.public_keys()
        source = RepositorySource(self._connect(place), place.repository)
        return Subscriber(place, source, self.subscriptions.store(subscription.name), signed_by(source, keys),
                          lambda digest: read_relocation(source, digest, keys, place.registry), UPDATE_TIMEOUT,
                          progress, lambda: datetime.fromtimestamp(self._clock(), UTC))

    def _state(self, subscription: Subscription, held: Held | None) -> str:
        if held is None:
            return "missing"
        if parse_moment(held.expires).timestamp() <= self._clock():
            return "expired"
        return "stale" if self._clock() - subscription.checked_at > STALE_AFTER else "current"

    def _load(self, name: str) -> _Loaded | None:
        """The current catalog of a marketplace, kept in memory until its files change."""
        store = self.subscriptions.store(name)
        stamp = store.stamp()
        before = self._loaded.get(name)
        if before is not None and before.stamp == stamp:
            return before
        with translated():
            held = store.held()
        if held is None:
            return None
        loaded = _Loaded(stamp, held, {row.name: row for row in store.rows()}, store)
        self._loaded[name] = loaded
        return loaded


class _Loaded:
    """A catalog in memory; packages are read when they are asked for."""

    def __init__(self, stamp: Any, held: Held, rows: dict[str, Row], store: CatalogStore) -> None:
        self.stamp, self.held, self.rows, self._store = stamp, held, rows, store
        self._packages: dict[str, Package] = {}

    def package(self, name: str) -> Package | None:
        """One package of the catalog."""
        if name not in self._packages and name in self.rows:
            with translated():
                data = self._store.blob(Descriptor(media.CATALOG_DOCUMENT, self.rows[name].digest, 0))
                self._packages[name] = check_package(decode(Package, data, f"the package {name}"), name)
        return self._packages.get(name)


def _available(entry: PackageVersion) -> Available:
    yanked = (entry.yanked.reason or "no reason given") if entry.yanked else ""
    return Available(entry.version, yanked, entry.requires_fuseml,
                     tuple((need.name, need.range) for need in entry.dependencies))
