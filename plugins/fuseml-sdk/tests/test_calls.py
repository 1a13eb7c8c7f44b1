"""What a hook can know of the call that it serves."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from fuseml_sdk import calls
from fuseml_sdk.errors import Cancelled
from fuseml_sdk.serve.hangups import Hangups


def test_outside_of_any_call_nothing_is_cancelled():
    call = calls.current()
    assert calls.active() is None
    assert (call.cancelled, call.expired, call.remaining(), call.traceparent) == (False, False, None, "")
    assert call.wait(0.01) is False
    call.check()


def test_an_id_is_made_once():
    call = calls.Call()
    assert call.id == call.id
    assert len(call.id) == 16
    assert calls.Call(id="given").id == "given"


def test_the_deadline_ends_a_wait():
    call = calls.Call(time.monotonic() + 0.05)
    assert call.wait(600) is True
    assert (call.expired, call.cancelled, call.remaining()) == (True, True, 0.0)
    with pytest.raises(Cancelled, match="the deadline has passed"):
        call.check()


def test_a_caller_who_gives_up_ends_a_wait():
    call = calls.Call(time.monotonic() + 600)
    threading.Timer(0.05, call.cancel).start()
    assert call.wait(600) is True
    assert not call.expired
    assert call.wait(600) is True
    with pytest.raises(Cancelled, match="the caller has given up"):
        call.check()


def test_the_call_is_known_in_its_context_alone():
    with calls.serving(calls.Call(id="outer")):
        with calls.serving(calls.Call(id="inner")):
            assert calls.current().id == "inner"
        assert calls.current().id == "outer"
        seen = []
        thread = threading.Thread(target=lambda: seen.append(calls.active()))
        thread.start()
        thread.join(30)
        assert seen == [None]


def test_hangups_cancel_the_call_of_their_connection_alone():
    hangups = Hangups()
    (ours, theirs), (other, still_there) = socket.socketpair(), socket.socketpair()
    with other, still_there, ours:
        for connection in (ours, other):
            hangups.watch(connection)
        first, second = calls.Call(), calls.Call()
        hangups.began(ours, first)
        hangups.began(other, second)
        theirs.shutdown(socket.SHUT_WR)
        assert first.wait(0.1) is False  # it has sent all and waits for the answer
        theirs.close()
        assert first.wait(30) is True
        assert second.cancelled is False
        late = calls.Call()
        hangups.began(ours, late)
        assert late.cancelled is True
        for connection in (ours, other):
            hangups.forget(connection)
