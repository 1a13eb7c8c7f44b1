"""Carrying out a plan: fetch, environments, health check, one transaction; until then nothing has changed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from fuseml_core.domain.errors import Unavailable
from fuseml_core.domain.extensions import ExtensionState, Generation, InstalledExtension
from fuseml_core.service.extensions.plan import Action, Plan, PlannedChange
from fuseml_core.service.extensions.ports import (
    Bundles,
    ComponentHost,
    Environments,
    FoundBundle,
    Generations,
    Progress,
    Switch,
)
from fuseml_core.service.extensions.resting import Resting
from fuseml_core.service.extensions.retention import Retention
from fuseml_core.service.extensions.settings import ExtensionSettings
from fuseml_core.service.extensions.store import BundleStore

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a generation is taken back: its number, and what went wrong."""

    number: int
    note: str


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A version that is ready to become active, and what undoing it takes."""

    record: InstalledExtension
    is_new_folder: bool
    is_new_environment: bool
    is_new_record: bool


class Changer:
    """Carries out plans. Its caller lets only one run at a time.

    Args:
        generations: Rows of generations.
        bundles: Registries.
        environments: Virtual environments.
        host: The plugin host.
        store: Unpacked bundles.
        settings: What is set.
        retention: Lets go of what nothing needs any more.
        resting: What must not be started.
        followers: What has to follow a change that brought something new, by kind of work.
    """

    def __init__(self, *, generations: Generations, bundles: Bundles, environments: Environments, host: ComponentHost,
                 store: BundleStore, settings: ExtensionSettings, retention: Retention, resting: Resting,
                 followers: Mapping[str, Callable[[], None]]) -> None:
        self._generations, self._bundles, self._environments = generations, bundles, environments
        self._host, self._store, self._settings = host, store, settings
        self._retention, self._resting, self._followers = retention, resting, followers

    def carry_out(self, plan: Plan, progress: Progress, *, offline: bool = False, forget: bool = False,
                  failure: Failure | None = None) -> Generation:
        """Do what a plan says. If anything fails before the switch, everything is as before.

        Args:
            plan: Made from the generation that is in force.
            progress: Told what is being done.
            offline: Ask no package index.
            forget: Drop the settings of what is removed.
            failure: The generation that is taken back, when that is why.

        Returns:
            The new generation, or the one in force when there is nothing to do.

        Raises:
            FusemlError: What a bundle, an environment or a health check says.
        """
        current = self._generations.current()
        if not plan.changes and tuple(plan.members) == current.members:
            return current
        coming = [change for change in plan.changes if change.action is not Action.REMOVE]
        prepared: list[_Prepared] = []
        try:
            for change in coming:
                say = progress if len(coming) == 1 else _named(progress, change.name)
                prepared.append(self._prepare(change, say, offline))
            tried = {item.record.digest: plan.settings.get(item.record.name, {}) for item in prepared}
            with self._settings.tried(tried):
                prepared = [self._check(item, progress) for item in prepared]
            made = self._switch(plan, prepared, forget, failure)
        except BaseException:
            if self._is_in_force(current):
                self._undo(prepared, {change.old.digest for change in plan.changes if change.old is not None})
            raise
        self._finish(plan, prepared, progress)
        return made

    def follow_up(self) -> None:
        """Do what switches left to be done, also those of a server that died; what fails is done at the next start."""
        for kind, cause in self._generations.work().items():
            try:
                if kind in self._followers:
                    self._followers[kind]()
                self._generations.done(kind)
            except Exception:
                log.exception("%s, after: %s", kind, cause)

    def follow_now(self, cause: str) -> None:
        """Do all that may have to follow where something came back without a change; what fails is logged."""
        for kind, act in self._followers.items():
            try:
                act()
            except Exception:
                log.exception("%s, after: %s", kind, cause)

    def _prepare(self, change: PlannedChange, progress: Progress, offline: bool) -> _Prepared:
        if change.found is None:
            assert change.kept is not None
            if not self._store.has(change.kept.digest):
                raise Unavailable(f"the files of {change.name} {change.kept.version} were removed meanwhile",
                               hint="Try again.")
            return _Prepared(change.kept, False, False, False)
        found = change.found
        is_new = not self._store.has(found.digest)
        path = self._store.path(found.digest)
        if is_new:
            path = self._store.put(found.digest, lambda folder: self._bundles.fetch(found, folder, progress))
        try:
            environment = self._environments.build(path, found.descriptor["manifest"], progress, offline=offline)
        except BaseException:
            if is_new:
                self._store.discard(found.digest)
            raise
        record = _record(found, str(path), environment.path if environment else None,
                         environment.python if environment else None)
        return _Prepared(record, is_new, environment is not None and environment.is_new, True)

    def _check(self, item: _Prepared, progress: Progress) -> _Prepared:
        """Start it beside what is in force; an extension that rests is registered and started when it is enabled."""
        record = item.record
        rest = self._resting.of(record.name) if record.components else None
        if rest is not None:
            progress(f"{record.name} is not started: {rest.reason}")
        elif record.components:
            count = len(record.components)
            progress(f"starting {record.name} ({count} component{'s' if count > 1 else ''})")
        self._host.prepare(record)
        described = self._host.check(record)
        return replace(item, record=replace(record, described=dict(described) or record.described))

    def _switch(self, plan: Plan, prepared: Sequence[_Prepared], forget: bool, failure: Failure | None) -> Generation:
        gone = [change.name for change in plan.changes if change.action is Action.REMOVE]
        return self._generations.switch(Switch(
            plan.cause, plan.members, plan.base, [item.record for item in prepared if item.is_new_record],
            settings=plan.settings, forget=gone if forget else (),
            work=tuple(self._followers) if prepared else (),
            watched=failure is None and any(item.record.components and self._resting.of(item.record.name) is None
                                            for item in prepared),
            failed=failure.number if failure else 0, note=failure.note if failure else ""))

    def _is_in_force(self, generation: Generation) -> bool:
        """Whether nothing was switched. If the database cannot be asked, the next start removes what is left over."""
        try:
            return self._generations.current().number == generation.number
        except Exception:
            log.exception("it is not known whether the change was made")
            return False

    def _undo(self, prepared: Sequence[_Prepared], before: set[str]) -> None:
        """Remove what was made. What was active before, even of the same digest, stays registered."""
        for item in reversed(prepared):
            if item.record.digest not in before:
                self._host.unload(item.record)
            else:
                self._host.discard(item.record)
            if item.is_new_environment and item.record.environment:
                self._environments.discard(item.record.environment)
            if item.is_new_folder:
                self._store.discard(item.record.digest)

    def _finish(self, plan: Plan, prepared: Sequence[_Prepared], progress: Progress) -> None:
        """The switch is made; trouble from here on must not make the change look failed."""
        stays = {item.record.digest for item in prepared}
        for item in prepared:
            _quietly(lambda record=item.record: self._host.put_in_force(record),  # type: ignore[misc]
                     f"putting {item.record.name} in force")
        for change in plan.changes:
            if change.old is not None and change.old.digest not in stays:
                _quietly(lambda old=change.old: self._host.unload(old), f"stopping {change.name}")  # type: ignore[misc]
        if prepared:
            self.follow_up()
        _quietly(self._retention.prune, "removing versions that nothing needs any more")
        for change in plan.changes:
            if change.action is Action.REMOVE:
                progress(f"{change.name} is gone")


def _record(found: FoundBundle, store: str, environment: str | None, python: str | None) -> InstalledExtension:
    return InstalledExtension(
        name=found.name, version=found.version, digest=found.digest, reference=found.reference,
        descriptor=found.descriptor, store=store, state=ExtensionState.ACTIVE, installed_at=time.time(),
        environment=environment, python=python, config=found.config)


def _named(progress: Progress, name: str) -> Progress:
    """Progress of one bundle among several."""
    return lambda text: progress(f"{name}: {text}")


def _quietly(call: Callable[[], object], what: str) -> None:
    try:
        call()
    except Exception:
        log.exception("%s failed", what)
