"""Stopping workloads, and what happens when somebody is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fuseml_process.directories import WorkDirectory, write_json
from fuseml_process.launching import make_directory, start_supervisor
from fuseml_sdk.errors import NotReady

STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import signal,time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"])
print(os.getpid(), child.pid, flush=True)
time.sleep(600)
"""
DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open(os.environ["HOME"] + "/daemon", "w").write(str(os.getpid()))
        time.sleep(600)
    os._exit(0)
while not os.path.exists(os.environ["HOME"] + "/daemon"): time.sleep(0.01)
time.sleep(0.05)
"""


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def ends(pid: int, timeout: float = 5.0) -> bool:
    deadline = time.monotonic() + timeout
    while running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not running(pid)


def printed(bench: Any, name: str) -> list[int]:
    """Numbers on the first line of the log, once it is there."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        text = bench.log(name)
        if text.endswith("\n"):
            return [int(word) for word in text.split()]
        time.sleep(0.02)
    raise AssertionError(bench.plugin.agent_status([name]))


def test_cancel_asks_first(bench: Any) -> None:
    name = bench.submit("import signal, sys, time\n"
                        "signal.signal(15, lambda *_: (print('bye', flush=True), sys.exit(0)))\n"
                        "print(1, flush=True)\ntime.sleep(600)")
    printed(bench, name)
    bench.plugin.agent_cancel(name, 30)
    status = bench.until(name)
    assert (status.state, status.reason) == ("cancelled", "Cancelled")
    assert "bye" in bench.log(name)
    assert bench.plugin.agent_cancel(name, 1).state == "cancelled"


def test_cancel_forces_stubborn_children(bench: Any) -> None:
    name = bench.submit(STUBBORN)
    pids = printed(bench, name)
    began = time.monotonic()
    bench.plugin.agent_cancel(name, 0.3)
    assert bench.until(name).state == "cancelled"
    assert 0.25 < time.monotonic() - began < 5
    assert all(ends(pid) for pid in pids)


def test_r55_timeouts_force_as_well(bench: Any) -> None:
    name = bench.submit(DAEMON + "time.sleep(600)", timeout=0.7)
    assert bench.until(name).reason == "Timeout"
    assert ends(int((bench.root / name / "scratch/daemon").read_text()))


def test_double_forked_children_end_with_their_job(bench: Any) -> None:
    status = bench.run(DAEMON)
    assert status.state == "succeeded"
    assert ends(int((bench.root / status.name / "scratch/daemon").read_text()))


def test_cancel_while_staging(bench: Any, tmp_path: Path) -> None:
    pipe = tmp_path / "requirements.txt"
    os.mkfifo(pipe)  # reading it waits for ever, as a slow index does
    name = bench.submit("pass", environment={"lock": "requirements.txt"}, contents={"uri": tmp_path.as_uri()})
    bench.until(name, "preparing")
    bench.plugin.agent_cancel(name, 1)
    assert bench.until(name, timeout=10).state == "cancelled"


def test_submit_is_idempotent(bench: Any) -> None:
    workload = bench.workload("import time; print('once', flush=True); time.sleep(0.5)")
    for _ in range(5):
        bench.plugin.agent_submit(workload)
    status = bench.until(workload.name)
    assert bench.plugin.agent_submit(workload).state == "succeeded"
    bench.start()
    assert bench.plugin.agent_submit(workload).state == status.state == "succeeded"
    assert bench.log(workload.name) == "once\n"


def test_a_second_supervisor_leaves_at_once(bench: Any) -> None:
    workload = bench.workload("import time; print('once', flush=True); time.sleep(0.3)")
    configuration = bench.plugin.agent._configuration
    make_directory(workload, configuration)
    for _ in range(6):
        start_supervisor(WorkDirectory(bench.root / workload.name), configuration)
    assert bench.until(workload.name).state == "succeeded"
    start_supervisor(WorkDirectory(bench.root / workload.name), configuration)
    time.sleep(0.3)
    assert bench.log(workload.name) == "once\n"


def test_a_submission_that_was_cut_off_is_taken_up(bench: Any) -> None:
    workload = bench.workload("print('once')")
    make_directory(workload, bench.plugin.agent._configuration)  # killed before the supervisor was started
    bench.start()
    assert bench.plugin.agent_status([workload.name])[0].state == "pending"
    bench.plugin.agent_submit(workload)
    assert bench.until(workload.name).state == "succeeded"
    other = bench.workload("print('once')")
    make_directory(other, bench.plugin.agent._configuration)
    old = time.time() - 60
    os.utime(bench.root / other.name / "workload.json", (old, old))
    assert bench.until(other.name).state == "succeeded"  # nobody submits again: the agent notices
    third = bench.workload("print('never')")
    make_directory(third, bench.plugin.agent._configuration)
    assert bench.plugin.agent_cancel(third.name, 1).state == "cancelled"


def test_jobs_whose_supervisors_died_at_once_do_not_keep_others_out_for_ever(bench: Any) -> None:
    cut_off, old = [bench.workload("print('once')") for _ in range(8)], time.time() - 60  # as many jobs as may run
    for workload in cut_off:
        make_directory(workload, bench.plugin.agent._configuration)
        os.utime(bench.root / workload.name / "workload.json", (old, old))
    bench.start()
    waiting, end = bench.workload("print('at last')"), time.monotonic() + 60
    while True:  # nobody asks how the others are
        try:
            bench.plugin.agent_submit(waiting)
            break
        except NotReady:
            assert time.monotonic() < end
            time.sleep(0.05)
    assert bench.until(waiting.name).state == "succeeded"
    assert [bench.until(each.name).state for each in cut_off] == ["succeeded"] * 8


SERVER = """
import json, os, signal, sys
from fuseml_process.plugin import ProcessPlugin
from fuseml_sdk.types import Workload
plugin = ProcessPlugin()
plugin.fuseml_configure(json.loads(sys.argv[1]), sys.argv[2])
plugin.agent_submit(Workload.model_validate_json(sys.argv[3]))
print("submitted", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_server_leaves_jobs_alone_and_the_next_finds_them(bench: Any) -> None:
    workload = bench.workload("import time; time.sleep(1.5); print('finished')")
    first = subprocess.run([sys.executable, "-c", SERVER, json.dumps(bench.config), str(bench.base / "state"),
                            workload.model_dump_json()], capture_output=True, text=True, check=False, timeout=60)
    assert (first.returncode, first.stdout) == (-signal.SIGKILL, "submitted\n")
    bench.start()
    assert bench.plugin.agent_submit(workload).state in ("pending", "preparing", "running")
    assert bench.until(workload.name).state == "succeeded"
    assert bench.log(workload.name) == "finished\n"


def test_a_cursor_survives_a_restart(bench: Any) -> None:
    first = bench.run("pass")
    cursor = bench.plugin.agent_events("", 0).cursor
    assert bench.plugin.agent_events(cursor, 0).statuses == []
    bench.start()
    second = bench.run("pass")
    seen = {status.name for status in bench.plugin.agent_events(cursor, 0).statuses}
    assert seen >= {second.name}
    assert seen <= {first.name, second.name}


def test_events_wake_at_once(bench: Any) -> None:
    cursor = bench.plugin.agent_events("", 0).cursor
    began = time.monotonic()
    assert bench.plugin.agent_events(cursor, 0.3).statuses == []
    assert 0.25 < time.monotonic() - began < 2
    name = bench.submit("import time; print(1, flush=True); time.sleep(1)")
    printed(bench, name)
    cursor = bench.plugin.agent_events(cursor, 0).cursor
    events = bench.plugin.agent_events(cursor, 20)
    assert events.statuses[0].name == name
    assert len(events.statuses) == 1


def test_without_datagrams_the_agent_looks(bench: Any) -> None:
    (bench.plugin.agent._configuration.notify).unlink()
    assert bench.run("pass").state == "succeeded"


def test_a_killed_supervisor_is_lost_and_its_processes_end(bench: Any) -> None:
    name = bench.submit("import os, subprocess, sys, time\n"
                        "c = subprocess.Popen([sys.executable, '-c', 'import os; os.setsid(); import time; time.sleep(600)'])\n"
                        "print(os.getpid(), c.pid, flush=True)\ntime.sleep(600)")
    pids = printed(bench, name)
    os.kill(int((bench.root / name / "lock").read_text()), signal.SIGKILL)
    status = bench.until(name, timeout=10)
    assert (status.state, status.reason) == ("failed", "Lost")
    assert all(ends(pid) for pid in pids)
    assert status.ended_at is not None
    assert bench.plugin.agent_collect(name)


def test_after_a_reboot_running_workloads_are_lost(bench: Any) -> None:
    workload = bench.workload("pass")
    make_directory(workload, bench.plugin.agent._configuration)
    write_json(bench.root / workload.name / "status.json", {"name": workload.name, "state": "running"})
    status = bench.plugin.agent_status([workload.name])[0]
    assert (status.state, status.reason) == ("failed", "Lost")


def test_a_supervisor_told_to_end_says_so(bench: Any) -> None:
    name = bench.submit("import os, time; print(os.getpid(), flush=True); time.sleep(600)")
    pids = printed(bench, name)
    os.kill(int((bench.root / name / "lock").read_text()), signal.SIGTERM)
    status = bench.until(name)
    assert (status.state, status.reason) == ("failed", "Lost")
    assert all(ends(pid) for pid in pids)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_full_disk_is_reported(bench: Any, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)], check=False,
                             capture_output=True)
    if mounted.returncode:
        pytest.skip("this system does not let root mount")
    try:
        bench.start(root=str(small / "work"))
        bench.root = small / "work"
        status = bench.run("import os; open(os.environ['FUSEML_OUTPUT_M'] + '/f', 'wb').write(b'x' * (4 << 20))",
                           outputs=[{"name": "m", "kind": "model"}])
        assert (status.state, status.exit_code) == ("failed", 1)
        assert "No space left" in status.log_tail[-1]
    finally:
        bench.plugin.fuseml_shutdown()
        bench.start(root=str(tmp_path / "work"))
        bench.root = tmp_path / "work"
        subprocess.run(["umount", "-l", str(small)], check=True)


@pytest.mark.full
def test_submit_survives_kill_9_at_any_instruction(bench: Any) -> None:
    """A server is killed at many moments of a submission; the next always ends with exactly one execution."""
    code = SERVER.replace("os.kill(os.getpid(), signal.SIGKILL)", "").replace(
        "plugin.agent_submit", "print('ready', flush=True); plugin.agent_submit")
    for step in range(24):
        workload = bench.workload("print('once')")
        victim = subprocess.Popen([sys.executable, "-c", code, json.dumps(bench.config), str(bench.base / "state"),
                                   workload.model_dump_json()], stdout=subprocess.PIPE, text=True)
        assert victim.stdout is not None
        victim.stdout.readline()
        time.sleep(step * 0.0004)
        victim.kill()
        victim.communicate()
        bench.start()
        bench.plugin.agent_submit(workload)
        assert bench.until(workload.name).state == "succeeded"
        assert bench.log(workload.name) == "once\n"
        bench.plugin.agent_collect(workload.name)
