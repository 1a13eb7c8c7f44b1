"""Watching the components of a new generation for a while; what does not stay up is rolled back."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from fuseml_core.domain.errors import FusemlError
from fuseml_core.domain.extensions import GenerationState, InstalledExtension
from fuseml_core.service.extensions.ports import ComponentHost, Generations, InstalledExtensions

log = logging.getLogger(__name__)
#: Seconds between two looks.
_PAUSE = 0.5
#: Restarts within the time of grace that count as not staying up.
_RESTARTS = 3


class GraceWatch:
    """Looks after a generation that has just come into force, in a thread of its own.

    Args:
        records: Rows of installed extensions.
        generations: Rows of generations.
        host: The plugin host.
        grace: Seconds that a new generation is watched.
        roll_back: Takes a generation back: its number and what went wrong. Takes the lock of changes itself.
    """

    def __init__(self, records: InstalledExtensions, generations: Generations, host: ComponentHost, grace: float,
                 roll_back: Callable[[int, str], None]) -> None:
        self._records, self._generations, self._host = records, generations, host
        self._grace, self._roll_back = grace, roll_back
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def begin(self) -> None:
        """Watch the generation in force if it is new; one that a server died with is watched from the beginning."""
        current = self._generations.current()
        if current.state is not GenerationState.NEW or self._stopping.is_set():
            return
        thread = threading.Thread(target=self._watch, args=(current.number,), name="fuseml-grace", daemon=True)
        self._threads = [other for other in self._threads if other.is_alive()] + [thread]
        thread.start()

    def stop(self) -> None:
        """Stop watching; the generation stays new, and is watched again after the next start."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(10.0)

    def _watch(self, number: int) -> None:
        try:
            wrong = self._look_after(number, self._changed(number))
            if self._stopping.is_set():
                return
            if wrong:
                self._roll_back(number, wrong)
            else:
                self._generations.settle(number)
        except Exception:
            log.exception("watching generation %d of the extensions", number)

    def _changed(self, number: int) -> list[InstalledExtension]:
        """Active versions with components that the generation before did not have.

        Those with components that somebody else runs are left out: they come and go by themselves, and taking the
        extension back would not help.
        """
        earlier = [generation for generation in self._generations.list() if generation.number < number][:1]
        before = {member.digest for generation in earlier for member in generation.members}
        return [record for record in self._records.list() if record.components and record.digest not in before
                and not any(component.get("address") for component in record.components)]

    def _look_after(self, number: int, records: Sequence[InstalledExtension]) -> str:
        """What went wrong within the time of grace; empty when nothing did or another generation is in force."""
        try:
            for record in records:
                self._host.check(record)
        except FusemlError as error:
            return error.message
        before = {(r.digest, c["name"]): int(c["restarts"]) for r in records for c in self._host.state(r)}
        deadline = time.monotonic() + self._grace
        while time.monotonic() < deadline and not self._stopping.wait(_PAUSE):
            if self._generations.current().number != number:
                return ""
            for record in records:
                wrong = self._wrong(record, before)
                if wrong:
                    return wrong
        return ""

    def _wrong(self, record: InstalledExtension, before: dict[tuple[str, str], int]) -> str:
        for component in self._host.state(record):
            restarts = int(component["restarts"]) - before.get((record.digest, component["name"]), 0)
            if restarts >= _RESTARTS:
                title = f"{record.name} {record.version} ({component['family']} {component['name']})"
                return f"{title} was restarted {restarts} times: {_first(component['last_crash'])}"
            if component["state"] == "failed":
                try:
                    self._host.check(record)
                except FusemlError as error:
                    return error.message
        return ""


def _first(text: str) -> str:
    return text.strip().splitlines()[0].removesuffix("; last output:") if text.strip() else "unknown cause"
