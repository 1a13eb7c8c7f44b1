"""Services: replaced without a failed request, stopped, started, owned by one pipeline."""

from __future__ import annotations

import os
import signal
import threading
import time


def test_a_new_model_replaces_the_old_one_without_a_failed_request(project):
    """Requests go on during the switch; at some point the answers change, and never fail."""
    project.add_pipelines()
    project.push(numbers="1 2 3\n")
    url = project.json("service", "get", "myapp")["url"]
    answers, failures, done = [], [], threading.Event()

    def ask() -> None:
        while not done.is_set():
            try:
                answers.append(project.fuseml.post(url, [1])["predictions"][0])
            except OSError as error:
                failures.append(error)
            time.sleep(0.01)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        project.push(numbers="10\n")
        time.sleep(0.5)
    finally:
        done.set()
        thread.join(30)

    assert failures == []
    assert answers[0] == 2.0
    assert answers[-1] == 10.0
    assert project.json("service", "get", "myapp")["url"] == url


def test_a_service_is_stopped_and_started_by_hand(project):
    """Stopped means that requests are refused with a reason, until it is started again."""
    project.add_pipelines()
    project.push(numbers="1 2 3\n")
    project("service", "stop", "myapp")
    refused = project("service", "predict", "myapp", "--data", "[1]", code=None)
    project("service", "start", "myapp")

    assert refused.code != 0
    assert "myapp" in refused.err
    project.fuseml.wait_for(lambda: project.json("service", "get", "myapp")["state"] == "ready", 30, "the service")
    assert project("service", "predict", "myapp", "--data", "[1]").out.strip().startswith('{"predictions": [2.0]')
    assert "predicting 1 rows" in project("service", "logs", "myapp").out


def test_a_service_belongs_to_one_pipeline(project):
    """A second pipeline that would serve under the same name fails with the reason; the first goes on."""
    project.add_pipelines()
    project.push(numbers="1 2 3\n")
    added = project("pipeline", "add", "mean-serving", "--name", "second", "--input", "model=model://*", "--wait",
                    code=None)

    assert added.code != 0
    assert "serving-pipeline" in added.out + added.err
    assert project("service", "predict", "myapp", "--data", "[1]").code == 0


def test_a_service_whose_process_dies_is_started_again(project):
    """The process agent notices; the service counts the restart."""
    project.add_pipelines()
    project.push(numbers="1 2 3\n")
    service = project.json("service", "get", "myapp")
    pid = project.fuseml.post(service["url"], [1])["pid"]

    os.kill(pid, signal.SIGKILL)

    def restarted() -> dict | None:
        found = project.json("service", "get", "myapp")
        return found if found["state"] == "ready" and found["instance"] != service["instance"] else None

    found = project.fuseml.wait_for(restarted, 30, "another instance")
    assert found["restarts"] == 1
    assert project.fuseml.post(found["url"], [1])["predictions"] == [2.0]
