"""The launcher with the real control and data processes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from fuseml_core.domain.errors import Conflict, Failed, Refused, Unavailable
from fuseml_core.launcher import start, status, stop
from fuseml_core.launcher.child import Child, Program
from fuseml_core.launcher.logs import RotatingLog
from fuseml_core.launcher.requests import ask
from fuseml_core.launcher.stopping import alive
from fuseml_core.settings import from_environment


def wait_until(condition, timeout=30.0):
    until = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)
    return found


@pytest.fixture
def settings(monkeypatch):
    folder = Path(tempfile.mkdtemp(prefix="fz", dir="/tmp"))
    runtime = folder / "r"
    runtime.mkdir(mode=0o700)
    for name in [n for n in os.environ if n.startswith("FUSEML_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FUSEML_HOME", str(folder / "home"))
    monkeypatch.setenv("FUSEML_PORT", "0")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    settings = from_environment()
    yield settings
    stop(settings, force=True, timeout=60)
    shutil.rmtree(folder, ignore_errors=True)


def ready_again(settings, before):
    """The state after the process that was killed has been started again."""
    return wait_until(lambda: (now := status(settings)) and now.state == "ready" and now.pids != before.pids and now)


def fuseml(*arguments):
    done = subprocess.run([Path(sys.executable).with_name("fuseml"), *arguments], capture_output=True, text=True,
                          check=False, timeout=90)
    return done.returncode, done.stdout + done.stderr


def gone(*pids):
    return lambda: not any(alive(pid) for pid in pids)


def test_r166_start_status_and_stop(settings):
    assert status(settings) is None
    state = start(settings, 60)
    assert (state.state, set(state.pids)) == ("ready", {"launcher", "control", "data"})
    assert status(settings) == state
    assert ask(settings.data_socket, "GET", "/api/v1/server")["port"] == state.port
    assert start(settings, 60) == state, "a second start is as good as the first"
    for private in (settings.home, settings.runtime_dir, settings.path("logs")):
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
    for name in (settings.control_socket, settings.data_socket, settings.state_file):
        assert name.stat().st_mode & 0o077 == 0
    assert stop(settings, timeout=60)
    assert gone(*state.pids.values())()
    assert status(settings) is None
    assert not settings.state_file.exists()
    assert not settings.data_socket.exists()
    assert not stop(settings)


def test_many_starts_at_once_make_one_server(settings):
    found, threads = [], []
    for _ in range(4):
        threads.append(threading.Thread(target=lambda: found.append(start(settings, 60))))
        threads[-1].start()
    for thread in threads:
        thread.join(60)
    assert len({state.pids["launcher"] for state in found}) == 1
    assert len(found) == 4


def test_a_second_launcher_names_the_first(settings):
    state = start(settings, 60)
    done = subprocess.run([sys.executable, "-m", "fuseml_core.launcher"], capture_output=True, text=True, check=False,
                          timeout=60)
    assert done.returncode == Conflict.exit_code
    assert f"runs already, as process {state.pids['launcher']}" in done.stdout
    assert status(settings) == state


def test_a_port_that_is_taken_is_named(settings, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setenv("FUSEML_PORT", str(port))
        with pytest.raises(Conflict, match=f"Port {port} on 127.0.0.1 is taken") as error:
            start(from_environment(), 60)
        assert "FUSEML_PORT" in error.value.hint
        assert str(port) in error.value.hint
    assert status(settings) is None
    assert start(from_environment(), 60).port == port


def test_a_process_that_cannot_start_is_told_with_its_last_lines(settings, monkeypatch):
    monkeypatch.setenv("FUSEML_DATABASE_URL", "nonsense://x")
    with pytest.raises(Failed, match="The control process exited with code 1 while starting") as error:
        start(from_environment(), 60)
    assert "nonsense" in error.value.message
    assert status(settings) is None


def test_kill_9_of_data_and_of_control_are_repaired(settings):
    state = start(settings, 60)
    os.kill(state.pids["data"], signal.SIGKILL)
    # The launcher holds the listening socket: the request waits for the next process instead of being refused.
    assert ask(settings.data_socket, "GET", "/healthz", timeout=20)["status"] == "ok"
    second = ready_again(settings, state)
    assert second.port == state.port
    os.kill(second.pids["control"], signal.SIGKILL)
    wait_until(gone(second.pids["control"]))
    assert ask(settings.data_socket, "GET", "/healthz")["status"] == "ok"
    third = ready_again(settings, second)
    assert third.pids["data"] == second.pids["data"]
    assert third.pids["launcher"] == state.pids["launcher"]
    assert ask(settings.data_socket, "GET", "/api/v1/server")["version"] == third.version


def test_kill_9_of_the_launcher_takes_its_processes_along(settings):
    state = start(settings, 60)
    os.kill(state.pids["launcher"], signal.SIGKILL)
    wait_until(gone(*state.pids.values()))
    assert status(settings) is None
    assert "the launcher is gone" in settings.path("logs", "control.log").read_text()
    again = start(settings, 60)
    assert again.state == "ready"
    assert not set(again.pids.values()) & set(state.pids.values())


def test_a_start_right_after_kill_9_of_the_launcher_waits_for_the_old_processes(settings):
    state = start(settings, 60)
    os.kill(state.pids["launcher"], signal.SIGKILL)
    again = start(settings, 60)
    assert again.state == "ready"
    wait_until(gone(*state.pids.values()), 2)


@pytest.mark.full
def test_a_crash_loop_is_given_up_and_the_other_process_goes_on(settings):
    state = start(settings, 60)
    seen = set()

    def kill_next():
        now = status(settings)
        pid = now.pids.get("control")
        if pid and pid not in seen:
            seen.add(pid)
            os.kill(pid, signal.SIGKILL)
        return "again and again" in now.problems.get("control", "")

    wait_until(kill_next, 60)
    now = status(settings)
    assert now.state == "degraded"
    assert now.pids["data"] == state.pids["data"]
    assert ask(settings.data_socket, "GET", "/healthz")["status"] == "ok"
    assert "crash" in settings.path("logs", "launcher.log").read_text() or now.problems
    with pytest.raises(Unavailable, match="does not say what runs"):
        stop(settings)
    code, out = fuseml("server", "status")
    assert code == 1
    assert "Start it once more: fuseml server start" in out
    code, out = fuseml("server", "start")
    assert code == 0, out
    assert "The server runs again: " in out
    assert "the control process" in out
    now = status(settings)
    assert (now.state, now.given_up, now.problems) == ("ready", [], {})
    assert (now.pids["data"], now.pids["launcher"]) == (state.pids["data"], state.pids["launcher"])
    assert ask(settings.control_socket, "GET", "/healthz")["status"] == "ok"
    assert "runs already" in fuseml("server", "start")[1]

    wait_until(kill_next, 60)
    database = settings.path("fuseml.db")
    database.rename(database.with_suffix(".aside"))
    database.mkdir()
    with pytest.raises(Failed, match="control process exited with code 3, again and again") as caught:
        start(settings, 120)
    assert "last lines" in caught.value.hint
    assert status(settings).given_up == ["control"]
    assert stop(settings, force=True, timeout=60)


def test_serve_in_the_foreground_ends_with_ctrl_c(settings):
    fuseml = Path(sys.executable).with_name("fuseml")
    process = subprocess.Popen([fuseml, "serve"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               start_new_session=True)
    wait_until(lambda: (now := status(settings)) and now.state == "ready")
    pids = status(settings).pids
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "The server runs: http://127.0.0.1:" in output
    assert gone(*pids.values())()


def test_directories_of_somebody_else_are_refused(settings, tmp_path):
    if os.getuid() != 0:
        pytest.skip("needs another user's directory")
    settings.runtime_dir.parent.mkdir(exist_ok=True)
    settings.runtime_dir.mkdir(mode=0o777)
    os.chown(settings.runtime_dir, 65534, 65534)
    with pytest.raises(Refused, match="belongs to user 65534"):
        start(settings, 60)


def test_the_commands_start_describe_and_stop_the_server(settings):
    assert fuseml("server", "status")[0] == 1
    code, out = fuseml("server", "start")
    assert code == 0, out
    assert "The server runs: http://127.0.0.1:" in out
    assert "runs already" in fuseml("server", "start")[1]
    code, out = fuseml("server", "status", "-o", "json")
    assert code == 0
    assert '"state": "ready"' in out
    assert "the data process" in fuseml("server", "logs", "launcher")[1]
    assert fuseml("server", "stop") == (0, "The server is stopped.\n")


def test_a_death_by_a_signal_without_a_name_is_told_as_such(tmp_path):
    """Python knows no names of most signals of real time; asking for one must not end the launcher."""
    sleeping = Program("control", [sys.executable, "-c", "import time; time.sleep(600)"], tmp_path / "health.sock")
    child = Child(sleeping, RotatingLog(tmp_path / "control.log"))
    child.start()
    os.kill(child.pid, signal.SIGRTMIN + 1)
    assert wait_until(child.buried) == f"was killed by signal {signal.SIGRTMIN + 1}"
    child.close()
