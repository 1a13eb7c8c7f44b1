"""Ending workloads with the server: every agent at the same time, again and again until it works or time is up."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from fuseml_core.domain.errors import FusemlError
from fuseml_core.engine.asking import Reaction
from fuseml_core.service.components import Components
from fuseml_sdk.errors import PluginError
from fuseml_sdk.types import FINAL_STATES, WorkloadStatus

log = structlog.get_logger(__name__)

#: Seconds between two attempts, and between two looks.
PAUSE = 0.1
#: How often an agent is asked that says no, rather than that it is not ready.
ATTEMPTS = 3
#: States in which nothing of a workload runs.
ENDED = FINAL_STATES | {"unknown"}


@dataclass(frozen=True, slots=True)
class Left:
    """A workload that goes on without the server.

    Attributes:
        agent: Name of its agent.
        workload: Its name.
        reason: Why it could not be ended, one sentence for people.
    """

    agent: str
    workload: str
    reason: str


class Ending:
    """Ends workloads.

    Args:
        components: Knows the agents.
        grace: Seconds that a workload gets to end by itself.
        timeout: Seconds for everything.
    """

    def __init__(self, components: Components, grace: float, timeout: float) -> None:
        self._components, self._grace, self._timeout = components, grace, timeout
        self._lock = threading.Lock()
        self._left: list[Left] = []
        self._statuses: list[WorkloadStatus] = []

    def end(self, workloads: Iterable[tuple[str, str]]) -> tuple[list[WorkloadStatus], list[Left]]:
        """Cancel workloads and wait for their end.

        Args:
            workloads: Agent and name of each.

        Returns:
            What the agents reported when they were told, and what goes on all the same.
        """
        by_agent: dict[str, list[str]] = {}
        for agent, workload in workloads:
            by_agent.setdefault(agent, []).append(workload)
        until = time.monotonic() + self._timeout
        # A daemon each: an agent that never answers must not keep the server from ending.
        threads = {agent: threading.Thread(target=self._end_those_of, args=(agent, names, until), daemon=True,
                                           name=f"ending-{agent}") for agent, names in by_agent.items()}
        for thread in threads.values():
            thread.start()
        for thread in threads.values():
            thread.join(max(0.0, until + self._grace - time.monotonic()))
        silent = [agent for agent, thread in threads.items() if thread.is_alive()]
        with self._lock:
            return list(self._statuses), [
                *(each for each in self._left if each.agent not in silent),
                *(Left(agent, name, "its agent does not answer") for agent in silent for name in by_agent[agent])]

    def _end_those_of(self, agent: str, names: list[str], until: float) -> None:
        """One agent's: one that is just being started again after a crash is asked until it is there."""
        reasons = dict.fromkeys(names, "it has not ended in time")
        untold, running, refused = sorted(names), set(names), Counter[str]()
        while running and time.monotonic() < until and not all(refused[name] >= ATTEMPTS for name in running):
            untold = [name for name in untold if name in running and not self._tell(agent, name, reasons, refused)]
            running = self._running(agent, sorted(running), reasons)
            time.sleep(PAUSE if running else 0.0)
        with self._lock:
            self._left += [Left(agent, name, reasons[name]) for name in sorted(running)]

    def _tell(self, agent: str, name: str, reasons: dict[str, str], refused: Counter[str]) -> bool:
        try:
            status = self._components.agent(agent).cancel(name, self._grace)
        except (FusemlError, PluginError) as error:
            reasons[name] = error.message
            refused[name] += isinstance(error, PluginError) and not error.retryable
            return False
        with self._lock:
            self._statuses.append(status)
        return True

    def _running(self, agent: str, names: list[str], reasons: dict[str, str]) -> set[str]:
        try:
            statuses = self._components.agent(agent).status(names)
        except (FusemlError, PluginError) as error:
            reasons.update(dict.fromkeys(names, error.message))
            return set(names)
        states = {status.name: status.state for status in statuses}
        reasons.update((name, "its agent does not report it") for name in names if name not in states)
        return {name for name in names if states.get(name) not in ENDED}


def end_all(components: Components, agent: str, names: Iterable[str], grace: float) -> Reaction:
    """Tell an agent once to end workloads that nobody needs any more; what it answers changes nothing."""
    for name in names:
        try:
            components.agent(agent).cancel(name, grace)
        except (FusemlError, PluginError) as error:
            log.warning("a workload that is not needed any more was not ended", workload=name, error=error.message)
    return _nothing


def _nothing() -> None:
    return None
