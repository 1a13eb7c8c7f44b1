"""How often stores and agents are asked for events."""

from __future__ import annotations

import math

import pytest

from fuseml_core.engine.rhythm import BURST, LONGEST, QUICK, Rhythm
from fuseml_sdk.types import AgentDescription


class Agent:
    """Declares an interval, or none, and counts how often it was asked for it."""

    def __init__(self, interval):
        self.interval, self.asked = interval, 0

    def describe(self):
        self.asked += 1
        return AgentDescription(name="a", kinds=["job"], environments=[], schemes=[], events_interval=self.interval)


@pytest.mark.parametrize(("interval", "seconds"), [(5.0, 5.0), (0.0, QUICK), (-3.0, QUICK), (1e12, LONGEST)])
@pytest.mark.parametrize("news", [False, True])
def test_r164_who_cannot_wait_is_asked_as_often_as_it_says(interval, seconds, news):
    agent = Agent(interval)
    rhythm = Rhythm(agent)
    for _ in range(3):
        rhythm.begin()
        assert rhythm.pause(news=news) == seconds
    assert agent.asked == 1


@pytest.mark.parametrize("interval", [None, math.nan, math.inf])
def test_who_can_wait_is_asked_again_at_once(interval, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("fuseml_core.engine.rhythm.time.monotonic", lambda: now[0])
    rhythm = Rhythm(Agent(interval))
    rhythm.begin()
    assert rhythm.pause(news=True) == 0.0
    now[0] += 20.0
    assert rhythm.pause(news=False) == 0.0


def test_who_neither_waits_nor_has_news_does_not_keep_the_server_busy(monkeypatch):
    monkeypatch.setattr("fuseml_core.engine.rhythm.time.monotonic", lambda: 100.0)
    rhythm = Rhythm(Agent(None))
    rhythm.begin()
    assert rhythm.pause(news=False) == QUICK


def test_news_that_never_end_come_no_faster_than_a_few_times_a_second_after_a_burst(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("fuseml_core.engine.rhythm.time.monotonic", lambda: now[0])
    rhythm = Rhythm(Agent(None))

    def pauses(times):
        for _ in range(times):
            rhythm.begin()
            yield rhythm.pause(news=True)

    assert list(pauses(BURST)) == [0.0] * BURST
    assert list(pauses(3)) == [QUICK] * 3
    rhythm.begin()
    now[0] += 1.0
    assert rhythm.pause(news=True) == 0.0
    assert list(pauses(1)) == [0.0], "an answer that took its time ends the burst"
