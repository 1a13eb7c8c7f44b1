"""What plugins report beyond all measure ends up within it, and nothing else changes."""

from __future__ import annotations

import math

import pytest

from fuseml_core.host.facades import AgentFacade
from fuseml_core.host.reports import MOST_LINES, MOST_METRICS, MOST_TEXT, MOST_TIMINGS, MOST_WORD, bounded
from fuseml_sdk import problems
from fuseml_sdk.errors import Internal
from fuseml_sdk.types import LogChunk, Metric, WorkloadEvents, WorkloadStatus

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


def test_timings_and_metrics_are_kept_within_what_people_can_read():
    metrics = [Metric(key="k" * 5000, value=1.0)] * (MOST_METRICS + 5)
    seen = bounded(ORDINARY.model_copy(update={"timings": {"a": -1.0, **{str(n): 1.0 for n in range(5000)}},
                                               "metrics": metrics}))
    assert len(seen.timings) < MOST_TIMINGS + 1
    assert min(seen.timings.values()) >= 0.0
    assert (len(seen.metrics), len(seen.metrics[0].key)) == (MOST_METRICS, MOST_WORD)


def log_of(**chunk):
    agent = AgentFacade(lambda _hook, _arguments, _timeout: LogChunk.model_validate({"complete": False, **chunk}))
    return agent.logs("x", "7", 1000)


def test_a_piece_of_a_log_has_no_more_than_was_asked_for():
    chunk = log_of(text="x" * 100_000_000, cursor="8")
    assert len(chunk.text) < 1200
    assert "99999000 characters were left out" in chunk.text
    assert log_of(text="ä" * 1000, cursor="8").text == "ä" * 1000


@pytest.mark.parametrize(("chunk", "words"), [({"text": "a", "cursor": "7"}, "the same piece of a log again and again"),
                                              ({"text": "a", "cursor": "8" * 20_000}, "20000 characters")])
def test_a_log_whose_cursor_leads_nowhere_is_refused(chunk, words):
    with pytest.raises(Internal, match=words):
        log_of(**chunk)


def test_a_log_that_has_not_grown_keeps_its_cursor():
    assert log_of(text="", cursor="7").cursor == "7"


def test_an_error_says_no_more_than_can_be_read():
    error = problems.from_problem({"type": "not-found", "detail": "d" * 5_000_000, "hint": "h" * 5_000_000})
    assert (error.type, len(error.message), len(error.hint)) == ("not-found", problems.MOST_TEXT, problems.MOST_TEXT)
