"""Backoff and circuit breaker, with a clock under control."""

from __future__ import annotations

import pytest

from fuseml_core.host.backoff import RestartPolicy


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_the_first_restart_is_immediate_and_later_ones_wait_longer(clock):
    policy = RestartPolicy(first=0.5, threshold=5, clock=clock)
    assert policy.delay == 0
    delays = []
    for _ in range(4):
        policy.failed(1.0)
        delays.append(policy.delay)
        assert not policy.is_open
    assert delays == [0.0, 0.5, 1.0, 2.0]


def test_the_breaker_opens_for_a_pause_and_lets_one_try(clock):
    policy = RestartPolicy(threshold=2, pause=30, clock=clock)
    policy.failed(0)
    policy.failed(0)
    assert policy.is_open
    assert policy.delay == 30
    clock.now += 30
    assert not policy.is_open
    policy.failed(0)
    assert policy.is_open


def test_stable_running_forgets_failures(clock):
    policy = RestartPolicy(threshold=2, stable=60, clock=clock)
    policy.failed(0)
    policy.failed(61)
    assert policy.failures == 1
    assert policy.delay == 0
