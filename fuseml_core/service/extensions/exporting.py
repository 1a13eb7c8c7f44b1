"""Exporting extensions: which bundles belong together, and an archive of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fuseml_core.domain.errors import Conflict, Invalid
from fuseml_core.domain.extensions import Generation, InstalledExtension, Member, TrustDecision
from fuseml_core.service.extensions.care_ports import ExportItem, Exports, Target
from fuseml_core.service.extensions.lock_file import write_lock
from fuseml_core.service.extensions.ports import (
    Bundles,
    FoundBundle,
    Generations,
    InstalledExtensions,
    Progress,
    Wish,
)
from fuseml_core.service.extensions.resolve import Goal, resolve


class Exporter:
    """The use case *export*.

    Args:
        records: Rows of installed extensions.
        generations: Rows of generations.
        bundles: Registries.
        exports: Makes archives.
        engine: Version of FuseML.
    """

    def __init__(self, records: InstalledExtensions, generations: Generations, bundles: Bundles, exports: Exports,
                 engine: str) -> None:
        self._records, self._generations, self._bundles = records, generations, bundles
        self._exports, self._engine = exports, engine

    def export(self, references: Sequence[str], target: Target, wish: Wish, progress: Progress) -> dict[str, Any]:
        """Gather some extensions and what they depend on.

        Args:
            references: Names, which stand for what is installed or else the best version; or references. None: all
                that is installed.
            target: The machine that the wheels are for.
            wish: Which versions may be chosen.
            progress: Told what is being done.

        Returns:
            `id`, `size` (bytes), `blobs` and `bundles`.

        Raises:
            Invalid, NotFound, Conflict, Unavailable, Failed: As the message says; trying again goes on.
        """
        items = self._closure(references, wish, progress)
        made = self._exports.make(items, self._lock(items), target, progress)
        return {"id": made.id, "size": made.size, "blobs": made.blobs, "bundles": list(made.bundles)}

    def _closure(self, references: Sequence[str], wish: Wish, progress: Progress) -> list[ExportItem]:
        if not references:
            return self._everything()
        progress(f"resolving {', '.join(references)}")
        goals = {goal.name: goal for goal in (self._goal(reference.strip(), wish) for reference in references)}
        if len(goals) != len(set(references)):
            raise Conflict("an extension is asked for twice")
        # What is installed beside these is no reason to choose other versions for another machine; its versions of
        # what they depend on are, because they were tested together here.
        wanted = {record.name: record for record in self._records.list()}
        chosen = resolve(list(goals.values()), self._needed(goals, wanted), self._bundles, self._engine, wish)
        items = {}
        for name, candidate in chosen.items():
            found = candidate.found or (_as_found(candidate.installed) if candidate.installed else None)
            if found is not None:
                items[name] = ExportItem(found, name in goals)
        return _ordered(items)

    def _everything(self) -> list[ExportItem]:
        current = self._generations.current()
        items = {record.name: ExportItem(_as_found(record), _is_requested(current, record))
                 for record in self._records.list()}
        if not items:
            raise Invalid("nothing is installed, so there is nothing to export",
                          hint="Name what to export: fuseml extension export NAME -o FILE")
        return _ordered(items)

    def _goal(self, reference: str, wish: Wish) -> Goal:
        installed = self._records.get(reference)
        found = _as_found(installed) if installed is not None else self._bundles.find(reference, wish)
        return Goal(found.name, found, found.reference)

    @staticmethod
    def _needed(goals: dict[str, Goal], installed: dict[str, InstalledExtension]) -> list[InstalledExtension]:
        """Installed extensions that the goals depend on, however far."""
        found: dict[str, InstalledExtension] = {}
        waiting = [d["name"] for goal in goals.values() if goal.found is not None
                   for d in goal.found.descriptor["manifest"].get("dependencies") or []]
        while waiting:
            name = waiting.pop()
            if name in installed and name not in found and name not in goals:
                found[name] = installed[name]
                waiting += [d["name"] for d in installed[name].dependencies]
        return list(found.values())

    def _lock(self, items: Sequence[ExportItem]) -> str:
        """The lock that another machine would have after installing exactly these."""
        known = {member.digest: member for member in self._generations.current().members}
        members = [known.get(item.found.digest) or Member(
            item.found.name, item.found.version, item.found.digest, item.found.reference, item.requested,
            TrustDecision(False)) for item in items]
        records = [record for record in self._records.all() if record.digest in {m.digest for m in members}]
        return write_lock(Generation(0, "export", 0.0, tuple(members)), records, self._bundles)


def _as_found(record: InstalledExtension) -> FoundBundle:
    return FoundBundle(record.reference, record.digest, record.descriptor, record.config)


def _is_requested(current: Generation, record: InstalledExtension) -> bool:
    member = current.member(record.name)
    return member is None or member.requested


def _ordered(items: dict[str, ExportItem]) -> list[ExportItem]:
    """Dependencies before what needs them, by name where that leaves a choice: equal exports, equal order."""
    done: dict[str, ExportItem] = {}

    def visit(name: str) -> None:
        if name in done or name not in items:
            return
        for dependency in sorted(d["name"] for d in items[name].found.descriptor["manifest"].get("dependencies") or []):
            if dependency != name:
                visit(dependency)
        done[name] = items[name]

    for name in sorted(items):
        visit(name)
    return list(done.values())
