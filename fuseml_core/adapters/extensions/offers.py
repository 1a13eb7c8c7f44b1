"""Everything that can be installed: what the embedded registry holds and what marketplaces offer, in one view."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from fuseml_core.adapters.extensions.errors import translated
from fuseml_core.adapters.extensions.marketplaces import Marketplaces
from fuseml_core.domain.errors import NotFound
from fuseml_oci.bundles.descriptor import ExtensionDescriptor
from fuseml_oci.bundles.references import NAMESPACE, sorted_versions
from fuseml_oci.bundles.transfer import look_up
from fuseml_oci.catalog.format import Package
from fuseml_oci.catalog.search import Offer, Row
from fuseml_oci.client import RegistryClient
from fuseml_oci.reference import Reference
from fuseml_sdk.errors import NotFound as NothingThere
from fuseml_sdk.errors import PluginError

#: What the embedded registry is called where marketplaces are named.
EMBEDDED = "embedded"
#: Seconds for which the list of the embedded registry is good; a push shall be seen soon.
_FRESH = 2.0
_LINE = 300


class EmbeddedRows:
    """What the embedded registry holds, as rows for searching.

    Args:
        connect: Returns a client for the embedded registry.
    """

    def __init__(self, connect: Callable[[], RegistryClient]) -> None:
        self._connect, self._lock = connect, threading.Lock()
        self._rows: list[Row] = []
        self._until = 0.0
        self._descriptors: dict[tuple[str, str], ExtensionDescriptor] = {}

    def rows(self) -> Sequence[Row]:
        """One row for each extension; nothing while the registry does not answer."""
        with self._lock:
            if time.monotonic() > self._until:
                try:
                    self._rows = self._ask()
                except PluginError:
                    self._rows = []
                self._until = time.monotonic() + _FRESH
            return self._rows

    def versions(self, name: str) -> list[dict[str, Any]]:
        """The versions of an extension, the highest first, with what each needs."""
        client, repository = self._connect(), f"{NAMESPACE}/{name}"
        try:
            tags = sorted_versions(client.tags(repository))
        except NothingThere:
            return []
        return [{"version": tag, **self._descriptor(client, repository, tag).manifest.model_dump(
            mode="json", include={"requires_fuseml", "dependencies", "permissions"})} for tag in tags[:50]]

    def _ask(self) -> list[Row]:
        client = self._connect()
        names = [repository for repository in client.repositories() if repository.startswith(f"{NAMESPACE}/")]
        rows = []
        for repository in names:
            try:
                versions = sorted_versions(client.tags(repository))
                if versions:
                    rows.append(self._row(client, repository, versions))
            except PluginError:
                continue  # something else lies there
        return rows

    def _row(self, client: RegistryClient, repository: str, versions: list[str]) -> Row:
        releases = [version for version in versions if "-" not in version]
        descriptor = self._descriptor(client, repository, versions[0])
        manifest = descriptor.manifest
        offers = {"edge": Offer(versions[0], manifest.requires_fuseml)}
        if releases:
            needs = self._descriptor(client, repository, releases[0]).manifest.requires_fuseml
            offers = {channel: Offer(releases[0], needs) for channel in ("stable", "candidate", "edge")}
        kinds: list[str] = [component.family for component in manifest.components]
        kinds += (["runnable"] if descriptor.runnables else []) + (["template"] if descriptor.templates else [])
        keywords = tuple(getattr(manifest, "keywords", ()))
        text = " ".join((manifest.name, manifest.summary, *keywords, manifest.description[:600])).lower()
        return Row(manifest.name, NAMESPACE, manifest.summary[:_LINE], manifest.licence, keywords,
                   tuple(dict.fromkeys(kinds)), offers, "", text, "", "stable" if releases else "edge")

    def _descriptor(self, client: RegistryClient, repository: str, tag: str) -> ExtensionDescriptor:
        """What a version says of itself; versions never change, so each is asked for once."""
        key = (repository, tag)
        if key not in self._descriptors:
            if len(self._descriptors) > 2000:
                self._descriptors.clear()
            self._descriptors[key] = look_up(Reference(client.registry, repository, tag), client).descriptor
        return self._descriptors[key]


class Offers:
    """Implements the port `Catalogs` over marketplaces and the embedded registry.

    Args:
        marketplaces: Subscriptions of this server.
        embedded: Its own registry.
    """

    def __init__(self, marketplaces: Marketplaces, embedded: EmbeddedRows) -> None:
        self._marketplaces, self._embedded = marketplaces, embedded
        self.add, self.list, self.show = marketplaces.add, marketplaces.list, marketplaces.show
        self.update, self.remove = marketplaces.update, marketplaces.remove

    def search(self, text: str, channel: str, keyword: str, kind: str, limit: int) -> dict[str, Any]:
        """Find packages; what the embedded registry has wins over marketplaces, as in an installation."""
        hits, sources = self._marketplaces.search(self._embedded.rows(), text=text, channel=channel, keyword=keyword,
                                                  kind=kind, limit=limit)
        channels = self._marketplaces.channels()
        items = [{**asdict(row), "source": sources[row.name], "channel": channels.get(sources[row.name], "")}
                 for row in hits.rows]
        for item in items:
            item.pop("text")
            item.pop("digest")
        return {"total": hits.total, "facets": {name: dict(values) for name, values in hits.facets.items()},
                "marketplaces": self._marketplaces.outdated(), "items": items}

    def entry(self, name: str) -> dict[str, Any]:
        """Everything that is known of a package; corrections and advice of curators included."""
        with translated():
            row = next((row for row in self._embedded.rows() if row.name == name), None)
            own = self._embedded.versions(name) if row else []
        found = self._marketplaces.find(name)
        if row is None and found is None:
            raise NotFound(f"neither this server's registry nor a marketplace has an extension {name!r}",
                           hint="See: fuseml extension search, fuseml marketplace list")
        if row is not None:
            return {"name": name, "source": EMBEDDED, "summary": row.summary, "namespace": row.namespace,
                    "keywords": list(row.keywords), "kinds": list(row.kinds), "licence": row.licence,
                    "channels": {channel: [offer.version] for channel, offer in row.offers.items()},
                    "versions": own, "deprecations": [], "signers": [], "also_in": found[0] if found else ""}
        assert found is not None
        return self._package(*found)

    def _package(self, marketplace: str, package: Package) -> dict[str, Any]:
        dumped: dict[str, Any] = package.model_dump(mode="json", exclude={"api_version", "history"})
        dumped["channels"] = {channel: [entry["version"] for entry in entries]
                              for channel, entries in dumped["channels"].items()}
        dumped["signers"] = [key.fingerprint for key in package.signers.keys] if package.signers else []
        for version in dumped["versions"]:
            version["reference"] = self._marketplaces.locate(package.name, version["version"])
        return {**dumped, "source": marketplace, "also_in": ""}
