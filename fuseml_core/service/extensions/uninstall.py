"""Planning to uninstall extensions, with the dependencies that nothing wants any more."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from fuseml_core.domain.errors import NotFound, Refused
from fuseml_core.domain.extensions import InstalledExtension, Member
from fuseml_core.service.extensions.plan import Action, Plan, PlannedChange
from fuseml_core.service.extensions.planning import UNKNOWN, ordered
from fuseml_core.service.extensions.ports import FindWork, Generations, InstalledExtensions


class Uninstaller:
    """Plans to uninstall; changes nothing.

    Args:
        records: Rows of installed extensions.
        generations: Rows of generations.
        users: Pipelines and projects that use an extension, by its name, for people to read.
        work: Finds the work that is going on with an extension.
    """

    def __init__(self, records: InstalledExtensions, generations: Generations,
                 users: Callable[[str], list[str]], work: FindWork) -> None:
        self._records, self._generations, self._users, self._work = records, generations, users, work

    def plan(self, names: Sequence[str], *, force: bool, prune: bool, drain: bool = False) -> Plan:
        """Plan to remove extensions.

        Args:
            names: What to remove.
            force: Even if other extensions or pipelines use it.
            prune: Remove also dependencies that nobody asked for and nothing else needs.
            drain: What agents work on is going to be waited for, and keeps nothing.

        Raises:
            NotFound: One is not installed.
            Refused: Other extensions, pipelines or workloads use one, and `force` is not given.
        """
        active = {record.name: record for record in self._records.list()}
        for name in names:
            if name not in active:
                raise NotFound(f"the extension {name!r} is not installed", hint="List them with: fuseml extension list")
        current = self._generations.current()
        members = {name: current.member(name) or Member(name, r.version, r.digest, r.reference, True, UNKNOWN)
                   for name, r in active.items()}
        gone = dict.fromkeys(names, "")
        if prune:
            gone |= self._orphans(active, members, gone)
        warnings = self.users_of(list(gone), active, force=force, doing="uninstalled", drain=drain)
        if not prune:
            left = self._orphans(active, members, gone)
            warnings += [f"{name} is there only as a dependency of {why}; remove it as well with --prune"
                         for name, why in left.items()]
        dependents_first = reversed(ordered({n: active[n] for n in gone}, _needs))
        changes = [PlannedChange(record.name, Action.REMOVE, old=record, why=[gone[record.name]] if gone[record.name]
                                 else []) for record in dependents_first]
        return Plan(f"uninstall {', '.join(names)}", current.number, changes,
                    [member for name, member in sorted(members.items()) if name not in gone], warnings)

    def users_of(self, gone: Sequence[str], active: Mapping[str, InstalledExtension], *, force: bool,
                 doing: str, drain: bool = False) -> list[str]:
        """Refuse to take away what other extensions or pipelines use; with `force`, return it as warnings.

        Raises:
            Refused: Something uses one of them.
        """
        stays = [other for other in active.values() if other.name not in gone]
        dependents = {name: [other.name for other in stays if name in _needs(other)] for name in gone}
        users = {name: self._users(name) for name in gone}
        reasons = [f"the extension {other} depends on {_it(name, gone)}" for name in gone for other in dependents[name]]
        reasons += [f"{user} uses {_it(name, gone)}" for name in gone for user in users[name]]
        hint = "Remove those first, or do it with --force."
        if any(user.startswith("the pipeline ") for found in users.values() for user in found):
            hint = ("Remove those first (fuseml pipeline remove NAME --project PROJECT), or do it with --force: "
                    "pipelines go on with the version that they have.")
        running = [f"{entry.text} runs on an agent of {_it(name, gone)}"
                   for name in gone for entry in self._work(name) if entry.agent and not drain]
        if running and not reasons:
            hint = "Wait for it with --drain SECONDS, end it, or do it with --force: it is lost then."
        reasons += running
        if reasons and not force:
            raise Refused(f"{', '.join(gone)} cannot be {doing}: {'; '.join(reasons)}", hint=hint,
                          details={"extensions": sorted({d for found in dependents.values() for d in found}),
                                   "pipelines": sorted({u for found in users.values() for u in found})})
        return reasons

    @staticmethod
    def _orphans(active: Mapping[str, InstalledExtension], members: Mapping[str, Member],
                 gone: Collection[str]) -> dict[str, str]:
        """What nobody asked for and only `gone` and other orphans need, and whose dependency it was."""
        orphans: dict[str, str] = {}
        while True:
            left = {name: record for name, record in active.items() if name not in gone and name not in orphans}
            needed = {name for record in left.values() for name in _needs(record)}
            wanted_by = {name: record.name for record in active.values() for name in _needs(record)
                         if record.name in gone or record.name in orphans}
            new = {name: wanted_by[name] for name in left
                   if name in wanted_by and name not in needed and not members[name].requested}
            if not new:
                return orphans
            orphans |= new


def _needs(record: InstalledExtension) -> list[str]:
    return [dependency["name"] for dependency in record.dependencies]


def _it(name: str, gone: Sequence[str]) -> str:
    return "it" if len(gone) == 1 else name
