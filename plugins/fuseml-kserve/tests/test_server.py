"""The server as a process: sockets, limits, errors, the way it ends."""

from __future__ import annotations

import json
import signal
import threading
import time

import pytest


def test_r109_it_listens_on_a_unix_socket_that_was_passed(start, models, tmp_path):
    server = start(models / "slow", unix=tmp_path / "s.sock")
    assert server.post("/predict", [[0.0]]) == (200, {"predictions": [0.0]})


def test_the_model_is_called_as_fuseml_calls_it(start, models, tmp_path):
    info = tmp_path / "info.json"
    info.write_text(json.dumps({"project": "p", "name": "churn", "digest": "sha256:" + "ab" * 32}))
    server = start(models / "slow", env={"FUSEML_INPUT_MODEL_INFO": str(info)})
    assert server.get("/v2/models/churn")[1]["versions"] == ["abababababab"]
    assert server.get("/v2/models/churn/versions/abababa/ready")[0] == 200
    assert server.get("/v2/models/churn/versions/cdcdcdc/ready")[0] == 404


@pytest.mark.parametrize(("method", "path", "body", "status", "message"), [
    ("POST", "/predict", "{", 400, "the body is not JSON"),
    ("POST", "/predict", "7", 400, "the body must be a list of rows"),
    ("POST", "/predict", "[]", 400, "there are no rows"),
    ("POST", "/predict", '{"rows": []}', 400, "the body must be a list of rows"),
    ("POST", "/predict", '{"instances": [], "inputs": []}', 400, "got instances, inputs"),
    ("POST", "/predict", "[[1, 2]]", 400, "row 0 has 2 values, expected 1: seconds"),
    ("POST", "/predict", "[[-1]]", 500, "the model failed: RuntimeError: no negative sleep"),
    ("POST", "/predict", "[" * 100_000, 400, "too deep"),
    ("POST", "/v2/models/slow/infer", '{"inputs": [], "parameters": 7}', 400, "parameters must be an object"),
    ("GET", "/predict", None, 405, "use POST"),
    ("DELETE", "/predict", None, 405, "use POST"),
    ("GET", "/nothing", None, 404, "there is nothing at /nothing"),
    ("POST", "/v2/models/slow/infer", "{}", 400, "an object with inputs"),
    ("POST", "/v2/models/slow/infer", '{"inputs": []}', 400, "one tensor at least"),
    ("POST", "/v2/models/other/infer", "{}", 404, "there is no model 'other'"),
])
def test_errors_are_json_and_the_connection_goes_on(shared, method, path, body, status, message):
    server = shared("slow")
    got, answer = server.request(method, path, body)
    assert got == status
    assert message in answer["error"]
    assert server.post("/predict", [[0.0]])[0] == 200


def test_bodies_in_chunks(shared):
    server = shared("slow")
    assert server.request("POST", "/predict", iter([b"[[0", b".25]]"])) == (
        200, {"predictions": [0.25]})


def test_bodies_that_are_too_large_are_refused(start, models):
    server = start(models / "slow", arguments=["--max-body", "100"])
    status, answer = server.post("/predict", [[0.0]] * 100)
    assert (status, answer["error"]) == (413, "the body is larger than 100 bytes")
    assert server.post("/predict", [[0.0]])[0] == 200


def test_requests_are_answered_at_the_same_time(shared):
    server = shared("slow")
    began = time.monotonic()
    answers = []

    def ask():
        connection = server.connect()
        connection.request("POST", "/predict", "[[0.5]]")
        answers.append(connection.getresponse().status)
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 6
    assert time.monotonic() - began < 2.5


def test_sigterm_finishes_what_is_under_way_and_accepts_no_more(start, models):
    server = start(models / "slow")
    idle, busy = server.connect(), server.connect()
    idle.request("GET", "/v2/health/live")
    idle.getresponse().read()
    busy.request("POST", "/predict", "[[1.0]]")
    time.sleep(0.3)
    server.process.send_signal(signal.SIGTERM)
    answer = busy.getresponse()
    assert (answer.status, answer.getheader("Connection")) == (200, "close")
    assert json.loads(answer.read()) == {"predictions": [1.0]}
    assert server.process.wait(timeout=10) == 0
    with pytest.raises(OSError, match="refused"):
        server.connect().connect()
    idle.close()
    busy.close()


def test_a_model_that_cannot_be_loaded_ends_the_server_with_a_reason(start, tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(AssertionError, match="cannot be loaded"):
        start(tmp_path / "none")


@pytest.mark.full
def test_r109_the_kserve_engine_gives_the_same_answers(start, models, home, expected_kserve):
    rows, python = expected_kserve
    own, other = start(models / "linear"), start(models / "linear", python=python, engine="kserve")
    listening = other.process.pid
    assert listening
    got, wanted = (server.post("/predict", rows)[1]["predictions"] for server in (other, own))
    assert max(abs(a - b) for a, b in zip(got, wanted, strict=True)) <= 1e-9
    assert other.post("/v1/models/linear:predict", {"instances": rows})[1]["predictions"] == got
    tensor = {"inputs": [{"name": "x", "shape": [len(rows), 10], "datatype": "FP64", "data": rows}]}
    assert other.post("/v2/models/linear/infer", tensor)[1]["outputs"][0]["data"] == got
    assert other.post("/predict", [["a"]])[0] == 400
    assert other.stop() == 0


@pytest.fixture
def expected_kserve(home):
    from fuseml_sdk.environments import compile_lock, ensure_environment, find_python

    python, _ = find_python("3.11")
    lock = compile_lock(["mlflow-skinny==3.17.2", "scikit-learn==1.9.1", "skops==0.16.0", "pandas==2.3.3", "kserve"],
                        python, universal=False)
    return [[59.0, 2.0, 32.1, 101.0, 157.0, 93.2, 38.0, 4.0, 4.8598, 87.0]], \
        ensure_environment(home / "envs", lock=lock, python=python).python
