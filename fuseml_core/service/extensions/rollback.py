"""Planning to go back to an earlier generation; its files are still here, so nothing is asked of the network."""

from __future__ import annotations

from collections.abc import Sequence

from fuseml_core.domain.errors import Conflict, NotFound, Refused, Unavailable
from fuseml_core.domain.extensions import Generation, GenerationState, InstalledExtension, Member
from fuseml_core.service.extensions.plan import Action, Plan, PlannedChange, action_of
from fuseml_core.service.extensions.planning import is_whole, ordered
from fuseml_core.service.extensions.ports import Bundles, Generations, InstalledExtensions
from fuseml_core.service.extensions.settings import ExtensionSettings
from fuseml_core.service.extensions.store import BundleStore
from fuseml_core.service.extensions.uninstall import Uninstaller


class Rollbacks:
    """Plans rollbacks; changes nothing.

    Args:
        records: Rows of installed extensions.
        generations: Rows of generations.
        settings: What is set.
        store: Unpacked bundles.
        bundles: Knows what the policy does not trust any more.
        uninstaller: Knows who uses what would be taken away.
    """

    def __init__(self, records: InstalledExtensions, generations: Generations, settings: ExtensionSettings,
                 store: BundleStore, bundles: Bundles, uninstaller: Uninstaller) -> None:
        self._records, self._generations, self._settings = records, generations, settings
        self._store, self._bundles, self._uninstaller = store, bundles, uninstaller

    def plan(self, to: int | None, *, force: bool, cause: str = "") -> Plan:
        """Plan a new generation with the members of an earlier one.

        Args:
            to: Number of the generation, 0 when nothing was installed; None: the last one before the one in force that
                was different and worked.
            force: Even if something uses what would be taken away.
            cause: Of a rollback that the server makes by itself, which keeps what is there in any case.

        Raises:
            NotFound: The generation is not kept.
            Unavailable: Files of a member are gone.
            Conflict: There is nothing to go back to.
            Refused: Something uses what would be taken away, or the policy does not trust an old version any more.
            Invalid: A setting that an old version needs is missing.
        """
        current, target = self._generations.current(), self._target(to)
        active = {record.name: record for record in self._records.list()}
        kept = {member.name: self._kept(member, target) for member in target.members}
        needs = ordered(kept, lambda record: [dependency["name"] for dependency in record.dependencies])
        changes = [self._change(record, active.get(record.name), target) for record in needs
                   if active.get(record.name) is None or active[record.name].digest != record.digest]
        if not cause:
            self._check_trust(changes)
        gone = [name for name in active if name not in kept]
        warnings = self._uninstaller.users_of(gone, active, force=force, doing="taken away") if gone else []
        for change in changes:
            if change.member is not None:
                warnings += self._bundles.advice(change.member.reference, change.name, change.member.version)
            warnings += self._settings.foresee(change, {})
        changes += [PlannedChange(name, Action.REMOVE, old=active[name]) for name in gone]
        return Plan(cause or f"rollback to {target.number}", current.number, changes, target.members, warnings)

    def _check_trust(self, changes: Sequence[PlannedChange]) -> None:
        """What was signed when it was installed still is; but a place may be rejected, or a key taken out, by now."""
        for change in changes:
            member = change.member
            doubt = self._bundles.doubt(member.name, member.reference, member.trust) if member is not None else None
            if doubt is not None and member is not None:
                raise Refused(f"{member.name} {member.version} is not trusted any more: {doubt.reason}",
                              hint=doubt.hint)

    def _target(self, to: int | None) -> Generation:
        kept = self._generations.list()
        if to == 0:
            return Generation(0, "", 0.0, ())
        if to is not None:
            found = self._generations.get(to)
            if found is None:
                there = ", ".join(str(generation.number) for generation in kept) or "none"
                raise NotFound(f"there is no generation {to} any more", hint=f"Kept are {there}; see: fuseml extension "
                               "history. FUSEML_EXTENSION_GENERATIONS says how many are kept.")
            if kept and found.number == kept[0].number:
                raise Conflict(f"generation {to} is in force already")
            return found
        digests = {member.digest for member in kept[0].members} if kept else set()
        for generation in kept[1:]:
            if generation.state is not GenerationState.FAILED and digests != {m.digest for m in generation.members}:
                return generation
        raise Conflict("there is no earlier generation to go back to",
                       hint="See: fuseml extension history. FUSEML_EXTENSION_GENERATIONS says how many are kept.")

    def _kept(self, member: Member, target: Generation) -> InstalledExtension:
        record = self._records.by_digest(member.digest)
        if record is None or not is_whole(self._store, record):
            raise Unavailable(f"the files of {member.name} {member.version}, which generation {target.number} has, are "
                              "gone", hint=f"Install that version again: fuseml extension install {member.reference}")
        return record

    @staticmethod
    def _change(record: InstalledExtension, old: InstalledExtension | None, target: Generation) -> PlannedChange:
        size = sum(int(layer["size"]) for layer in record.descriptor.get("layers") or [])
        return PlannedChange(record.name, action_of(old, record.version, record.digest), old, None, record,
                             target.member(record.name), size=size)
