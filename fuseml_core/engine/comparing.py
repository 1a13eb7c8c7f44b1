"""Comparing what the database says runs with what agents say: reports may be missed, and workloads forgotten.

One rule for all agents, whether they forgot a workload when they were killed or report others than they were asked for:
a workload that its agent answers `unknown` for, or leaves out, for `LOST_AFTER` seconds is lost. One whose agent breaks
the contract or is not there any more has `BROKEN_AFTER` seconds. An agent that is away and may come back has all the
time it needs. What is lost starts again up to three times, as after a reboot.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import structlog

from fuseml_core.domain.errors import FusemlError, Unavailable
from fuseml_core.engine.asking import Asking, Reaction
from fuseml_core.engine.ending import end_all
from fuseml_core.engine.patience import Patience
from fuseml_core.service.components import Components
from fuseml_sdk.errors import PluginError
from fuseml_sdk.types import WorkloadStatus

log = structlog.get_logger(__name__)

#: Seconds after which a workload is lost of which its agent, which answers, does not know or say anything.
LOST_AFTER = 10.0
#: Seconds for agents whose answers break the contract, and those that are not there; upgrading one takes less.
BROKEN_AFTER = 60.0
#: Seconds that a workload which counts as lost gets to end.
GRACE = 10.0
#: Takes in what is known of a workload now.
Take = Callable[[str, WorkloadStatus], object]
#: Says at a workload what is odd about it; for people.
Say = Callable[[str, str], object]
#: What a workload is for people, such as `training/20 train`.
Name = Callable[[str], str]


class Comparison:
    """Asks agents how their workloads are.

    Args:
        components: Knows the agents.
        asking: Asks them without waiting for those that hang.
        take: Takes in the status of one workload of an agent.
        say: Says at a workload that its agent does not report it.
        name: Tells what a workload is.
    """

    def __init__(self, components: Components, asking: Asking, take: Take, say: Say, name: Name) -> None:
        self._components, self._asking, self._take, self._say, self._name = components, asking, take, say, name
        self._patience = Patience()

    def ask(self, agent: str, names: list[str]) -> None:
        """Ask one agent about its workloads; what follows is done when the answer is reacted to."""
        self._asking.ask(f"comparing with {agent}", partial(self._question, agent, names))

    def _question(self, agent: str, names: list[str]) -> Reaction:
        began = time.monotonic()
        try:
            statuses = self._components.agent(agent).status(names)
        except Unavailable:
            return partial(self._missing, agent, names)
        except PluginError as error:
            if error.retryable:  # such as one of an extension that is disabled: its workloads are not lost
                return partial(self._away, agent, names, error.message, time.monotonic() - began)
            return partial(self._silent, agent, names, "does not say as the contract asks how {} is", BROKEN_AFTER,
                           f": {error.message}")
        except FusemlError as error:
            return partial(self._away, agent, names, error.message, time.monotonic() - began)
        return partial(self._answered, agent, names, statuses)

    def _answered(self, agent: str, names: list[str], statuses: list[WorkloadStatus]) -> None:
        asked = set(names)
        told = {status.name: status for status in statuses if status.name in asked}
        left_out = [name for name in names if name not in told]
        unknown = [name for name in names if name in told and told[name].state == "unknown"]
        self._silent(agent, left_out, "does not report {}", LOST_AFTER)
        self._silent(agent, unknown, "does not know {}", LOST_AFTER)
        for name, status in told.items():
            if status.state != "unknown":
                self._patience.forget(f"{agent} {name}")
                self._patience.forget(f"away {agent} {name}")
                self._take(agent, status)

    def _missing(self, agent: str, names: list[str]) -> None:
        self._silent(agent, names, "is not there any more, and ran {}", BROKEN_AFTER)

    def _away(self, agent: str, names: list[str], error: str, took: float) -> None:
        log.warning("agent does not say how its workloads are", agent=agent, error=error)
        for name in names:
            # The call itself may have waited for long.
            if self._patience.waited(f"away {agent} {name}") + took >= LOST_AFTER:
                self._say(name, f"{title(agent)} does not answer: {error}")

    def _silent(self, agent: str, names: list[str], what: str, most: float, why: str = "") -> None:
        for name in names:
            waited = self._patience.waited(f"{agent} {name}")
            text = f"{title(agent)} {what.format(self._name(name))}{why}"
            if waited < most:
                self._say(name, text)
                continue
            log.warning("a workload counts as lost", agent=agent, workload=name, reason=text, seconds=round(waited))
            self._patience.forget(f"{agent} {name}")
            text = f"lost: for {waited:.0f} s, {text}"
            self._take(agent, WorkloadStatus(name=name, state="failed", reason="Lost", message=text))
            # It may run all the same: another attempt must not meet it.
            self._asking.ask(f"ending {name}", partial(end_all, self._components, agent, [name], GRACE))


def title(agent: str) -> str:
    """An agent for people: with the extension that brings it, unless it is a built-in one."""
    extension, _, name = agent.rpartition("/")
    return f"extension {extension} (agent {name})" if extension else f"agent {name}"
