"""The catalog: templates and runnables of the installed extensions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fuseml_core.domain.errors import Conflict, NotFound
from fuseml_core.domain.extensions import InstalledExtension
from fuseml_core.service.extensions.ports import InstalledExtensions


class InstalledCatalog:
    """Reads the descriptors of installed extensions; nothing is imported or started."""

    def __init__(self, extensions: InstalledExtensions) -> None:
        self._extensions = extensions

    def templates(self) -> list[dict[str, Any]]:
        """Every template of the active extensions, by name; see `Catalog`."""
        found = []
        for extension in self._extensions.list():
            for template in extension.descriptor.get("templates") or []:
                found.append({"name": f"{extension.name}/{template['name']}", "short": template["name"],
                              "extension": extension.name, "version": extension.version, "digest": extension.digest,
                              "summary": template.get("summary", ""), "template": template})
        return sorted(found, key=lambda t: t["name"])

    def template(self, name: str) -> dict[str, Any]:
        """One template by `<extension>/<template>` or by its short name; see `Catalog`."""
        entries = self.templates()
        found = [t for t in entries if name in (t["name"], t["short"])]
        if len(found) == 1:
            return found[0]
        if found:
            raise Conflict(f"the template {name!r} is in several extensions",
                           hint=f"Write {' or '.join(t['name'] for t in found)}.")
        known = ", ".join(t["name"] for t in entries)
        raise NotFound(f"there is no pipeline template {name!r}",
                       hint=f"Known: {known}." if known else "No extension with templates is installed; see `fuseml extension install`.")

    def runnable(self, name: str, extension: str) -> dict[str, Any]:
        """A runnable by `<extension>/<name>`, or by name within `extension`; see `Catalog`."""
        owner, _, short = name.rpartition("/")
        found = self._extensions.get(owner or extension)
        if found is None:
            raise NotFound(f"the runnable {name!r} belongs to the extension {owner or extension!r}, which is not installed",
                           hint=f"Install it: fuseml extension install {owner or extension}.")
        return runnable_of(found, short)


def runnable_of(extension: InstalledExtension, name: str) -> dict[str, Any]:
    """A runnable of an installed extension, pinned by the digest of its bundle.

    Raises:
        NotFound: The extension has none of this name.
    """
    for descriptor in extension.descriptor.get("runnables") or []:
        if descriptor["name"] == name:
            return {"address": f"runnable://fuseml/{extension.name}/{name}@{extension.digest}",
                    "digest": extension.digest, "descriptor": descriptor,
                    "contents": Path(extension.store).as_uri()}
    known = ", ".join(d["name"] for d in extension.descriptor.get("runnables") or []) or "none"
    raise NotFound(f"the extension {extension.name} has no runnable {name!r}", hint=f"It has {known}.")
