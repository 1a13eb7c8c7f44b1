"""The protocol, byte by byte, as every program that speaks it keeps it: with the SDK or without."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

# Test folders are no packages, and names of modules are unique in a folder only.
_spec = importlib.util.spec_from_file_location("sdk_wire_peers", Path(__file__).with_name("wire_peers.py"))
peers = sys.modules.setdefault("sdk_wire_peers", importlib.util.module_from_spec(_spec))
_spec.loader.exec_module(peers)
request, answer = peers.request, peers.answer

PROBLEM = "application/problem+json"
MANY = 40


@pytest.fixture(scope="module", params=["stdlib", "asgi", "node"])
def peer(request):
    """A program that listens, shared by the tests of this module: none of them may harm it."""
    folder = Path(tempfile.mkdtemp(prefix="fz-"))
    with peers.serving(request.param, folder) as running:
        yield running
        assert running.process.poll() is None, "it did not survive the tests"
    shutil.rmtree(folder)


def refused(found, status, kind="invalid-input"):
    """Check a problem document; returns its detail."""
    assert (found.status, found.headers["content-type"]) == (status, PROBLEM), found
    document = found.json
    assert (document["type"], document["status"]) == (kind, status)
    assert set(document) >= {"type", "title", "status", "detail", "hint", "details"}
    return document["detail"]


def test_pages_say_that_it_lives_is_ready_and_what_it_speaks(peer):
    assert peer.ask("GET", "/healthz").json["status"] == "alive"
    assert peer.ask("GET", "/readyz").json["status"] == "ready"
    found = peer.ask("GET", "/v1/describe")
    assert found.headers["content-type"] == "application/json"
    assert found.json["protocols"] == [1]
    assert found.json["failure"] is None
    assert found.json["hooks"]["agent_status"] == {"idempotent": True}


def test_a_call_gives_a_result_and_names_itself(peer):
    found = peer.call("agent_status", {"fuseml-call-id": "call-7", "fuseml-deadline-ms": "60000"}, names=["b", "ü\u2028"])
    assert (found.status, found.headers["content-type"]) == (200, "application/json")
    assert [(each["name"], each["state"]) for each in found.json] == [("b", "unknown"), ("ü\u2028", "unknown")]
    assert found.headers["fuseml-call-id"] == "call-7"


def test_an_error_is_a_problem_document_with_a_hint(peer):
    assert "nobody" in refused(peer.call("agent_logs", name="nobody", cursor="", limit=10), 404, "not-found")
    assert peer.call("agent_logs", name="nobody", cursor="", limit=10).json["hint"]


@pytest.mark.parametrize("body", [b"{", b"", b"[]", b'"names"', b"null", b'{"names": [NaN', b"\xff\xfe", b'{"names": "a"}',
                                  b'{"names": [1]}', b"{}"])
def test_a_body_that_is_no_object_of_arguments_is_refused_and_the_connection_stays_good(peer, body):
    with peer.connect() as connection:
        connection.sendall(request("POST", "/v1/hooks/agent_status", body))
        refused(answer(connection), 400)
        connection.sendall(request("POST", "/v1/hooks/agent_status", {"names": ["a"]}))
        assert answer(connection).status == 200


def test_a_missing_argument_is_named(peer):
    assert "names" in refused(peer.call("agent_status"), 400)


def test_unknown_arguments_and_headers_are_ignored(peer):
    found = peer.call("agent_status", {"fuseml-later": "x"}, names=["a"], later={"deep": [1, None]})
    assert found.status == 200
    assert found.json[0]["name"] == "a"


def test_unknown_places_are_told_apart_from_hooks_that_are_not_offered(peer):
    refused(peer.ask("GET", "/nowhere"), 404, "not-found")
    refused(peer.ask("POST", "/v2/hooks/agent_status", {}), 404, "not-found")
    refused(peer.ask("POST", "/v1/hooks/", {}), 404, "not-found")
    refused(peer.ask("POST", "/v1/hooks/../describe", {}), 404, "not-found")
    refused(peer.call("builder_describe"), 501, "unsupported")


@pytest.mark.parametrize(("method", "path", "allowed"), [
    ("POST", "/v1/describe", "GET"), ("DELETE", "/healthz", "GET"), ("GET", "/v1/hooks/agent_describe", "POST"),
    ("PUT", "/v1/hooks/agent_describe", "POST")])
def test_wrong_methods_are_refused_with_the_right_one(peer, method, path, allowed):
    found = peer.ask(method, path, {})
    refused(found, 405)
    assert found.headers["allow"] == allowed


def test_a_query_does_not_change_the_place(peer):
    assert peer.ask("GET", "/v1/describe?x=1").json["protocols"] == [1]


def test_a_deadline_that_has_passed_is_cancelled_and_one_that_is_none_is_refused(peer):
    refused(peer.call("agent_describe", {"fuseml-deadline-ms": "0"}), 499, "cancelled")
    for wrong in ("soon", "-1", "1.5"):
        assert "fuseml-deadline-ms" in refused(peer.call("agent_describe", {"fuseml-deadline-ms": wrong}), 400)


def test_bodies_have_a_limit_that_is_told_before_they_arrive(peer):
    with peer.connect() as connection:
        connection.sendall(request("POST", "/v1/hooks/agent_status", None, {"content-length": str(64 * 1024 * 1024 + 1)}))
        found = answer(connection)
    refused(found, 413)
    assert found.headers["connection"] == "close"


def test_a_chunked_body_is_refused(peer):
    with peer.connect() as connection:
        connection.sendall(request("POST", "/v1/hooks/agent_status", None, {"transfer-encoding": "chunked"}) + b"5\r\n")
        found = answer(connection)
    refused(found, 411)
    assert found.headers["connection"] == "close"


@pytest.mark.parametrize("lengths", [("x",), ("-1",), ("1e2",), ("5", "6")])
def test_lengths_that_are_none_or_disagree_are_refused(peer, lengths):
    lines = "".join(f"content-length: {each}\r\n" for each in lengths)
    with peer.connect() as connection:
        connection.sendall(f"POST /v1/hooks/agent_status HTTP/1.1\r\nhost: p\r\n{lines}\r\n".encode())
        assert answer(connection).status == 400


@pytest.mark.parametrize("text", [b"what is this\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
                                  b"GET /healthz HTTP/1.1\r\nhost plugin\r\n\r\n"])
def test_what_is_no_http_is_refused_and_the_connection_ends(peer, text):
    with peer.connect() as connection:
        connection.sendall(text)
        assert connection.recv(4096).startswith(b"HTTP/1.1 400 ")
        while connection.recv(4096):
            pass


def test_headers_have_a_limit(peer):
    refused(peer.ask("GET", "/v1/describe", None, {"x-large": "x" * 40_000}), 431)
    assert peer.ask("GET", "/v1/describe", None, {"x-large": "x" * 8_000}).status == 200


def test_one_connection_serves_many_calls_and_ends_when_asked_to(peer):
    with peer.connect() as connection:
        for number in range(50):
            connection.sendall(request("POST", "/v1/hooks/agent_status", {"names": [f"w-{number}"]}))
            assert answer(connection).json[0]["name"] == f"w-{number}"
        connection.sendall(request("GET", "/healthz", None, {"connection": "close"}))
        assert answer(connection).headers["connection"] == "close"
        assert connection.recv(1) == b""


def test_a_body_may_arrive_in_pieces(peer):
    whole = request("POST", "/v1/hooks/agent_status", {"names": ["a"] * 20_000})
    with peer.connect() as connection:
        for start in range(0, len(whole), 30_000):
            connection.sendall(whole[start:start + 30_000])
        assert len(answer(connection).json) == 20_000


def test_many_connections_wait_and_others_are_answered_meanwhile(peer):
    waiting = [peer.connect() for _ in range(MANY)]
    try:
        for connection in waiting:
            connection.sendall(request("POST", "/v1/hooks/agent_events", {"cursor": "", "wait": 1}))
        assert peer.ask("GET", "/healthz").status == 200
        assert peer.call("agent_status", names=["a"]).status == 200
        assert {answer(connection).status for connection in waiting} == {200}
    finally:
        for connection in waiting:
            connection.close()


@pytest.mark.parametrize("sent", [b"", b"POST /v1/hooks/agent_status HT", request("POST", "/v1/hooks/agent_status", b"{}")[:-1]])
def test_who_goes_away_in_the_middle_harms_nobody(peer, sent):
    """Half-closed: nothing more will come, and the connection ends with a refusal at most."""
    with peer.connect() as connection:
        connection.sendall(sent)
        connection.shutdown(1)
        received = b""
        while part := connection.recv(4096):
            received += part
    assert not received or received.startswith(b"HTTP/1.1 4")
    assert peer.ask("GET", "/healthz").status == 200


def test_who_hangs_up_cancels_the_call(peer):
    """Closing the connection is the only way to cancel; a call that waits for events ends by it."""
    with peer.connect() as connection:
        connection.sendall(request("POST", "/v1/hooks/agent_events", {"cursor": "left", "wait": 55}))
        assert peer.ask("GET", "/healthz").status == 200
    if peer.name == "node":
        return  # Its agent keeps no record of who gave up; that it goes on is seen above and by what follows.
    until = time.monotonic() + 50
    while "left" not in peer.call("agent_logs", name="gone", cursor="", limit=1).json["text"]:
        assert time.monotonic() < until, "the call was not cancelled"
        time.sleep(0.05)


def test_calls_in_flight_end_in_order_when_it_is_told_to_stop(tmp_path, peer):
    with peers.serving(peer.name, Path(tempfile.mkdtemp(prefix="fz-"))) as leaving:
        connection = leaving.connect()
        found = []
        connection.sendall(request("POST", "/v1/hooks/agent_events", {"cursor": "", "wait": 2}))
        # A second round trip makes sure that the first call has arrived.
        assert leaving.ask("GET", "/healthz").status == 200
        thread = threading.Thread(target=lambda: found.append(answer(connection)))
        thread.start()
        leaving.process.terminate()
        thread.join(peers.PATIENCE)
        assert leaving.process.wait(peers.PATIENCE) == 0
        connection.close()
    assert [each.status for each in found] == [200]
    assert json.loads(found[0].body)["cursor"]
