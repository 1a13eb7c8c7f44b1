"""`kill -9` of the server's parts while it works: nothing is lost, nothing happens twice."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]


@pytest.fixture
def own(fuseml, tmp_path) -> Iterator[tuple]:
    """An installation of its own with a training pipeline that takes four seconds and notes every start."""
    fuseml("bundle", "push", "tests/e2e/bundles/numbers")
    fuseml("extension", "install", "numbers")
    fuseml("project", "create", "p")
    fuseml("project", "set", "p")
    witness = tmp_path / "witness"
    witness.touch()
    fuseml("pipeline", "add", "mean-training", "--name", "training-pipeline", "--input", "code=code://*",
           "--param", "seconds=4", "--param", f"witness={witness}")
    fuseml("pipeline", "add", "mean-serving", "--name", "serving-pipeline", "--input", "model=model://*")
    code = tmp_path / "code"
    code.mkdir()
    (code / "numbers.txt").write_text("1 2 3\n")
    return fuseml, code, witness


def _starts(witness: Path) -> list[str]:
    return witness.read_text().splitlines()


def _wait_until_working(fuseml, witness: Path, starts: int = 1) -> None:
    fuseml.wait_for(lambda: len(_starts(witness)) >= starts, 60, "the start of the step")


def _finished(fuseml, run: str) -> bool:
    return fuseml.json("run", "get", run)["state"] == "succeeded"


def test_control_is_killed_during_training(own):
    """The training process goes on, predictions and pulls too; then the run finishes, once."""
    fuseml, code, witness = own
    fuseml("codeset", "push", str(code), "--name", "myapp", "--wait")
    url = fuseml.json("service", "get", "myapp")["url"]
    (code / "numbers.txt").write_text("10\n")
    push = fuseml.begin("codeset", "push", str(code), "--name", "myapp", "--wait")
    _wait_until_working(fuseml, witness, 2)
    worker = int(_starts(witness)[-1].split()[1])

    fuseml.kill("control")

    assert fuseml.post(url, [1])["predictions"] == [2.0]
    fuseml.git("clone", "-q", f"{fuseml.base_url}/git/p/myapp.git", "copy", cwd=code.parent)
    os.kill(worker, 0)
    output = push.communicate(timeout=120)[0]
    assert push.returncode == 0, output
    assert _finished(fuseml, "training-pipeline/2")
    assert len(_starts(witness)) == 2
    assert len(fuseml.json("model", "list")) == 2
    fuseml.wait_for(lambda: fuseml.post(url, [1])["predictions"] == [10.0], 60, "the new model")


@pytest.mark.parametrize("during", ["training", "serving"])
def test_everything_but_the_shims_is_killed(own, during):
    """The next start attaches again: the run finishes with one start of the step and one model."""
    fuseml, code, witness = own
    push = fuseml.begin("codeset", "push", str(code), "--name", "myapp", "--wait")
    _wait_until_working(fuseml, witness)
    if during == "serving":
        push.communicate(timeout=120)
        before = fuseml.json("service", "get", "myapp")

    for process in ("launcher", "control", "data"):
        with contextlib.suppress(ProcessLookupError, KeyError):
            fuseml.kill(process)
    if during == "training":
        push.kill()
        push.communicate(timeout=30)
    time.sleep(0.5)
    fuseml("server", "start")

    fuseml.wait_for(lambda: _finished(fuseml, "training-pipeline/1"), 60, "the end of the run")
    fuseml.wait_for(lambda: _finished(fuseml, "serving-pipeline/1"), 60, "the service")
    assert len(_starts(witness)) == 1
    assert len(fuseml.json("model", "list")) == 1
    service = fuseml.json("service", "get", "myapp")
    assert fuseml.post(service["url"], [1])["predictions"] == [2.0]
    if during == "serving":
        assert service["instance"] == before["instance"]


def test_data_is_killed(own):
    """The launcher starts it again at the same address, with the routes in force."""
    fuseml, code, _ = own
    fuseml("codeset", "push", str(code), "--name", "myapp", "--wait")
    url = fuseml.json("service", "get", "myapp")["url"]
    killed = fuseml.kill("data")

    def answers() -> bool:
        with contextlib.suppress(OSError):
            return fuseml.post(url, [1], timeout=5)["predictions"] == [2.0]
        return False

    fuseml.wait_for(answers, 30, "an answer of the service")
    assert fuseml.state["pids"]["data"] != killed


def test_the_worker_is_killed(own):
    """A signal from outside fails the step and says which; the next push works."""
    fuseml, code, witness = own
    push = fuseml.begin("codeset", "push", str(code), "--name", "myapp", "--wait")
    _wait_until_working(fuseml, witness)
    os.kill(int(_starts(witness)[0].split()[1]), signal.SIGKILL)

    output = push.communicate(timeout=60)[0]

    assert push.returncode == 1
    assert "SIGKILL" in output or "signal 9" in output
    (code / "numbers.txt").write_text("10\n")
    fuseml("codeset", "push", str(code), "--name", "myapp", "--wait")


def test_stop_refuses_while_a_job_runs_and_force_does_not(own):
    """`server stop` protects work; `--force` ends it."""
    fuseml, code, witness = own
    push = fuseml.begin("codeset", "push", str(code), "--name", "myapp", "--wait")
    _wait_until_working(fuseml, witness)

    refused = fuseml("server", "stop", code=None)
    assert refused.code != 0
    assert "--force" in refused.err
    fuseml("server", "stop", "--force")
    push.terminate()  # it would go on asking for a while, in case the server comes back
    push.communicate(timeout=30)

    assert fuseml.workload_processes("collect.py") == []


def test_services_come_back_after_a_stop_as_after_a_reboot(own):
    """Stopping the server stops the services; starting it restores those that should run."""
    fuseml, code, _ = own
    fuseml("codeset", "push", str(code), "--name", "myapp", "--wait")
    fuseml("server", "stop")
    assert fuseml.workload_processes("answer.py") == []
    fuseml("server", "start")
    found = fuseml.json("service", "get", "myapp")
    assert (found["state"], found["message"]) in (("starting", ""), ("ready", "")), "it is not stopped"

    fuseml.wait_for(lambda: fuseml.json("service", "get", "myapp")["state"] == "ready", 60, "the service")
    assert fuseml.post(fuseml.json("service", "get", "myapp")["url"], [1])["predictions"] == [2.0]


def test_stop_just_after_control_was_killed_leaves_nothing(own):
    """Only control knows what runs; the stop waits until it is back, and ends services and jobs."""
    fuseml, code, witness = own
    fuseml("codeset", "push", str(code), "--name", "myapp", "--wait")
    (code / "numbers.txt").write_text("10\n")
    fuseml("codeset", "push", str(code), "--name", "myapp")
    _wait_until_working(fuseml, witness, 2)

    fuseml.kill("control")
    fuseml("server", "stop", "--force")

    assert fuseml.workload_processes("collect.py") == []
    assert fuseml.workload_processes("answer.py") == []


def test_stop_ends_what_a_killed_server_left_behind(own):
    """Services live on when everything but the shims is killed; `server stop` still ends them."""
    fuseml, code, _witness = own
    fuseml("codeset", "push", str(code), "--name", "myapp", "--wait")
    for pid in [int(fuseml.state["pids"][name]) for name in ("launcher", "control", "data")]:
        os.kill(pid, signal.SIGKILL)
    assert fuseml.wait_for(lambda: fuseml.workload_processes("answer.py"), 10, "the service to live on")

    fuseml("server", "stop")

    fuseml.wait_for(lambda: not fuseml.workload_processes("answer.py"), 30, "the end of the service")
    assert "No server was running" in fuseml("server", "stop").out
