"""Bundles in registries: the embedded one first, then those that subscribed marketplaces name, and any other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from fuseml_core.adapters.extensions.airgap.relocations import Relocations
from fuseml_core.adapters.extensions.errors import translated
from fuseml_core.adapters.extensions.trust import PolicyTrust
from fuseml_core.domain.errors import FusemlError, Refused, Unavailable
from fuseml_core.domain.errors import NotFound as NothingThere
from fuseml_core.domain.extensions import InstalledExtension, TrustDecision
from fuseml_core.service.extensions.ports import Available, FoundBundle, InstalledExtensions, Progress, Wish
from fuseml_oci.bundles.references import NAMESPACE, is_local, read_reference, sorted_versions
from fuseml_oci.bundles.transfer import RemoteBundle, look_up, pull
from fuseml_oci.bundles.unpack import unpack
from fuseml_oci.client import RegistryClient
from fuseml_oci.progress import size_text
from fuseml_oci.reference import Reference, parse
from fuseml_oci.sources import RepositorySource
from fuseml_oci.trust.scope import is_embedded
from fuseml_sdk.errors import InvalidInput, NotFound
from fuseml_sdk.manifest import SEMVER
from fuseml_sdk.versions import Version, parse_version

if TYPE_CHECKING:
    from fuseml_oci.signing.keys import PublicKey


class Marketplaces(Protocol):
    """The catalogs that this server subscribed to, as they lie here; nothing of this asks a registry."""

    def versions(self, name: str, channel: str) -> Sequence[Available]:
        """Versions of an extension that the first marketplace which has it offers in a channel, best first."""
        ...

    def locate(self, name: str, version: str) -> str:
        """The reference of a version, with digest; empty when no marketplace has it."""
        ...

    def endorsed(self, name: str, place: Reference, digest: str) -> Sequence[PublicKey]:
        """The keys that may sign a bundle of an extension that lies in a place."""
        ...

    def advice(self, name: str, version: str) -> Sequence[str]:
        """Deprecations and yanks of a version, one sentence each."""
        ...

    def corrected(self, name: str, version: str, manifest: Mapping[str, Any]) -> Mapping[str, Any]:
        """The manifest of a version as the curators corrected it after publication."""
        ...

    def catalogs(self) -> Mapping[str, Mapping[str, Any]]:
        """`digest` and `version` of each catalog by the name of the marketplace."""
        ...

    def names(self) -> Collection[str]:
        """Names of all extensions that a marketplace has."""
        ...


class RegistryBundles:
    """Finds, judges and fetches bundles; implements the port `Bundles`.

    Args:
        registry: Returns the base URL of the embedded registry, such as `http://127.0.0.1:8765`; asked each time,
            because the port may be chosen when the server starts.
        content: Folder of verified blobs.
        records: Rows of installed extensions; what was fetched before is found there without asking a registry.
        trust: Decides by the policy; without it the embedded registry is trusted and nothing else.
        marketplaces: Catalogs.
        proxy: URL of an HTTP proxy for other registries; by default as the environment says.
        ca_bundle: PEM file with the certificate authorities to trust; by default as the environment says.
        relocations: What was imported: it lies in the embedded registry and is asked for by where it came from.
    """

    def __init__(self, registry: Callable[[], str], content: Path, records: InstalledExtensions, *,
                 trust: PolicyTrust | None = None, marketplaces: Marketplaces | None = None, proxy: str = "",
                 ca_bundle: str = "", relocations: Relocations | None = None) -> None:
        self._registry, self._content, self._records = registry, content, records
        self._trust, self._marketplaces = trust, marketplaces
        self._proxy, self._ca_bundle, self._relocations = proxy, ca_bundle, relocations

    # -- finding ---------------------------------------------------------------------------------------------------

    def find(self, reference: str, wish: Wish) -> FoundBundle:
        """Look a bundle up; a name stands for its best version in the embedded registry, else in a marketplace.

        What the policy rejects is not even asked for.
        """
        with translated():
            asked = self._reference(reference)
            if self._trust is not None and (rejection := self._trust.rejection(asked)) is not None:
                raise Refused(f"{asked} is not trusted: {rejection.reason}", hint=rejection.hint)
            parsed = self._relocated(asked, wish)
            if is_local(reference) and not self._has(parsed):
                located = self._located(parsed, wish)
                if located is None:
                    raise self._unknown(parsed, wish)
                return located
            if wish.offline and not self._is_embedded(parsed):
                return self._here(parsed)
            client = self._client(parsed)
            if not parsed.locator:
                parsed = self._newest(parsed, client, wish)
            return self._look_up(parsed, client)

    def versions(self, sibling: str, name: str, wish: Wish) -> Sequence[Available]:
        """Versions where another reference came from, best first; a marketplace tells what they need, too."""
        with translated():
            near = parse(sibling) if sibling else self._reference(name)
            reference = _beside(near, name)
            if self._is_embedded(near) or self._is_from_marketplace(near):
                own = self._reference(name)
                if not self._has(own) and self._marketplaces is not None:
                    return list(self._marketplaces.versions(name, wish.channel))
                reference = own
            reference = self._moved(reference) if wish.offline else reference
            if wish.offline and not self._is_embedded(reference):
                return [Available(record.version) for record in self._kept(reference)]
            return [Available(version) for version in self._tags(reference, self._client(reference), wish)]

    def find_version(self, sibling: str, name: str, version: str, wish: Wish) -> FoundBundle:
        """Look up one of these versions."""
        near = parse(sibling) if sibling else self._reference(name)
        if self._is_embedded(near) or self._is_from_marketplace(near):
            return self.find(f"{name}:{version}", wish)
        return self.find(str(_beside(near, name).with_tag(version)), wish)

    def advice(self, reference: str, name: str, version: str) -> Sequence[str]:
        """What the catalogs at hand say about a version."""
        known = self._marketplaces is not None and self._is_from_marketplace(parse(reference))
        return list(self._marketplaces.advice(name, version)) if known and self._marketplaces is not None else []

    def catalogs(self) -> Mapping[str, Mapping[str, Any]]:
        """The catalogs this server subscribed to."""
        return self._marketplaces.catalogs() if self._marketplaces is not None else {}

    # -- judging ---------------------------------------------------------------------------------------------------

    def decide(self, found: FoundBundle, wish: Wish) -> TrustDecision:
        """What the trust policy says; what was fetched before and cannot be asked about now keeps its decision."""
        with translated():
            reference = parse(found.reference)
            if self._trust is None:
                return _only_embedded(self._is_embedded(reference))
            if wish.offline and not self._is_embedded(reference):
                return TrustDecision(False, reason="no decision about it is known here, and --offline asks no registry",
                                     hint="Leave --offline out.")
            endorsed = self._endorsed(found.name, reference, found.digest)
            source = RepositorySource(self._client(reference), reference.repository)
            return self._trust.decide(reference, found.digest, source, endorsed)

    def doubt(self, name: str, reference: str, known: TrustDecision) -> TrustDecision | None:
        """What the policy has against a bundle by now; whom nobody had to sign for may only be rejected."""
        with translated():
            if self._trust is None:
                return None
            if known.overridden or not known.rule:
                return self._trust.rejection(parse(reference))
            place = parse(reference)
            return self._trust.doubt(place, known, self._endorsed(name, place, place.digest))

    def embedded(self) -> str:
        """`host:port` of the embedded registry now."""
        return urlsplit(self._registry()).netloc

    def own_signers(self) -> Collection[str]:
        """The key of the embedded registry."""
        return self._trust.own_signers() if self._trust is not None else []

    def portable(self, reference: str) -> str:
        """The reference as another server can read it."""
        parsed = parse(reference)
        name = parsed.repository.rpartition("/")[2]
        if not self._is_embedded(parsed) or parsed.repository != f"{NAMESPACE}/{name}":
            return reference
        return name + (f":{parsed.tag}" if parsed.tag else "") + (f"@{parsed.digest}" if parsed.digest else "")

    # -- fetching --------------------------------------------------------------------------------------------------

    def missing(self, found: FoundBundle) -> Sequence[str]:
        """Digests of layers that are not in the content store."""
        return [layer["digest"] for layer in found.descriptor.get("layers") or []
                if not (self._content / "sha256" / layer["digest"].partition(":")[2]).is_file()]

    def fetch(self, found: FoundBundle, destination: Path, progress: Progress) -> None:
        """Download, verify and unpack a bundle."""
        with translated(f"{found.name} {found.version}: "):
            reference = parse(found.reference)
            unpack(pull(reference, self._client(reference), self._content, progress), destination)

    def clean(self, keep: Collection[str]) -> None:
        """Drop downloaded layers whose digest is not in `keep`."""
        names = {digest.partition(":")[2] for digest in keep}
        for path in (self._content / "sha256").glob("*"):
            if path.name not in names and path.is_file():
                path.unlink(missing_ok=True)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _look_up(self, reference: Reference, client: RegistryClient) -> FoundBundle:
        found = look_up(reference, client)
        name = reference.repository.rpartition("/")[2]
        if found.descriptor.name != name:
            raise InvalidInput(f"{reference} contains the extension {found.descriptor.name!r}",
                               hint="A bundle lies in a repository that ends with its name.")
        return _found(found)

    def _endorsed(self, name: str, place: Reference, digest: str) -> Sequence[PublicKey]:
        """The keys that marketplaces name for a bundle; one that was imported counts as lying where it came from."""
        if self._marketplaces is None:
            return ()
        imported = self._relocations.of(digest) if self._relocations is not None and self._is_embedded(place) else None
        return self._marketplaces.endorsed(name, parse(imported.original) if imported else place, digest)

    def _relocated(self, reference: Reference, wish: Wish) -> Reference:
        """Where a bundle lies now: the same bytes if a digest names it; by its version only if no registry is asked."""
        if self._relocations is None or self._is_embedded(reference) or not (reference.digest or wish.offline):
            return reference
        if not reference.locator:
            return self._moved(reference)
        found = self._relocations.local(reference)
        return reference if found is None else Reference(self.embedded(), found.local, "", found.digest)

    def _moved(self, reference: Reference) -> Reference:
        """The repository that holds what was imported from another one."""
        found = [] if self._relocations is None or self._is_embedded(reference) \
            else self._relocations.versions(reference)
        return Reference(self.embedded(), found[0].local) if found else reference

    def _located(self, wanted: Reference, wish: Wish) -> FoundBundle | None:
        """What the marketplaces mean by a name; None when they do not know it."""
        if self._marketplaces is None:
            return None
        name, version = wanted.repository.rpartition("/")[2], wanted.tag
        if wanted.digest and not version:
            return None
        offered = [a for a in self._marketplaces.versions(name, wish.channel) if not a.yanked]
        version = version or next((a.version for a in offered), "")
        place = self._marketplaces.locate(name, version) if version else ""
        if not place:
            return None
        reference = parse(place)
        if wanted.digest and reference.digest != wanted.digest:
            raise InvalidInput(f"the catalog has {name} {version} with the digest {reference.digest}")
        found = self._here(reference) if wish.offline else self._look_up(reference, self._client(reference))
        manifest = self._marketplaces.corrected(name, version, found.descriptor["manifest"])
        return FoundBundle(found.reference, found.digest, {**found.descriptor, "manifest": manifest}, found.config,
                           tuple(self._marketplaces.advice(name, version)), wish.channel or "default")

    def _here(self, reference: Reference) -> FoundBundle:
        """A version that was fetched before and is still here."""
        for record in self._kept(reference):
            if record.digest == reference.digest or (not reference.digest and reference.tag in {"", record.version}):
                return FoundBundle(record.reference, record.digest, record.descriptor, record.config)
        missing = "" if not reference.digest else self._what_is_missing(reference)
        raise Unavailable(f"{reference} is not on this machine, and --offline asks no registry{missing}",
                          hint="Leave --offline out, or bring it along: fuseml extension export, fuseml extension "
                               "import.", details={"missing": [str(reference)]})

    def _what_is_missing(self, reference: Reference) -> str:
        record = self._records.by_digest(reference.digest)
        if record is None:
            return ""
        gone = set(self.missing(FoundBundle(record.reference, record.digest, record.descriptor)))
        sizes = [layer for layer in record.descriptor.get("layers") or [] if layer["digest"] in gone]
        return "".join(f"\n  {layer['title']}: {layer['digest']} ({size_text(layer['size'])})" for layer in sizes)

    def _kept(self, reference: Reference) -> Iterator[InstalledExtension]:
        """Versions of a repository that were fetched before, best first."""
        known = [record for record in self._records.all()
                 if (place := parse(record.reference)).repository == reference.repository
                 and place.registry == reference.registry]
        parsed = {record.digest: parse_version(record.version) for record in known}
        yield from sorted(known, key=lambda r: (not parsed[r.digest].pre, parsed[r.digest]), reverse=True)

    def _newest(self, reference: Reference, client: RegistryClient, wish: Wish) -> Reference:
        versions = self._tags(reference, client, wish)
        if not versions:
            name = reference.repository.rpartition("/")[2]
            raise NotFound(f"there is no extension {name!r} at {reference}",
                           hint=f"Push its bundle there first: fuseml bundle push DIR {reference}")
        return reference.with_tag(versions[0])

    def _unknown(self, wanted: Reference, wish: Wish) -> NotFound:
        """What to say about a name that neither the embedded registry nor a marketplace knows."""
        client, name = self._client(wanted), wanted.repository.rpartition("/")[2]
        own = self._tags(wanted, client, wish)
        listed = frozenset(self._marketplaces.names()) if self._marketplaces is not None else frozenset[str]()
        if own or name in listed:
            which = wanted.locator or (f"in the channel {wish.channel}" if wish.channel else "that can be installed")
            return NotFound(f"the extension {name!r} has no version {which}",
                            hint=f"See those it has: fuseml extension info {name}")
        folder = f"{wanted.repository.rpartition('/')[0]}/"
        here = {other.removeprefix(folder) for other in client.repositories() if other.startswith(folder)}
        alike = get_close_matches(name, sorted(here | listed))
        return NotFound(
            f"there is no extension {name!r}, neither in this server's registry nor in a marketplace that it follows",
            hint=(f"Did you mean {' or '.join(alike)}?\n" if alike else "")
            + "See what there is: fuseml extension search\nIf it is yours, push it first: fuseml bundle push DIR")

    def _tags(self, reference: Reference, client: RegistryClient, wish: Wish) -> list[str]:
        """Versions of a repository: releases, then the last development build, then the rest; nothing if unknown."""
        try:
            tags = client.tags(reference.repository)
        except NotFound:
            return []
        versions = sorted_versions(tags)
        if wish.prereleases:
            parsed = {version: parse_version(version) for version in versions}
            versions.sort(key=lambda version: (not parsed[version].is_development, parsed[version]), reverse=True)
        if "dev" not in tags or not any(parse_version(version).pre for version in versions):
            return versions
        last = look_up(reference.with_tag("dev"), client).descriptor.version
        return sorted(versions, key=lambda version: _rank(parse_version(version), version == last, wish))

    def _has(self, reference: Reference) -> bool:
        """Whether the embedded registry has a repository with versions in it, or what a tag or digest names."""
        client = self._client(reference)
        if reference.locator:
            return client.has_manifest(reference.repository, reference.locator)
        try:
            return any(SEMVER.match(tag) for tag in client.tags(reference.repository))
        except NotFound:
            return False

    def _is_from_marketplace(self, reference: Reference) -> bool:
        """Whether a marketplace names this place for an extension."""
        name = reference.repository.rpartition("/")[2]
        if self._marketplaces is None or not reference.tag:
            return False
        try:
            place = self._marketplaces.locate(name, reference.tag)
        except (FusemlError, NothingThere):
            return False
        return bool(place) and parse(place).repository == reference.repository \
            and parse(place).registry == reference.registry

    def _reference(self, text: str) -> Reference:
        return read_reference(text, self.embedded())

    def _is_embedded(self, reference: Reference) -> bool:
        return is_embedded(reference.registry, self.embedded())

    def _client(self, reference: Reference) -> RegistryClient:
        own = urlsplit(self._registry())
        insecure = own.scheme == "http" if reference.registry == own.netloc else None
        return RegistryClient(reference.registry, insecure=insecure, proxy=self._proxy, ca_bundle=self._ca_bundle)


def _rank(version: Version, is_last: bool, wish: Wish) -> tuple[bool, bool]:
    """Development builds are not ordered by their names: the one pushed last goes before the others."""
    if wish.prereleases:
        return version.is_development, not is_last
    return bool(version.pre), not is_last


def _found(bundle: RemoteBundle) -> FoundBundle:
    return FoundBundle(reference=str(bundle.reference), digest=bundle.digest,
                       descriptor=bundle.descriptor.model_dump(mode="json", by_alias=True),
                       config=bundle.parsed.config.digest)


def _only_embedded(embedded: bool) -> TrustDecision:
    if embedded:
        return TrustDecision(True, "embedded/**", "it is in this server's own registry")
    return TrustDecision(
        False, "", "it comes from a registry that is not trusted, and its bundles are not signed", overridable=True,
        hint="If you trust it, install with --allow-unsigned; or push the bundle to this server's own registry: "
             "fuseml bundle push FILE NAME.")


def _beside(reference: Reference, name: str) -> Reference:
    namespace = reference.repository.rpartition("/")[0]
    return Reference(reference.registry, f"{namespace}/{name}" if namespace else name)
