"""What the engine does after an error that nobody expected: it rests, goes on with the rest, and says it once."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from fuseml_core.engine import setbacks as module
from fuseml_core.engine.setbacks import LONGEST_PAUSE, SAY_EVERY, Setbacks


@pytest.fixture
def clock(monkeypatch):
    """Monotonic seconds that a test sets."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def refuse():
    raise ValueError("the database refuses this row")


def until_tried(setbacks, clock, what="a row"):
    """Seconds until something is tried again."""
    began = clock[0]
    while setbacks.rests(what):
        clock[0] += 0.05
    return clock[0] - began


def test_what_fails_rests_twice_as_long_each_time(clock):
    setbacks, pauses = Setbacks(), []
    for _ in range(9):
        assert not setbacks.attempt("a row", refuse)
        pauses.append(round(until_tried(setbacks, clock), 1))
    assert pauses[:6] == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4], abs=0.11)
    assert pauses[-1] == pytest.approx(LONGEST_PAUSE, abs=0.11)

    assert setbacks.attempt("a row", lambda: None)
    setbacks.attempt("a row", refuse)
    assert until_tried(setbacks, clock) == pytest.approx(0.2, abs=0.11), "success resets the pause"


def test_what_rests_is_not_done_and_the_others_are(clock):
    setbacks, done = Setbacks(), []
    setbacks.attempt("a row", refuse)
    assert not setbacks.attempt("a row", lambda: done.append("a row"))
    assert setbacks.attempt("another", lambda: done.append("another"))
    assert done == ["another"]


def test_an_error_is_logged_once_and_then_counted(clock):
    setbacks = Setbacks()
    with capture_logs() as lines:
        for number in range(300):
            setbacks.attempt(f"row {number}", refuse)
        assert [line["event"] for line in lines] == ["the engine met an error and goes on"]
        assert isinstance(lines[0]["exc_info"], ValueError)
        clock[0] += SAY_EVERY
        setbacks.attempt("row 300", refuse)
    assert (lines[1]["times"], lines[1]["in_all"]) == (300, 301)
    assert "exc_info" not in lines[1]
    assert len(lines) == 2


def test_names_that_are_invented_for_ever_do_not_fill_the_memory(clock, monkeypatch):
    monkeypatch.setattr(module, "MOST", 50)
    setbacks = Setbacks()
    for number in range(500):
        setbacks.attempt(f"row {number}", refuse)
    assert len(setbacks._resting) == 50
