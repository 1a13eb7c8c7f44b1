"""Disabling and enabling installed extensions, and letting them finish what they work on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from fuseml_core.domain.errors import Conflict, Refused
from fuseml_core.domain.extensions import InstalledExtension
from fuseml_core.service.extensions.ports import (
    ComponentHost,
    FindWork,
    InstalledExtensions,
    Occupation,
    Progress,
)
from fuseml_core.service.extensions.resting import Resting
from fuseml_core.service.extensions.settings import ExtensionSettings

log = logging.getLogger(__name__)
#: Seconds between two looks at work that shall end.
_PAUSE = 0.5


class Switching:
    """Unloads and loads extensions that stay installed. Its caller lets only one change run at a time.

    An agent that is disabled with workloads stays until they have ended, for somebody has to look after them; it is
    given nothing new.

    Args:
        records: Rows of installed extensions.
        settings: Knows what is installed.
        host: The plugin host.
        resting: What is not loaded.
        work: Finds the work that is going on with an extension.
    """

    def __init__(self, records: InstalledExtensions, settings: ExtensionSettings, host: ComponentHost,
                 resting: Resting, work: FindWork) -> None:
        self._records, self._settings, self._host = records, settings, host
        self._resting, self._work = resting, work
        self._stopping, self._looking = threading.Event(), threading.Lock()
        self._thread: threading.Thread | None = None

    def disable(self, name: str) -> list[str]:
        """Unload an extension and offer nothing of it any more, until it is enabled.

        Returns:
            What goes on all the same, and what cannot, one sentence each.

        Raises:
            NotFound: It is not installed.
        """
        extension = self._settings.installed(name)
        self._resting.disable(name, time.time())
        work = self._work(name)
        self._host.unload(extension, keep=_agents(work))
        self._look_again()
        return [f"{entry.text} goes on" for entry in work] + [
            f"the extension {other.name} depends on it" for other in self._records.list()
            if name in {dependency["name"] for dependency in other.dependencies}]

    def enable(self, name: str, progress: Progress) -> None:
        """Load an extension again, once its components work.

        Raises:
            NotFound: It is not installed.
            Conflict: The server runs in safe mode.
            Failed: A component does not work; the extension stays disabled.
        """
        extension = self._settings.installed(name)
        if self._resting.safe_mode:
            raise Conflict("the server was started without extensions", hint="Start it with them first: fuseml server "
                           f"stop, then fuseml server start, then fuseml extension enable {name}")
        since = self._resting.since(name)
        self._resting.enable([name])
        try:
            if extension.components:
                progress(f"starting {name}")
            self._host.prepare(extension)
            described = self._host.check(extension)
        except BaseException:
            if since is not None:
                self._resting.disable(name, since)
                self._host.discard(extension)
            raise
        self._records.describe(extension.digest, described)
        self._host.put_in_force(extension)

    def load(self, extension: InstalledExtension) -> None:
        """Load an extension; of one that is disabled, only the agents that have workloads."""
        rest = self._resting.of(extension.name)
        if rest is None:
            self._host.load(extension)
        elif not self._resting.safe_mode and (busy := _agents(self._work(extension.name))):
            self._host.load(extension, busy)
            self._look_again()

    def drain(self, names: Sequence[str], seconds: float, progress: Progress) -> None:
        """Wait until nothing goes on with extensions.

        Args:
            names: Of the extensions; they must be offered no more, or this may never end.
            seconds: How long to wait.
            progress: Told what is waited for.

        Raises:
            Refused: Something still goes on after that time.
        """
        until, told = time.monotonic() + seconds, ""
        while work := [entry for name in names for entry in self._work(name)]:
            text = ", ".join(entry.text for entry in work)
            if time.monotonic() >= until:
                raise Refused(f"{', '.join(names)} cannot be uninstalled: after {seconds:g} seconds {text} still "
                              f"{'goes' if len(work) == 1 else 'go'} on",
                              hint="End it (fuseml run cancel, fuseml service stop), or wait longer.")
            if text != told:
                progress(f"waiting for {text}")
                told = text
            if self._stopping.wait(min(_PAUSE, max(0.0, until - time.monotonic()))):
                raise Refused("the server is being stopped", hint="Try again when it runs.")

    def stop(self) -> None:
        """Before the server ends: wait for nothing any more."""
        self._stopping.set()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _look_again(self) -> None:
        """Unload, in a thread, what is disabled and still loaded as soon as its workloads have ended."""
        with self._looking:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._let_go, name="fuseml-disabled", daemon=True)
                self._thread.start()

    def _let_go(self) -> None:
        left = True
        while left and not self._stopping.wait(_PAUSE):
            left = False
            for name in list(self._resting.disabled()):
                record = self._records.get(name)
                if record is None or not any(c["state"] != "disabled" for c in self._host.state(record)):
                    continue
                left = True
                try:
                    self._host.unload(record, keep=_agents(self._work(name)))
                except Exception:
                    log.exception("unloading the disabled extension %s", name)


def _agents(work: Sequence[Occupation]) -> set[str]:
    return {entry.agent for entry in work if entry.agent}

