"""Everything a page about a package shows, as one JSON document; the HTML is made of the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuseml_registry.pages import contents, keys
from fuseml_registry.pages.attachments import attachments
from fuseml_registry.pages.catalogs import Catalogs, Listed, curated, endorsed
from fuseml_registry.pages.entries import KINDS, Entry, namespace_of
from fuseml_registry.pages.fit import fit_with_dependencies
from fuseml_registry.pages.holdings import Bundle, Holdings, Version, ordered
from fuseml_registry.pages.keys import KnownKey
from fuseml_registry.pages.links import Links, is_foreign
from fuseml_registry.pages.query import Found
from fuseml_registry.pages.rating import rate
from fuseml_registry.pages.source import StorageSource
from fuseml_registry.pages.text import moment_text
from fuseml_sdk.errors import NotFound
from fuseml_sdk.versions import parse_version

#: Versions that a package's document lists; the page of versions has all.
SHOWN_VERSIONS = 20
#: Versions that are tried until one is neither broken nor yanked.
MAX_TRIED = 50


@dataclass(frozen=True, slots=True)
class Documents:
    """Makes documents. Methods do disk work and are called from threads.

    Attributes:
        holdings: Bundles of the registry.
        catalogs: Catalogs of the registry.
        engine: Version of this server, empty if the registry stands alone.
        keys: Folder of public keys that this server knows; None for none.
    """

    holdings: Holdings
    catalogs: Catalogs
    engine: str
    keys: Path | None

    def current(self, repository: str) -> Version:
        """The version of a package that is shown when none is named: the highest release that is not yanked.

        Raises:
            NotFound: There is no bundle in the repository.
        """
        listings = self.catalogs.listings(repository, self._digests(repository))
        fallback: Version | None = None
        for version, _ in self.holdings.candidates(repository, MAX_TRIED, keep=True):
            if curated(version.digest, listings).advice != "yanked":
                return version
            fallback = fallback or version
        if fallback is None:
            raise NotFound(f"there is no package {repository[:200]}")
        return fallback

    def bundle(self, repository: str, version: str) -> tuple[Bundle, Version]:
        """One version of a package.

        Raises:
            NotFound: There is no such version.
            InvalidInput: What is there is no bundle that can be shown.
        """
        found = self.holdings.tagged(repository, version)
        return self.holdings.bundle(repository, found.digest), found

    def package(self, repository: str, version: str, links: Links) -> dict[str, Any]:
        """Everything about one version of a package; `version` empty chooses the current one.

        Raises:
            NotFound: There is no such package or version.
            InvalidInput: What is there is no bundle that can be shown.
        """
        current = self.current(repository)
        chosen = version or current.version
        bundle, found = self.bundle(repository, chosen)
        listed = self.catalogs.listed(repository, self._digests(repository))
        descriptor, manifest = bundle.descriptor, bundle.descriptor.manifest
        source = StorageSource(self.holdings, repository)
        known = [*keys.known_keys(self.keys), *endorsed(listed)]
        needs = self._needs(bundle, listed)
        signatures = self._signatures(source, bundle.digest, known)
        attached = attachments(source, bundle.digest, keys.attesters(source, bundle.digest, known), descriptor)
        fit = fit_with_dependencies(manifest, needs["requires_fuseml"],
                                    [(need["name"], need["range"]) for need in needs["dependencies"]],
                                    self.engine, lambda name: self._versions_of(repository, name))
        return {
            "name": manifest.name, "repository": repository, "namespace": namespace_of(repository),
            "version": chosen, "stated_version": manifest.version, "digest": bundle.digest,
            "pushed_at": moment_text(found.pushed),
            "summary": manifest.summary, "description": manifest.description.strip(), "licence": manifest.licence,
            "links": [{"name": name, "url": url, "followed": is_foreign(url)}
                      for name, url in list(manifest.links.items())[:contents.LIMIT]],
            "latest": current.version, "install": install_command(links, repository, chosen, current.version),
            "fit": fit.document(), **needs,
            "permissions": contents.permissions(manifest), "settings": contents.settings(manifest),
            "contents": contents.contents(descriptor), "size": bundle.size,
            "layers": [{"kind": layer.kind, "title": layer.title, "size": layer.size, "digest": layer.digest}
                       for layer in descriptor.layers],
            "catalogs": [_listed(entry, chosen, bundle.digest) for entry in listed],
            "history": _history(listed, chosen)[:contents.LIMIT],
            "versions": self.versions(repository)[:SHOWN_VERSIONS],
            "version_count": len(ordered(self.holdings.tags(repository))),
            "signatures": signatures, "attachments": attached,
            "rating": rate(attached, [each["name"] for each in signatures["good"]]),
            "icon": bundle.layer("icon") is not None, "readme": bundle.layer("readme") is not None,
            "url": links.absolute(links.version(repository, chosen)),
        }

    def versions(self, repository: str) -> list[dict[str, Any]]:
        """All versions of a package, the highest first, with the one before each that it can be compared with."""
        found = self.holdings.versions(repository)
        listings = self.catalogs.listings(repository, [entry.digest for entry in found])
        return [{"version": entry.version, "digest": entry.digest, "pushed_at": moment_text(entry.pushed),
                 "channels": list(told.channels), "advice": told.advice,
                 "pre_release": bool(parse_version(entry.version).pre),
                 "previous": found[number + 1].version if number + 1 < len(found) else ""}
                for number, entry in enumerate(found) for told in [curated(entry.digest, listings)]]

    def previous(self, repository: str, version: str) -> str:
        """The version before one; empty if it is the first."""
        tags = ordered(self.holdings.tags(repository))
        return next((tag for tag in tags if parse_version(tag) < parse_version(version)), "")

    def _digests(self, repository: str) -> list[str]:
        """Digests of the highest versions, by which catalogs of other places know them."""
        return [entry.digest for entry in self.holdings.versions(repository, SHOWN_VERSIONS)]

    def _needs(self, bundle: Bundle, listed: tuple[Listed, ...]) -> dict[str, Any]:
        """What the bundle needs, as catalogs corrected it after publication."""
        manifest = bundle.descriptor.manifest
        requires, dependencies = manifest.requires_fuseml, [(d.name, d.range) for d in manifest.dependencies]
        conflicts, patched = [(d.name, d.range) for d in manifest.conflicts], []
        for entry in listed:
            said = next((found for found in entry.package.versions if found.digest == bundle.digest), None)
            if said is None or not said.patched:
                continue
            patched = [{"catalog": entry.listing.catalog, "field": field} for field in said.patched]
            requires = said.requires_fuseml if "requires_fuseml" in said.patched else requires
            if "dependencies" in said.patched:
                dependencies = [(need.name, need.range) for need in said.dependencies]
            if "conflicts" in said.patched:
                conflicts = [(need.name, need.range) for need in said.conflicts]
            break
        environment = manifest.environment
        return {
            "requires_fuseml": requires, "requires_python": environment.python if environment else "",
            "dependencies": [{"name": name, "range": wanted, **self._available(bundle.repository, name)}
                             for name, wanted in dependencies[:contents.LIMIT]],
            "conflicts": [{"name": name, "range": wanted} for name, wanted in conflicts[:contents.LIMIT]],
            "patched": patched,
        }

    def _available(self, repository: str, name: str) -> dict[str, str]:
        place = f"{repository.rpartition('/')[0]}/{name}".removeprefix("/")
        versions = self._versions_of(repository, name)
        return {"repository": place if versions else "", "available": versions[0] if versions else ""}

    def _versions_of(self, repository: str, name: str) -> list[str]:
        """Versions of an extension beside this one, as the resolver would look for them."""
        if "/" in name or name.startswith((".", "_")):
            return []
        return ordered(self.holdings.tags(f"{repository.rpartition('/')[0]}/{name}".removeprefix("/")))

    def _signatures(self, source: StorageSource, digest: str, known: list[KnownKey]) -> dict[str, Any]:
        found = keys.signers(source, digest, known)
        return {"good": [{**signature.to_dict(), "name": found.names[signature.key]} for signature in found.good],
                "others": [{"layout": fault.layout, "digest": fault.digest, "reason": fault.reason}
                           for fault in found.others[:contents.LIMIT]]}


def search_document(found: Found, links: Links) -> dict[str, Any]:
    """The answer to a search, for programs."""
    def address(page: int) -> str:
        return links.absolute(links.api("search")) + found.query.url(page=page)

    return {
        "query": found.query.words, "total": found.total, "page": found.query.page, "pages": found.pages,
        "packages": [entry_document(entry, links) for entry in found.entries],
        "facets": {facet: [{"value": value.value, "count": value.count, "chosen": value.chosen} for value in values]
                   for facet, values in found.facets.items()},
        "suggestions": list(found.suggestions),
        "next": address(found.query.page + 1) if found.query.page < found.pages else None,
    }


def entry_document(entry: Entry, links: Links) -> dict[str, Any]:
    """One package of a list."""
    return {
        "name": entry.name, "repository": entry.repository, "namespace": entry.namespace, "version": entry.version,
        "digest": entry.digest, "summary": entry.summary, "licence": entry.licence,
        "kinds": [kind for kind in KINDS if kind in entry.kinds], "keywords": list(entry.keywords),
        "channels": list(entry.channels), "requires_fuseml": entry.requires, "fits": entry.fits,
        "advice": entry.advice, "size": entry.size, "pushed_at": moment_text(entry.pushed),
        "url": links.absolute(links.package(entry.repository)),
    }


def install_command(links: Links, repository: str, version: str, current: str) -> str:
    """What to type to install a version; the current one needs no number when names lead here."""
    plain = version == current and not parse_version(version).pre
    reference = links.reference(repository, "" if plain and links.embedded else version)
    return f"fuseml extension install {reference}"


def _history(listed: tuple[Listed, ...], version: str) -> list[dict[str, Any]]:
    """What curators decided about a version, and about the package as a whole; the newest first."""
    found = [{"catalog": entry.listing.catalog, "action": decision.action, "by": decision.by, "at": decision.at,
              "why": decision.why, "version": decision.version, "channel": decision.channel,
              "checks": [{"name": check.name, "outcome": check.outcome, "text": check.text}
                         for check in decision.checks[:contents.LIMIT]]}
             for entry in listed for decision in entry.decisions if decision.version in ("", version)]
    return sorted(found, key=lambda decision: str(decision["at"]), reverse=True)


def _listed(entry: Listed, version: str, digest: str) -> dict[str, Any]:
    package = entry.package
    found = next((said for said in package.versions if said.digest == digest), None)
    channels = [name for name, inside in package.channels.items()
                if found and found.version in [member.version for member in inside]]
    yanked = {"reason": found.yanked.reason, "by": found.yanked.by, "at": found.yanked.at} \
        if found and found.yanked else None
    return {
        "catalog": entry.listing.catalog, "repository": entry.listing.repository, "signed": entry.listing.signed,
        "channels": channels, "keywords": list(package.keywords), "namespace": package.namespace,
        "published_at": found.published_at if found else "", "published_by": found.published_by if found else "",
        "yanked": yanked,
        "deprecations": [{"message": advice.message, "replacement": advice.replacement, "channel": advice.channel,
                          "by": advice.by, "at": advice.at} for advice in package.advice(version)],
    }
