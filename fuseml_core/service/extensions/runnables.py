"""Plugins of installed extensions as what they are: runnables that serve FuseML itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fuseml_core.domain.addresses import parse_address, short_form
from fuseml_core.domain.errors import NotFound
from fuseml_core.domain.extensions import InstalledExtension
from fuseml_core.service.extensions.catalog import PROJECT
from fuseml_core.service.extensions.ports import InstalledExtensions
from fuseml_core.service.extensions.resting import Resting

_SCHEME = "runnable"


class PluginRunnables:
    """Shows agents, builders and stores of extensions as runnables of these kinds.

    They come and go with the extensions: each is there in the version that is in force. That version, and those that
    are still kept, can be looked up by digest.

    Args:
        records: Rows of installed extensions.
        resting: Says which are not loaded.
    """

    def __init__(self, records: InstalledExtensions, resting: Resting) -> None:
        self._records, self._resting = records, resting

    def list(self) -> list[dict[str, Any]]:
        """One for each plugin of the installed extensions, newest first, in the form of artifact versions.

        Returns:
            `type` is the family of the plugin; `metadata` has `descriptor`, `extension`, `version`, `state`.
        """
        found = [view for record in self._records.list() for view in self._of(record)]
        return sorted(found, key=lambda view: (-view["created_at"], view["address"]))

    def find(self, address: str, project: str) -> dict[str, Any]:
        """The one that an address means.

        Args:
            address: `runnable://fuseml/<extension>/<plugin>`, with a digest or without.
            project: Stands in where the address names none.

        Raises:
            NotFound: There is none.
            Invalid: It is no address.
        """
        wanted = parse_address(address, project)
        if wanted.kind == _SCHEME:
            for view in self._versions(wanted.name):
                named = wanted.digest or wanted.short
                if view["name"] == wanted.name and view["digest"].partition(":")[2].startswith(named.partition(":")[2]
                                                                                             or named):
                    return view
        raise NotFound(f"there is no plugin with the address {address}", hint="See: fuseml runnable list")

    def _versions(self, name: str) -> Sequence[dict[str, Any]]:
        extension = name.partition("/")[0]
        return [view for record in self._records.versions(extension) for view in self._of(record)]

    def _of(self, record: InstalledExtension) -> Iterator[dict[str, Any]]:
        rest = self._resting.of(record.name)
        for entry in record.components:
            name = f"{record.name}/{entry['name']}"
            family = str(entry["family"])
            described = record.described.get(f"{family}/{entry['name']}") or {}
            yield {
                "address": f"{_SCHEME}://{PROJECT}/{name}@{record.digest}",
                "short": short_form(_SCHEME, PROJECT, name, record.digest), "kind": _SCHEME, "project": PROJECT,
                "name": name, "digest": record.digest, "seq": 1, "type": family, "size": None,
                "location": record.reference, "aliases": [], "labels": {"extension": record.name},
                "metadata": {
                    "descriptor": {"kind": family, "name": entry["name"], "summary": entry.get("summary") or "",
                                   **described},
                    "extension": record.name, "version": record.version,
                    "state": rest.state if rest else record.state.value},
                "management": "extension", "created_at": record.installed_at, "producer": None, "change": ""}
