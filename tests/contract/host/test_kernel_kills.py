"""The kernel ends processes for want of memory: the host lives, and says that it was the memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from contextlib import suppress
from pathlib import Path

import pytest

from .conftest import alive, until

MIB = 1 << 20
ROOT = Path("/sys/fs/cgroup")


def _places():
    """Where a control group may be made, with the files of its version that limit memory and swap."""
    yield ROOT / "memory", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"
    own = next((line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")), "/")
    for place in dict.fromkeys((ROOT / own.lstrip("/"), (ROOT / own.lstrip("/")).parent, ROOT)):
        if ROOT in (place, *place.parents):
            yield place, "memory.max", "memory.swap.max"


@pytest.fixture
def memory_group():
    """Makes control groups with so many bytes of memory, and gives the file that takes process ids."""
    made = []

    def make(amount):
        for place, memory, swap in _places():
            group = place / f"fuseml-test-{uuid.uuid4().hex[:12]}"
            try:
                group.mkdir()
            except OSError:
                continue
            made.append(group)
            try:
                (group / memory).write_text(str(amount))
            except OSError:
                continue
            with suppress(OSError):  # not every kernel counts swap; version 1 counts both together
                (group / swap).write_text(str(amount if "memsw" in swap else 0))
            return group / "cgroup.procs"
        reason = "no control group that limits memory can be made here: it takes root, or a delegated one"
        return (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)

    yield make
    for group in made:
        def gone(group=group):
            with suppress(OSError):
                group.rmdir()
            return not group.exists()

        assert until(gone)


def _info(host):
    return host.components()[0]


@pytest.fixture
def agent(host, component):
    host.add(component("agent"))
    made = host.agent("agent-0")
    made.describe()
    return made


def _move(host, agent, group):
    """Until the host has seen where the process is now."""
    pid = _info(host).pid
    group.write_text(str(pid))
    kills = host._entries["agent-0"][0]._process._kills
    assert until(lambda: agent.describe() and any(path.parent == group.parent for path in kills._now))
    return pid


def test_r133_a_kill_by_the_kernel_is_reported_as_out_of_memory(host, agent, memory_group):
    pid = _move(host, agent, memory_group(128 * MIB))
    assert agent.status(["fault-starves_once"], timeout=120)[0].state == "unknown"  # by the next process
    assert _info(host).restarts == 1
    assert not alive(pid)
    (report,) = _info(host).crashes
    assert (report.cause, report.detail, report.hook) == ("out of memory", "signal SIGKILL", "agent_status")
    assert "out of memory (signal SIGKILL) after " in _info(host).last_crash


def test_a_kill_by_somebody_is_not_taken_for_one_by_the_kernel(host, agent, memory_group):
    """Although the kernel has just ended another process, in another control group."""
    pid = _move(host, agent, memory_group(128 * MIB))
    hungry = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read(); b'1' * (1 << 30)"],
                              stdin=subprocess.PIPE)
    memory_group(64 * MIB).write_text(str(hungry.pid))
    hungry.communicate(timeout=60)
    assert hungry.returncode == -signal.SIGKILL
    os.kill(pid, signal.SIGKILL)
    assert agent.describe(timeout=60).name == "example"
    (report,) = _info(host).crashes
    assert (report.cause, report.detail) == ("signal SIGKILL", "")


#: A server in the same control group as its plugin; it reports what became of that.
SERVER = '''
import json, sys
from pathlib import Path
from fuseml_core.host import Component, PluginHost
python, runtime, state, *readable = sys.argv[1:]
sys.stdin.readline()
host = PluginHost(runtime_dir=Path(runtime), log_dir=Path(state).parent)
host.add(Component(id="a", extension="example", version="1", digest="", family="agent", name="toy",
                   plugin="example_extension:Agent", hosting="subprocess", config={}, state_dir=Path(state),
                   python=Path(python), readable=tuple(map(Path, readable))))
agent = host.agent("a")
agent.describe(timeout=60)
pids = [host.components()[0].pid]
try:
    agent.status(["fault-starves_always"], timeout=60)
except Exception as error:
    told = [type(error).__name__, str(error)]
agent.describe(timeout=60)
info = host.components()[0]
print(json.dumps({"told": told, "causes": [report.cause for report in info.crashes], "pids": [*pids, info.pid]}))
host.shutdown()
'''


def test_a_plugin_goes_before_the_server_when_memory_is_short(host, agent):
    if not Path("/proc/self/oom_score_adj").exists():
        pytest.skip("only Linux can be told which process to end")
    own, its = (int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in ("self", _info(host).pid))
    assert its == min(own + 100, 1000)


def test_r133_the_kernel_ends_the_plugin_and_not_the_server_that_shares_its_memory(
        component, extension_python, memory_group, runtime_dir, tmp_path):
    made = component("agent")
    group = memory_group(256 * MIB)
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(extension_python), str(runtime_dir),
                               str(tmp_path / "state"), *map(str, made.readable)], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    group.write_text(str(server.pid))
    out, err = server.communicate("begin\n", timeout=180)
    assert server.returncode == 0, err
    told = json.loads(out.splitlines()[-1])
    assert set(told["causes"]) == {"out of memory"}
    assert len(told["causes"]) == 2, "the call was repeated once"
    assert told["told"][0] == "Retryable"
    assert "out of memory (signal SIGKILL)" in told["told"][1]
    assert told["pids"][0] != told["pids"][1]
    assert until(lambda: not any(map(alive, told["pids"])))
