"""One object for everything that can be done with extensions; the API and the composition root know only this."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from fuseml_core.domain.errors import FusemlError
from fuseml_core.domain.extensions import Generation, InstalledExtension
from fuseml_core.service.extensions.carry_out import Changer, Failure
from fuseml_core.service.extensions.configure import Configurator
from fuseml_core.service.extensions.history import history_view
from fuseml_core.service.extensions.lock_file import plan_locked, write_lock
from fuseml_core.service.extensions.options import Options
from fuseml_core.service.extensions.plan import Plan
from fuseml_core.service.extensions.planning import Planner
from fuseml_core.service.extensions.ports import (
    Bundles,
    ChangeLock,
    ComponentHost,
    Environments,
    FindWork,
    Generations,
    InstalledExtensions,
    Progress,
)
from fuseml_core.service.extensions.resting import Resting
from fuseml_core.service.extensions.retention import Retention
from fuseml_core.service.extensions.rollback import Rollbacks
from fuseml_core.service.extensions.settings import ExtensionSettings
from fuseml_core.service.extensions.show import Showing
from fuseml_core.service.extensions.store import BundleStore
from fuseml_core.service.extensions.switching import Switching
from fuseml_core.service.extensions.uninstall import Uninstaller
from fuseml_core.service.extensions.watch import GraceWatch

log = logging.getLogger(__name__)
#: Seconds that a change waits for another one.
_PATIENCE = 3600.0


class Extensions:
    """Install, upgrade, roll back, list, inspect, configure and uninstall extensions; safe in several threads.

    Args:
        records: Rows of installed extensions.
        generations: Rows of generations.
        lock: Lets one change run at a time.
        settings: What people set for them.
        bundles: Registries.
        environments: Virtual environments.
        host: The plugin host.
        store: Folder of unpacked bundles, such as `<home>/extensions/store`.
        engine: Version of FuseML, for `requires_fuseml`.
        users: Pipelines and projects that use an extension, by its name; shown when an uninstallation is refused.
        pinned: Whether a pipeline or run still needs the files of a bundle digest.
        followers: What has to follow a change that brought something new, by kind: `redetect` looks again at the
            types of codesets. Done at the latest after the next start.
        work: Finds the work that is going on with an extension.
        resting: Says of which extensions nothing is loaded.
        keep: Number of generations that are kept.
        grace: Seconds that components of a new generation are watched.
    """

    def __init__(self, *, records: InstalledExtensions, generations: Generations, lock: ChangeLock,
                 settings: ExtensionSettings, bundles: Bundles, environments: Environments, host: ComponentHost,
                 store: Path, engine: str, users: Callable[[str], list[str]], pinned: Callable[[str], bool],
                 work: FindWork, resting: Resting,
                 followers: Mapping[str, Callable[[], None]] | None = None, keep: int = 5,
                 grace: float = 15.0) -> None:
        self._records, self._generations, self._lock = records, generations, lock
        self._bundles, self._host, self._settings = bundles, host, settings
        folder = BundleStore(store)
        self._planner = Planner(records, generations, bundles, settings, folder, engine)
        self._uninstaller = Uninstaller(records, generations, users, work)
        self._rollbacks = Rollbacks(records, generations, settings, folder, bundles, self._uninstaller)
        self._retention = Retention(records=records, generations=generations, settings=settings, bundles=bundles,
                                    environments=environments, host=host, store=folder, pinned=pinned, keep=keep)
        self._changer = Changer(generations=generations, bundles=bundles, environments=environments, host=host,
                                store=folder, settings=settings, retention=self._retention, resting=resting,
                                followers=followers or {})
        self._configurator = Configurator(settings, host, records)
        self._resting = resting
        self._switching = Switching(records, settings, host, resting, work)
        self._showing = Showing(records, generations, settings, host, bundles, resting)
        self._watch = GraceWatch(records, generations, host, grace, self._take_back)

    # -- changes ---------------------------------------------------------------------------------------------------

    def install(self, references: Sequence[str], options: Options | None = None,
                progress: Progress | None = None) -> dict[str, Any]:
        """Install bundles and what they depend on; see :meth:`Planner.install`. Waits while another change runs.

        Returns:
            `plan`, `generation` (None for a dry run) and `extensions`, those asked for as :meth:`get` shows them.
        """
        given = options or Options()
        asked = ", ".join(references)

        def plan(say: Progress) -> Plan:
            say(f"resolving {asked}")
            return self._planner.install(references, given)

        return self._change(f"install {asked}", plan, given, progress)

    def upgrade(self, names: Sequence[str], options: Options | None = None,
                progress: Progress | None = None) -> dict[str, Any]:
        """Upgrade some extensions, or all when no name is given; see :meth:`Planner.upgrade` and :meth:`install`."""
        given = options or Options()

        def plan(say: Progress) -> Plan:
            say(f"looking for newer versions of {', '.join(names) or 'all extensions'}")
            return self._planner.upgrade(names, given)

        return self._change(f"upgrade {', '.join(names) or '--all'}", plan, given, progress)

    def install_locked(self, text: str, names: Collection[str] = (), options: Options | None = None,
                       progress: Progress | None = None) -> dict[str, Any]:
        """Install exactly what a `fuseml.lock` says; see :func:`plan_locked` and :meth:`install`."""
        given = options or Options()
        return self._change("install --locked", lambda _say: plan_locked(text, names, self._planner, self._bundles,
                                                                         given), given, progress)

    def rollback(self, to: int | None = None, options: Options | None = None,
                 progress: Progress | None = None) -> dict[str, Any]:
        """Go back to an earlier generation; see :meth:`Rollbacks.plan` and :meth:`install`."""
        given = options or Options()
        what = f"rollback to {to}" if to is not None else "rollback"
        return self._change(what, lambda _say: self._rollbacks.plan(to, force=given.force), given, progress)

    def uninstall(self, names: Sequence[str], options: Options | None = None, *, prune: bool = False,
                  drain: float = 0.0, progress: Progress | None = None) -> dict[str, Any]:
        """Uninstall; see :meth:`Uninstaller.plan` and :meth:`install`. The settings are dropped.

        Args:
            names: What to remove.
            options: How.
            prune: Remove also dependencies that nobody asked for and nothing else needs.
            drain: Seconds to wait for the end of what goes on with them; they are given nothing new meanwhile.
            progress: Told what is being done.
        """
        given, say = options or Options(), progress or (lambda _text: None)

        def remove() -> dict[str, Any]:
            return self._change(f"uninstall {', '.join(names)}",
                                lambda _say: self._uninstaller.plan(names, force=given.force, prune=prune), given,
                                progress, forget=True)

        if not drain or given.dry_run:
            return remove()
        # What keeps them in any case is said before anything is waited for.
        self._uninstaller.plan(names, force=given.force, prune=prune, drain=True)
        with self._resting.leaving(names):
            self._switching.drain(names, drain, say)
            return remove()

    def disable(self, name: str) -> dict[str, Any]:
        """Disable an extension; see :meth:`Switching.disable`. Waits while another change runs.

        Returns:
            As :meth:`get`, and `notes`: what goes on all the same, and what cannot.
        """
        with self._lock.alone(f"disable {name}", _PATIENCE, lambda _text: None):
            notes = self._switching.disable(name)
        return {**self.get(name), "notes": notes}

    def enable(self, name: str, progress: Progress | None = None) -> dict[str, Any]:
        """Enable an extension; see :meth:`Switching.enable`. Returns it as :meth:`get` does."""
        say = progress or (lambda _text: None)
        with self._lock.alone(f"enable {name}", _PATIENCE, say):
            self._switching.enable(name, say)
        self._changer.follow_now(f"enable {name}")
        return self.get(name)

    def _change(self, what: str, plan: Callable[[Progress], Plan], options: Options, progress: Progress | None, *,
                forget: bool = False) -> dict[str, Any]:
        say = progress or (lambda _text: None)
        if options.dry_run:
            return {"plan": plan(say).view(self._host.judge, self._limits), "generation": None, "extensions": []}
        with self._lock.alone(what, _PATIENCE, say):
            planned = plan(say)
            _tell(planned, say)
            # What was disabled and then uninstalled begins anew.
            self._resting.enable([change.name for change in planned.changes if change.old is None])
            made = self._changer.carry_out(planned, say, offline=options.wish.offline, forget=forget)
            changed = {change.name for change in planned.changes}
            for record in self._records.list():
                if record.name in changed and self._resting.of(record.name) is not None:
                    self._switching.load(record)  # the agents that have workloads go on in the new version
        self._watch.begin()
        return {"plan": planned.view(self._host.judge, self._limits), "generation": made.number,
                "extensions": [self._showing.show(record) for record in self._records.list() if record.name in changed]}

    def _limits(self, manifest: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
        return self._settings.limits.view(manifest, self._host.judge_limit)

    def _take_back(self, number: int, why: str) -> None:
        """Roll a generation back whose components did not stay up."""
        cause = f"automatic rollback of generation {number}"
        with self._lock.alone(cause, _PATIENCE, lambda _text: None):
            if self._generations.current().number != number:
                return
            try:
                planned = self._rollbacks.plan(self._before(number), force=True, cause=cause)
                made = self._changer.carry_out(planned, log.warning, failure=Failure(number, why))
            except FusemlError as error:
                log.error("generation %d of the extensions does not work (%s) and cannot be taken back: %s", number,
                          why, error.message)
                self._generations.settle(number)
                return
        log.error("generation %d of the extensions was taken back; generation %d is in force: %s", number, made.number,
                  why)

    def _before(self, number: int) -> int | None:
        """The generation before one, as far as it is kept; 0 before the first, when nothing was installed."""
        return 0 if number == 1 else next((g.number for g in self._generations.list() if g.number < number), None)

    # -- settings --------------------------------------------------------------------------------------------------

    def config(self, name: str) -> dict[str, Any]:
        """The settings of an extension and which there are; see :meth:`ExtensionSettings.show`."""
        return self._settings.show(name)

    def configure(self, name: str, values: Mapping[str, Any], unset: Collection[str] = (),
                  limits: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Change settings and limits; see :meth:`Configurator.configure`. Waits while another change runs.

        Returns:
            The settings as :meth:`config` shows them.
        """
        with self._lock.alone(f"configure {name}", _PATIENCE, lambda _text: None):
            self._configurator.configure(name, values, unset, limits)
        return self._settings.show(name)

    # -- looking ---------------------------------------------------------------------------------------------------

    def list(self) -> list[dict[str, Any]]:
        """The active extensions by name, as :meth:`get` shows them."""
        current = self._generations.current()
        return [self._showing.show(record, current) for record in self._records.list()]

    def get(self, name: str) -> dict[str, Any]:
        """One extension, for people and programs; see :meth:`Showing.show`.

        Raises:
            NotFound: It is not installed.
        """
        return self._showing.detail(self._settings.installed(name))

    def history(self) -> Sequence[dict[str, Any]]:
        """The generations that are kept, the newest first; see :func:`history_view`."""
        return history_view(self._generations.list())

    def lock(self) -> str:
        """What is installed as `fuseml.lock`; see :func:`write_lock`."""
        return write_lock(self._generations.current(), self._records.list(), self._bundles)

    def generation(self) -> Generation:
        """The generation in force."""
        return self._generations.current()

    # -- life ------------------------------------------------------------------------------------------------------

    def load_installed(self) -> Sequence[InstalledExtension]:
        """At start: register the components of active extensions, starting none, and remove what nothing needs.

        Returns:
            The active extensions.
        """
        self._generations.embedded_at(self._bundles.embedded())
        interrupted = self._lock.interrupted()
        if interrupted:
            log.warning("the server died while it changed the extensions (%s); generation %d is in force", interrupted,
                        self._generations.current().number)
        active = self._records.list()
        for record in active:
            self._switching.load(record)
        self._retention.prune()
        self._retention.clean()
        return active

    def resume(self) -> None:
        """After the start: do what a change that was cut short left to be done, and watch a new generation again."""
        self._changer.follow_up()
        self._watch.begin()

    def stop(self) -> None:
        """Before the end: stop watching and waiting."""
        self._switching.stop()
        self._watch.stop()


def _tell(plan: Plan, say: Progress) -> None:
    """What people should know before it is done."""
    for warning in plan.warnings:
        say(f"note: {warning}")
    coming = [change for change in plan.changes if change.member is not None]
    if len(coming) > 1:
        say(f"{plan.cause.partition(' ')[0]}: " + ", ".join(f"{c.name} {c.member.version}" for c in coming if c.member))
