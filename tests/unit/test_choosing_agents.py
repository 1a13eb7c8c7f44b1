"""Which agent gets a job when one of them does not answer."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from fuseml_core.domain.errors import Unavailable
from fuseml_core.domain.extensions import Rest
from fuseml_core.engine.workloads import choose_agent
from fuseml_sdk.errors import NotReady, Permanent
from fuseml_sdk.types import AgentDescription, RunnableDescriptor

JOB = RunnableDescriptor(name="count", command=["true"])


@dataclass
class Agent:
    says: AgentDescription | Exception

    def describe(self):
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


class Agents:
    def __init__(self, *, resting=(), **agents):
        self._agents = {name: Agent(says) for name, says in agents.items()}
        self._resting = resting

    def agents(self):
        return list(self._agents.items())

    def resting_agents(self):
        return self._resting


def able(*kinds):
    return AgentDescription(name="x", kinds=list(kinds), environments=["python"], schemes=["file"])


def test_one_that_is_away_keeps_no_work_from_those_that_are_there():
    assert choose_agent(Agents(far=NotReady("away"), near=able("job")), JOB) == ("near", ["file"])
    assert choose_agent(Agents(far=Permanent("broken"), near=able("job")), JOB)[0] == "near"


def test_when_nobody_else_can_the_job_waits_for_the_one_that_is_away():
    with pytest.raises(NotReady, match="away"):
        choose_agent(Agents(far=NotReady("away"), near=able("service")), JOB)


def test_one_that_is_broken_for_good_is_named_among_the_reasons():
    with pytest.raises(Unavailable) as caught:
        choose_agent(Agents(far=Permanent("broken"), near=able("service")), JOB)
    assert "far does not answer: broken" in caught.value.hint
    assert "near runs no jobs" in caught.value.hint


@pytest.mark.parametrize(("says", "words"), [(able("job"), "asleep can run"), (None, "asleep may be able to run")])
def test_a_job_waits_for_an_agent_that_rests_also_for_one_that_was_never_started(says, words):
    """An extension may be installed while the server runs without extensions: nothing has described itself then."""
    rest = Rest("safe mode", "the server was started without extensions", "Start it with them")
    with pytest.raises(NotReady, match=words) as caught:
        choose_agent(Agents(near=able("service"), resting=[("asleep", says, rest)]), JOB)
    assert caught.value.hint == "Start it with them"
    with pytest.raises(Unavailable):
        choose_agent(Agents(near=able("service"), resting=[("asleep", able("service"), rest)]), JOB)
