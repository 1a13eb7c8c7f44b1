"""The real Python server of Seldon Core before real models: the protocol, errors, load, and how it ends."""

from __future__ import annotations

import json
import signal
import threading
import time

import pytest

pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]

ROW = [59.0, 2.0, 32.1, 101.0, 157.0, 93.2, 38.0, 4.0, 4.8598, 87.0]
NAMES = ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"]


def test_r9_r109_every_form_of_a_message_gives_the_same_prediction(shared):
    """An answer has the form of the request, and says which model it comes from."""
    server = shared("linear")
    status, answer = server.predict({"data": {"ndarray": [ROW, ROW]}})
    assert status == 200
    first, second = answer["data"]["ndarray"]
    assert first == second
    assert answer["data"]["names"] == []
    assert answer["meta"]["tags"] == {"model": "linear", "version": "1"}
    backwards = {"names": NAMES[::-1], "ndarray": [ROW[::-1]]}
    assert server.predict({"data": backwards})[1]["data"]["ndarray"] == [first]
    tensor = server.predict({"data": {"tensor": {"shape": [2, 10], "values": ROW + ROW}}})[1]["data"]["tensor"]
    assert tensor == {"shape": [2], "values": [first, first]}
    for rows in ([ROW], {"instances": [ROW]}, [dict(zip(NAMES, ROW, strict=True))]):
        assert server.predict({"jsonData": rows})[1]["data"]["tensor"]["values"] == [first]
    for plain in ([ROW], {"instances": [ROW]}, {"columns": NAMES[::-1], "data": [ROW[::-1]]}):
        assert server.predict(plain)[1]["data"]["ndarray"] == [first]
    kept = server.predict({"data": {"ndarray": [ROW]}, "meta": {"puid": "p1", "tags": {"mine": 1}}})[1]["meta"]
    assert (kept["puid"], kept["tags"]["mine"]) == ("p1", 1)


def test_values_stay_what_they_are_in_json(shared):
    """A row of numbers and texts does not become one of texts; null is a missing value in both directions."""
    row = [1, 2**53 + 1, 0.5, 0.25, "1", True, "2026-01-02T03:04:05", None, None]
    status, answer = shared("mixed").predict({"data": {"ndarray": [row]}})
    assert status == 200, answer
    found = dict(zip(answer["data"]["names"], answer["data"]["ndarray"][0], strict=True))
    assert (found["i"], found["l"], found["f"], found["d"], found["s"], found["b"]) == (1, 2**53 + 1, 0.5, 0.25, "1", True)
    assert (found["i_type"], found["f_type"], found["b_type"]) == ("int32", "float32", "bool")
    assert found["o"] is None


def test_tensors_of_more_dimensions_and_models_without_a_signature(shared):
    assert shared("tensor").predict({"data": {"tensor": {"shape": [2, 2], "values": [1, 2, 3, 4]}}})[1]["data"]["tensor"] == {
        "shape": [2], "values": [3.0, 7.0]}
    assert shared("untyped").predict({"data": {"ndarray": [ROW]}})[0] == 200


@pytest.mark.parametrize(("body", "status", "words"), [
    (b"{", 400, "JSON"),
    (b"7", 400, "must be an object"),
    ([], 400, "no rows"),
    ({"data": {}}, 400, "ndarray"),
    ({"data": {"ndarray": [[1, 2]]}}, 400, "row 0 has 2 values, expected 1: seconds"),
    ({"data": {"ndarray": [["much"]]}}, 400, "takes numbers, got 'much'"),
    ({"binData": "eA=="}, 400, "no binData"),
    ({"data": {"ndarray": [[-1]]}}, 500, "no negative sleep"),
])
def test_errors_have_seldons_form_and_say_what_is_wrong(shared, body, status, words):
    server = shared("slow")
    got, answer = server.predict(body)
    assert got == status, answer
    assert words in answer["status"]["info"]
    assert server.predict({"data": {"ndarray": [[0.0]]}})[0] == 200


def test_health_metadata_feedback_and_metrics(shared):
    server = shared("linear")
    assert server.ask("GET", "/health/ping") == (200, "pong")
    assert server.ask("GET", "/health/status")[0] == 200
    metadata = server.ask("GET", "/api/v1.0/metadata")[1]
    assert (metadata["name"], metadata["platform"]) == ("linear", "mlflow_sklearn")
    assert [column["name"] for column in metadata["inputs"]] == NAMES
    request = {"request": {"data": {"ndarray": [ROW]}}, "reward": 0.5}
    assert server.ask("POST", "/api/v1.0/feedback", request)[0] == 200
    assert "seldon_api_model_feedback_reward_total" in server.ask("GET", "/metrics")[1]
    assert server.ask("GET", "/seldon.json")[1]["openapi"].startswith("3")


def test_many_callers_at_once_get_their_own_answers(shared):
    """More than the server has threads, each on a connection of its own that it keeps."""
    server, wrong = shared("tensor"), []

    def call(number: int) -> None:
        connection = server.connect()
        for turn in range(20):
            body = json.dumps({"data": {"ndarray": [[number, turn]]}})
            connection.request("POST", "/api/v1.0/predictions", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            document = json.loads(answer.read())
            if answer.status != 200 or document["data"]["ndarray"] != [number + turn]:
                wrong.append((number, turn, answer.status, document))
        connection.close()

    threads = [threading.Thread(target=call, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert wrong == []


def test_sigterm_to_every_process_finishes_what_is_under_way(start, models):
    """As the process agent ends a service; the process with the model outlives the last answer, and nothing is left."""
    server = start(models / "slow").wait_until_ready()
    connection = server.connect()
    connection.request("POST", "/api/v1.0/predictions", '{"data": {"ndarray": [[2.0]]}}', {"Content-Type": "application/json"})
    deadline = time.monotonic() + 30  # until the request has reached the thread that waits for the model
    while time.monotonic() < deadline and server.ask("GET", "/health/status")[0] != 200:
        time.sleep(0.05)
    everybody = server.everybody()
    assert len(everybody) >= 3
    server.tell_all(signal.SIGTERM)
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["data"]["ndarray"]) == (200, [2.0])
    connection.close()
    assert server.process.wait(60) == 0
    assert _gone(server)


@pytest.mark.parametrize("victim", ["model", "server"])
def test_kill_9_of_either_process_ends_the_other(start, models, victim):
    server = start(models / "slow").wait_until_ready()
    child = server.child()
    if victim == "model":
        import os

        os.kill(child, signal.SIGKILL)
        assert server.process.wait(60) == 1
        assert "the process with the model ended" in server.log.read_text()
    else:
        server.process.kill()
        server.process.wait(60)
    assert _gone(server)


def test_a_model_that_cannot_be_loaded_is_a_failure_with_the_reason(start, tmp_path):
    (tmp_path / "none").mkdir()
    server = start(tmp_path / "none")
    assert server.process.wait(120) == 1
    assert "cannot be loaded" in server.log.read_text()
    assert "the process with the model ended" in server.log.read_text()


def _gone(server) -> bool:
    """Whether every process of the server ends by itself."""
    deadline = time.monotonic() + 60
    while server.everybody() and time.monotonic() < deadline:
        time.sleep(0.1)
    return server.everybody() == []
