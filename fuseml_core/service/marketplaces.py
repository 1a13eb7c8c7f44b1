"""Marketplaces: catalogs of extensions that this server follows, and the search through all that they offer."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from fuseml_core.domain.errors import FusemlError, Invalid, NotFound
from fuseml_core.service.extensions.ports import InstalledExtensions, Progress
from fuseml_sdk.manifest import NAME
from fuseml_sdk.versions import parse_range, parse_version

log = logging.getLogger(__name__)
CHANNELS = ("stable", "candidate", "edge")
KINDS = ("store", "agent", "builder", "runnable", "template")
#: Hits that one search may return.
MAX_HITS = 500


class Catalogs(Protocol):
    """The copies of catalogs that this server keeps."""

    def add(self, name: str, reference: str, keys: Sequence[str], channel: str | None,
            progress: Progress) -> dict[str, Any]:
        """Subscribe; raises when the catalog cannot be had or verified, and then nothing is left."""
        ...

    def list(self) -> list[dict[str, Any]]:
        """All marketplaces in the order of adding."""
        ...

    def show(self, name: str) -> dict[str, Any]:
        """One marketplace."""
        ...

    def update(self, name: str, progress: Progress) -> dict[str, Any]:
        """Fetch what changed."""
        ...

    def remove(self, name: str) -> None:
        """Forget a marketplace."""
        ...

    def search(self, text: str, channel: str, keyword: str, kind: str, limit: int) -> dict[str, Any]:
        """Find packages: `total`, `facets` and `items`, with what each channel offers and where it comes from."""
        ...

    def entry(self, name: str) -> dict[str, Any]:
        """Everything that the embedded registry or a marketplace says about a package.

        Raises:
            NotFound: Nobody knows it.
        """
        ...


class Marketplaces:
    """Subscribe to catalogs, keep them fresh, search them.

    Args:
        catalogs: The copies of the catalogs.
        records: Rows of installed extensions.
        engine: Version of FuseML, to mark what does not fit.
        interval: Seconds between automatic updates; 0 makes none.
    """

    def __init__(self, catalogs: Catalogs, records: InstalledExtensions, engine: str, interval: float) -> None:
        self._catalogs, self._records, self._engine = catalogs, records, parse_version(engine)
        self._interval, self._ended = interval, threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, name: str, reference: str, keys: Sequence[str], channel: str = "",
            progress: Progress | None = None) -> dict[str, Any]:
        """Subscribe to a catalog.

        Args:
            name: What it is called on this server.
            reference: `oci://host[:port]/namespace/catalog`.
            keys: Public keys in PEM; one of them must have signed the catalog.
            channel: What is taken by default; empty leaves it to each package.
            progress: Told what is being fetched.

        Raises:
            Invalid: A name, key, channel or reference is wrong.
            Conflict: The name is taken.
            NotFound, Failed, Unavailable: The catalog cannot be had, or is not signed by the keys.
        """
        if not NAME.match(name) or name == "embedded" or len(name) > 100:
            raise Invalid(f"{name!r} cannot be the name of a marketplace",
                          hint="Use lower-case letters, digits and single hyphens; `embedded` is taken.")
        if not keys:
            raise Invalid("a marketplace needs the public key of its curators", hint="Add --key FILE.")
        _check(channel, CHANNELS, "channel")
        return self._catalogs.add(name, reference, keys, channel or None, progress or _silent)

    def list(self) -> list[dict[str, Any]]:
        """All marketplaces in the order of adding, which is the order in which names are looked up."""
        return self._catalogs.list()

    def get(self, name: str) -> dict[str, Any]:
        """One marketplace."""
        return self._catalogs.show(name)

    def update(self, name: str, progress: Progress | None = None) -> dict[str, Any]:
        """Fetch what changed in a catalog; what was fetched before goes on being used if that fails."""
        return self._catalogs.update(name, progress or _silent)

    def remove(self, name: str) -> None:
        """Forget a marketplace; extensions installed from it stay."""
        self._catalogs.remove(name)

    def search(self, text: str = "", *, channel: str = "", keyword: str = "", kind: str = "",
               limit: int = 50) -> dict[str, Any]:
        """Search the embedded registry and all marketplaces.

        Args:
            text: Words that must all be there; none finds everything.
            channel: Only what subscribers of this channel get: stable, candidate or edge.
            keyword: Only packages with this keyword.
            kind: Only packages that bring a store, agent, builder, runnable or template.
            limit: Hits to return, at most 500.

        Returns:
            `total`, `facets` (channel, keyword, kind with counts), `marketplaces` that are not current, and `items`:
            `name`, `version`, `channel`, `summary`, `source`, `installed`, `incompatible`, `deprecated` and more.
        """
        _check(channel, CHANNELS, "channel")
        _check(kind, KINDS, "kind")
        found = self._catalogs.search(text, channel, keyword, kind, max(0, min(limit, MAX_HITS)))
        installed = {record.name: record.version for record in self._records.list()}
        return {**found, "items": [self._marked(item, channel, installed) for item in found["items"]]}

    def entry(self, name: str) -> dict[str, Any]:
        """Everything that is known of an extension that may not be installed; see :meth:`Catalogs.entry`."""
        if not NAME.match(name):
            raise NotFound(f"{name!r} is not the name of an extension")
        entry = self._catalogs.entry(name)
        record = self._records.get(name)
        fits = [{**version, "incompatible": self._misfit(version.get("requires_fuseml") or "*")}
                for version in entry["versions"]]
        return {**entry, "versions": fits, "installed": record.version if record else None}

    def start(self) -> None:
        """Keep the catalogs fresh in the background."""
        if self._interval > 0 and self._thread is None:
            self._thread = threading.Thread(target=self._refresh, name="fuseml-marketplaces", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End that; an update under way is given up with the process, which harms nothing."""
        self._ended.set()

    def _refresh(self) -> None:
        pause = min(60.0, self._interval)  # a server that just started has other things to do
        while not self._ended.wait(pause):
            pause = min(self._interval, 60.0)
            for name in self._due():
                try:
                    self._catalogs.update(name, _silent)
                except FusemlError as error:
                    log.warning("the marketplace %s was not updated: %s", name, error.message)
                except Exception:
                    log.exception("updating the marketplace %s", name)

    def _due(self) -> Sequence[str]:
        try:
            return [entry["name"] for entry in self._catalogs.list()
                    if time.time() - max(entry["checked_at"], entry["tried_at"]) >= self._interval]
        except FusemlError as error:
            log.warning("the marketplaces cannot be read: %s", error.message)
            return []

    def _marked(self, item: dict[str, Any], channel: str, installed: Mapping[str, str]) -> dict[str, Any]:
        """A hit as people see it: the version they would get, and why they could not have it."""
        offers: dict[str, dict[str, str]] = item["offers"]
        wanted = channel or item["channel"] or item["default_channel"]
        taken = wanted if wanted in offers else next(iter(offers), "")
        offer = offers.get(taken) or {"version": "", "requires_fuseml": "*"}
        here = installed.get(item["name"])
        return {**item, "version": offer["version"], "channel": taken, "installed": here,
                "upgrade": bool(here and offer["version"] and parse_version(offer["version"]) > parse_version(here)),
                "incompatible": self._misfit(offer["requires_fuseml"])}

    def _misfit(self, needed: str) -> str:
        if self._engine in parse_range(needed):
            return ""
        return f"needs FuseML {needed}; this is {self._engine}"


def _check(value: str, known: Sequence[str], what: str) -> None:
    if value and value not in known:
        raise Invalid(f"{value!r} is not a {what}", hint=f"There are: {', '.join(known)}.")


def _silent(_text: str) -> None:
    """Progress that nobody wants to see."""
