from __future__ import annotations

import json
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from fuseml_core.domain.errors import Unavailable
from fuseml_core.launcher.requests import ask


def wait_until(condition, timeout=20.0):
    until = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)
    return found


def header(seen, name):
    return [value for key, value in seen["headers"] if key == name]


def test_r184_a_service_is_reached_by_path_and_by_host(data):
    data.route(churn=data.service("churn"))
    _, by_path = data.json("POST", "/serve/p/churn/v2/a%20b%2Fc?x=1&y=%2F", b"{}")
    assert (by_path["path"], by_path["raw"], by_path["query"]) == ("/v2/a b/c", "/v2/a%20b%2Fc", "x=1&y=%2F")
    assert header(by_path, "x-forwarded-prefix") == ["/serve/p/churn"]
    _, by_host = data.json("POST", "/predict", b"{}", {"Host": f"churn.p.ml.example.org:{data.port}"})
    assert (by_host["path"], by_host["who"]) == ("/predict", "churn")
    assert header(by_host, "x-forwarded-host") == [f"churn.p.ml.example.org:{data.port}"]


def test_the_bare_address_describes_the_service(data):
    data.route(churn=data.service())
    for path, headers in (("/serve/p/churn", {}), ("/serve/p/churn/", {}), ("/", {"Host": "churn.p.ml.example.org"})):
        status, about = data.json("GET", path, headers=headers)
        assert (status, about["service"], about["state"]) == (200, "churn", "ready")
        assert about["predict_url"].endswith("/predict")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "POST"])
def test_methods_and_headers_pass_and_hop_by_hop_headers_do_not(data, method):
    data.route(a=data.service())
    status, headers, body = data.request(method, "/serve/p/a/x", b"data" if method[0] == "P" else None, {
        "X-Mine": "1", "Connection": "X-Private", "X-Private": "secret", "TE": "trailers",
        "X-Forwarded-For": "10.0.0.1"})
    assert status == 200
    assert headers["x-kept"] == "1"
    assert "x-hop" not in headers
    assert len([k for k in headers if k.lower() == "date"]) == 1
    if method != "HEAD":
        seen = json.loads(body)
        assert seen["method"] == method
        assert header(seen, "x-mine") == ["1"]
        assert header(seen, "x-private") == header(seen, "te") == []
        assert header(seen, "x-forwarded-for") == ["10.0.0.1, 127.0.0.1"]
        assert header(seen, "x-forwarded-proto") == ["http"]


@pytest.mark.parametrize("size", [0, 1, 70_000, 5 << 20])
@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_of_every_size_arrive_whole(data, size, chunked):
    data.route(a=data.service())
    body = os.urandom(size)
    pieces = (body[n:n + 50_000] for n in range(0, size, 50_000))
    status, seen = data.json("POST", "/serve/p/a/x", pieces if chunked else body, encode_chunked=chunked,
                             headers={"Transfer-Encoding": "chunked"} if chunked else None)
    assert (status, seen["length"]) == (200, size)


def test_answers_are_streamed_as_they_come(data):
    data.route(a=data.service())
    connection = data.connect()
    connection.request("GET", "/serve/p/a/stream")
    answer = connection.getresponse()
    times = []
    while line := answer.readline():
        times.append((time.monotonic(), line))
    connection.close()
    assert [line for _, line in times] == [b"0\n", b"1\n", b"2\n", b"3\n"]
    assert times[-1][0] - times[0][0] > 0.4


def test_unknown_starting_and_dead_services_are_told_apart(data):
    dead = data.service()
    data.route(soon=None, dead=dead)
    dead.kill()
    for name, status, code in (("other", 404, "not-found"), ("soon", 503, "unavailable"), ("dead", 503, "unavailable")):
        found, problem = data.json("POST", f"/serve/p/{name}/predict", b"{}")
        assert (found, problem["status"], problem["code"]) == (status, status, code)
        assert name in problem["detail"]
    status, problem = data.json("POST", "/predict", b"{}", {"Host": "other.p.ml.example.org"})
    assert (status, problem["code"]) == (404, "not-found")


def test_an_answer_that_breaks_off_is_cut_for_the_client_too(data):
    data.route(a=data.service())
    with pytest.raises(Exception, match="Incomplete"):
        data.request("GET", "/serve/p/a/cut")
    assert data.json("GET", "/healthz")[0] == 200


def test_a_request_that_kills_its_service_is_tried_once_more_and_then_told(data):
    data.route(a=data.service())
    status, problem = data.json("POST", "/serve/p/a/die", b"{}")
    assert (status, problem["code"]) == (503, "unavailable")


def test_r133_no_link_in_the_place_of_a_socket_leads_to_the_control_process(data):
    """An agent has told the address of its service, and changes what lies there afterwards."""
    service = data.service()
    path = Path(service.endpoint.removeprefix("unix:"))
    data.route(a=service)
    assert data.json("POST", "/serve/p/a/x", b"{}")[0] == 200
    other = data.service()
    path.with_name("link.sock").symlink_to(other.endpoint.removeprefix("unix:"))
    other.endpoint = f"unix:{path.with_name('link.sock')}"
    data.route(a=other)
    status, problem = data.json("POST", "/serve/p/a/x", b"{}")
    assert (status, problem["code"]) == (503, "unavailable")


def test_a_client_that_leaves_frees_the_service(data):
    service = data.service()
    data.route(a=service)
    socket_path = service.endpoint.removeprefix("unix:")
    connection = data.connect()
    connection.request("POST", "/serve/p/a/wait", b"{}")
    wait_until(lambda: Path(socket_path + ".waiting").exists())
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()
    wait_until(lambda: Path(socket_path + ".gone").exists())


def test_requests_in_flight_are_counted_for_draining(data):
    instances = data.route(a=data.service())
    count = lambda: ask(data.settings.data_socket, "GET", f"/internal/instances/{instances['a']}")["in_flight"]  # noqa: E731
    assert count() == 0
    running = [threading.Thread(target=data.request, args=("POST", "/serve/p/a/slow", b"{}")) for _ in range(3)]
    for thread in running:
        thread.start()
    wait_until(lambda: count() == 3)
    data.route(a=None)
    assert count() == 3, "the old instance is still answering"
    for thread in running:
        thread.join(10)
    assert count() == 0


def test_r117_no_request_fails_while_a_service_is_replaced_under_load(data):
    """Instances come and go, as the engine replaces them: route to the new, drain the old, end it."""
    failures, done, stop = [], [], threading.Event()

    def load():
        connection = data.connect()
        while not stop.is_set():
            connection.request("POST", "/serve/p/a/predict", b'{"rows": [[1]]}')
            answer = connection.getresponse()
            body = answer.read()
            (done if answer.status == 200 else failures).append(body)
        connection.close()

    current = data.service("0")
    instances = data.route(a=current)
    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(1, 6):
        new = data.service(str(number))
        old, old_instance = current, instances["a"]
        instances = data.route(a=new)
        wait_until(lambda name=old_instance: ask(
            data.settings.data_socket, "GET", f"/internal/instances/{name}")["in_flight"] == 0)
        old.kill()
        current = new
    before = len(done)
    wait_until(lambda: len(done) > before + 20)
    stop.set()
    for thread in threads:
        thread.join(20)
    assert failures == []
    assert {json.loads(body)["who"] for body in done} == {"0", "1", "2", "3", "4", "5"}


def test_a_killed_instance_whose_route_has_moved_loses_no_request(data):
    """The request is at an instance that dies; it is sent again to the one that is routed to then."""
    old, new = data.service("old"), data.service("new")
    data.route(a=old)
    found = []
    waiting = threading.Thread(target=lambda: found.append(data.json("POST", "/serve/p/a/slow", b"{}")))
    waiting.start()
    time.sleep(0.3)
    data.route(a=new)
    old.kill()
    waiting.join(10)
    assert (found[0][0], found[0][1]["who"]) == (200, "new")


def test_a_broken_table_changes_nothing(data):
    data.route(a=data.service())
    for table in ({}, {"services": {"a": {}}}, {"services": {"p/a": {"endpoint": "ftp://x"}}}, {"services": []}):
        with pytest.raises(Unavailable, match="status 400"):
            ask(data.settings.data_socket, "PUT", "/internal/routes", table)
    assert data.json("POST", "/serve/p/a/x", b"{}")[0] == 200
