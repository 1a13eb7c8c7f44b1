"""The limit on calls at once."""

from __future__ import annotations

import threading
import time

import pytest

from fuseml_core.host.gate import MAX_CONCURRENCY, Gate, GateClosed
from fuseml_sdk.calls import Call
from fuseml_sdk.errors import NotReady


def _call(seconds):
    return Call(time.monotonic() + seconds)


def test_a_full_gate_refuses_at_the_deadline():
    gate = Gate(1)
    with gate.entered(_call(1), "extension x"), pytest.raises(NotReady, match="extension x is busy with 1 calls"):
        gate.enter(_call(0.05), "extension x")


def test_a_place_that_becomes_free_is_taken():
    gate = Gate(1)
    gate.enter(_call(1), "x")
    threading.Timer(0.1, gate.leave).start()
    gate.enter(_call(5), "x")
    gate.leave()
    assert gate.close(0)


def test_a_raised_limit_lets_waiting_calls_in():
    gate = Gate(1)
    gate.enter(_call(1), "x")
    threading.Timer(0.1, gate.resize, (2,)).start()
    gate.enter(_call(5), "x")
    gate.leave()
    assert not gate.close(0.05)
    gate.leave()
    assert gate.close(0)


def test_the_place_is_given_back_after_an_error():
    gate = Gate(1)
    with pytest.raises(KeyError), gate.entered(_call(1), "x"):
        raise KeyError
    assert gate.close(0)


def test_calls_that_only_wait_for_news_are_not_waited_for():
    gate = Gate(2)
    with gate.entered(_call(1), "x", idle=True):
        with gate.entered(_call(1), "x"):
            assert not gate.close(0.05)
        assert gate.close(0)


def test_nobody_enters_a_closed_gate():
    gate = Gate(1)
    gate.enter(_call(1), "x")
    assert not gate.close(0)
    with pytest.raises(GateClosed):
        gate.enter(_call(1), "x")
    gate.leave()
    with pytest.raises(GateClosed):
        gate.enter(_call(1), "x")


def test_a_call_that_waits_for_a_place_is_told_that_the_gate_closes():
    gate = Gate(1)
    gate.enter(_call(1), "x")
    threading.Timer(0.1, gate.close, (0,)).start()
    began = time.monotonic()
    with pytest.raises(GateClosed):
        gate.enter(_call(20), "x")
    assert time.monotonic() - began < 10


def test_a_plugin_that_wants_everything_gets_what_the_server_has():
    gate = Gate()
    for said, given in ((10**12, MAX_CONCURRENCY), (2, 2), (-5, 1)):
        gate.resize(said)
        assert len(gate.places) == given
