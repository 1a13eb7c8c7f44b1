"""Hearing what agents report by themselves: a thread for each that has work, and the last word about each workload."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import structlog

from fuseml_core.domain.errors import FusemlError, Unavailable
from fuseml_core.engine.rhythm import Rhythm
from fuseml_core.service.components import Agent, Components
from fuseml_sdk.errors import InvalidInput, PluginError
from fuseml_sdk.types import WorkloadStatus

log = structlog.get_logger(__name__)

EVENTS_WAIT = 10.0
#: Workloads of one agent whose reports wait to be taken in; what is dropped is asked for at the next comparison.
MOST_WAITING = 10_000
#: Characters of a cursor; one that grows without end is not kept.
LONGEST_CURSOR = 10_000
LONGEST_PAUSE = 30.0


class Hearing:
    """Listens to agents.

    Args:
        components: Knows the agents.
        stop: Ends the listening.
        wake: Told when there is something to take in.
    """

    def __init__(self, components: Components, stop: threading.Event, wake: threading.Event) -> None:
        self._components, self._stop, self._wake = components, stop, wake
        self._lock = threading.Lock()
        # Only the last report of each workload: an agent may report faster than reports are taken in.
        self._reports: dict[str, dict[str, WorkloadStatus]] = {}
        self._listening: set[str] = set()
        self._needed: set[str] = set()

    def listen(self, needed: set[str]) -> None:
        """Hear these agents from now on, and no others; one that is not there yet is found the next time."""
        self._needed = needed
        for name in needed - self._listening:
            try:
                agent = self._components.agent(name)
            except Unavailable:
                continue
            self._listening.add(name)
            threading.Thread(target=self._hear, args=(name, agent), name=f"events-{name}", daemon=True).start()

    def drain(self) -> list[tuple[str, WorkloadStatus]]:
        """What was reported since the last time: the agent, and the last status of each workload."""
        with self._lock:
            reports, self._reports = self._reports, {}
        return [(agent, status) for agent, statuses in reports.items() for status in statuses.values()]

    def put_back(self, agent: str, status: WorkloadStatus) -> None:
        """Keep a report that could not be taken in, unless a later one came meanwhile."""
        with self._lock:
            self._reports.setdefault(agent, {}).setdefault(status.name, status)

    def _hear(self, name: str, agent: Agent) -> None:
        try:
            self._hear_while_needed(name, agent)
        finally:
            self._listening.discard(name)

    def _hear_while_needed(self, name: str, agent: Agent) -> None:
        cursor, pause, rhythm = "", 1.0, Rhythm(agent)
        while not self._stop.is_set() and name in self._needed:
            try:
                rhythm.begin()
                events = agent.events(cursor, EVENTS_WAIT)
                news = bool(events.statuses) and events.cursor != cursor
                cursor, pause = events.cursor if len(events.cursor) <= LONGEST_CURSOR else "", 1.0
            except (FusemlError, PluginError) as error:
                log.warning("agent gives no events", agent=name, error=str(error))
                if isinstance(error, InvalidInput):
                    cursor = ""  # It does not know this cursor any more: everything from the beginning.
                self._stop.wait(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            if events.statuses:
                self._keep(name, events.statuses)
                self._wake.set()
            self._stop.wait(rhythm.pause(news=news))

    def _keep(self, agent: str, statuses: Iterable[WorkloadStatus]) -> None:
        with self._lock:
            kept = self._reports.setdefault(agent, {})
            for status in statuses:
                kept.pop(status.name, None)
                kept[status.name] = status
            while len(kept) > MOST_WAITING:
                kept.pop(next(iter(kept)))
