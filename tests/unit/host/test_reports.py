"""What plugins report beyond all measure ends up within it, and nothing else changes."""

from __future__ import annotations

import math

import pytest

from fuseml_core.host.facades import AgentFacade
from fuseml_core.host.reports import MOST_LINES, MOST_TEXT, bounded
from fuseml_sdk import problems
from fuseml_sdk.types import WorkloadEvents, WorkloadStatus

ORDINARY = WorkloadStatus(name="x", state="failed", reason="ExitCode", message="it ended with 3", exit_code=3,
                          started_at=12.5, ended_at=1.7e9, log_tail=["a", "b"], warnings=["w"], timings={"run": 0.5})


def test_an_ordinary_status_is_left_alone():
    assert bounded(ORDINARY) is ORDINARY


@pytest.mark.parametrize(("field", "said", "kept"), [
    ("exit_code", 10**25, None), ("exit_code", -9, -9), ("exit_code", 3221225477, None), ("signal", -(2**70), None),
    ("started_at", math.nan, None), ("started_at", 1e18, None), ("ended_at", -1e18, None), ("ended_at", math.inf, None),
    ("timings", {"run": math.inf, "staging": 0.5}, {"staging": 0.5}),
    ("log_tail", [str(n) for n in range(100)], [str(n) for n in range(100 - MOST_LINES, 100)]),
    ("message", "m" * 30_000_000, "m" * (MOST_TEXT - 1) + "…"),
])
def test_r164_what_nothing_can_hold_does_not_reach_the_engine(field, said, kept):
    status = ORDINARY.model_copy(update={field: said})
    answers = {"agent_status": [status], "agent_submit": status, "agent_cancel": status,
               "agent_events": WorkloadEvents(statuses=[status], cursor="c")}
    agent = AgentFacade(lambda hook, _arguments, _timeout: answers[hook])
    for seen in (agent.status(["x"])[0], agent.cancel("x", 1.0), agent.events("", 1.0).statuses[0]):
        assert seen == ORDINARY.model_copy(update={field: kept})


def test_an_error_says_no_more_than_can_be_read():
    error = problems.from_problem({"type": "not-found", "detail": "d" * 5_000_000, "hint": "h" * 5_000_000})
    assert (error.type, len(error.message), len(error.hint)) == ("not-found", problems.MOST_TEXT, problems.MOST_TEXT)
