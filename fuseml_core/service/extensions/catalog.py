"""Templates and runnables of the installed extensions, looked up by name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fuseml_core.domain.errors import Conflict, Invalid, NotFound, Refused
from fuseml_core.domain.extensions import InstalledExtension, Rest
from fuseml_core.service.extensions.ports import InstalledExtensions

#: Project in the addresses of runnables that extensions bring.
PROJECT = "fuseml"


class ExtensionCatalog:
    """What pipelines can be made of.

    Args:
        records: Rows of installed extensions.
        resting: Why nothing of an extension is offered; None when it is.
    """

    def __init__(self, records: InstalledExtensions,
                 resting: Callable[[str], Rest | None] = lambda _name: None) -> None:
        self._records, self._resting = records, resting

    def templates(self) -> list[dict[str, Any]]:
        """Every template that is offered, by name, as :meth:`template` gives them."""
        return self._templates([record for record in self._records.list() if self._resting(record.name) is None])

    @staticmethod
    def _templates(records: Sequence[InstalledExtension]) -> list[dict[str, Any]]:
        entries = [_template(record, template) for record in records
                   for template in record.descriptor.get("templates") or []]
        shorts = [entry["short"] for entry in entries]
        for entry in entries:
            if shorts.count(entry["short"]) > 1:
                entry["short"] = entry["name"]
        return sorted(entries, key=lambda entry: str(entry["name"]))

    def template(self, name: str) -> dict[str, Any]:
        """One template by `<extension>/<template>`, or by its short name where that is unique.

        Returns:
            `name`, `short`, `summary`, `extension`, `version`, `extension_digest`, `digest` (of the template) and
            `template`, the document as the bundle has it.

        Raises:
            NotFound: There is none; the message lists what there is.
            Conflict: The short name is ambiguous.
            Refused: Its extension is disabled.
        """
        every = self.templates()
        found = [entry for entry in every if name in (entry["name"], entry["template"]["name"])]
        if not found:
            self._refuse_resting(name)
            there = ", ".join(entry["short"] for entry in every)
            raise NotFound(f"there is no template {name!r}", hint=f"There are: {there}." if there else
                           "No extension is installed; see: fuseml extension install --help")
        if len(found) > 1:
            names = ", ".join(entry["name"] for entry in found)
            raise Conflict(f"the template name {name!r} is ambiguous: {names}", hint="Write the full name.")
        return found[0]

    def _refuse_resting(self, name: str) -> None:
        for entry in self._templates(self._records.list()):
            if name in (entry["name"], entry["template"]["name"]):
                self._refuse(entry["extension"], f"the template {name!r} cannot be used")

    def _refuse(self, extension: str, what: str) -> None:
        rest = self._resting(extension)
        if rest is not None:
            raise Refused(f"{what}: {rest.reason}", hint=rest.hint, details={"extension": extension})

    def version(self, digest: str) -> str:
        """The version that a bundle digest is; empty when it is not known any more."""
        record = self._records.by_digest(digest)
        return record.version if record is not None else ""

    def runnable(self, name: str, extension: str) -> dict[str, Any]:
        """A runnable by `<extension>/<name>`, by its address, or by name within `extension`.

        Args:
            name: As a template step names it.
            extension: The one whose template it is.

        Returns:
            `address`, `digest` (of the bundle), `descriptor`, and `contents`, the URI of the unpacked bundle.

        Raises:
            NotFound: There is none.
            Invalid: It is a plugin, which no step can run.
            Refused: Its extension is disabled.
        """
        bare = name.removeprefix(f"runnable://{PROJECT}/").partition("@")[0]
        owner, _, short = bare.rpartition("/")
        record = self._records.get(owner or extension)
        if record is None:
            raise NotFound(f"the runnable {name!r} belongs to the extension {owner or extension!r}, which is not "
                           "installed", hint=f"Install it: fuseml extension install {owner or extension}")
        self._refuse(record.name, f"the runnable {name!r} cannot be used")
        for descriptor in record.descriptor.get("runnables") or []:
            if descriptor["name"] == short:
                return {"address": f"runnable://{PROJECT}/{record.name}/{short}@{record.digest}",
                        "digest": record.digest, "descriptor": descriptor, "contents": Path(record.store).as_uri()}
        check_is_no_plugin(record, short)
        raise NotFound(f"the extension {record.name} {record.version} has no runnable {short!r}")


def check_is_no_plugin(record: InstalledExtension, name: str) -> None:
    """Refuse the name of a plugin where a step's runnable is wanted.

    Raises:
        Invalid: The extension has a plugin of this name.
    """
    for component in record.components:
        if component["name"] == name:
            family = component["family"]
            raise Invalid(f"{record.name}/{name} is {'an' if family == 'agent' else 'a'} {family}: it serves FuseML "
                          "itself and cannot be a step of a pipeline",
                          hint=f"Runnables for steps: {_names(record) or 'this extension has none'}.")


def _names(record: InstalledExtension) -> str:
    return ", ".join(f"{record.name}/{runnable['name']}" for runnable in record.descriptor.get("runnables") or [])


def _template(record: InstalledExtension, template: dict[str, Any]) -> dict[str, Any]:
    canonical = json.dumps(template, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return {"name": f"{record.name}/{template['name']}", "short": template["name"],
            "summary": template.get("summary") or "", "extension": record.name, "version": record.version,
            "extension_digest": record.digest, "digest": "sha256:" + hashlib.sha256(canonical.encode()).hexdigest(),
            "template": template}
