"""What a plugin, its environment or its host may do wrong: nothing is lost, nothing hangs, and it is told."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import venv
from pathlib import Path

import pytest

from fuseml_core.host import PluginHost
from fuseml_core.host.backoff import RestartPolicy
from fuseml_core.host.subprocess_hosting import SubprocessHosting
from fuseml_sdk import errors
from fuseml_sdk.types import ArtifactRef, RegisterRequest, StoreQuery

from .conftest import alive, until


def _info(host):
    return host.components()[0]


def _memory():
    return int(next(line for line in Path("/proc/self/status").read_text().splitlines()
                    if line.startswith("VmRSS")).split()[1]) * 1024


@pytest.fixture
def agent(host, component):
    host.add(component("agent"))
    made = host.agent("agent-0")
    made.describe()
    return made


@pytest.fixture
def raw(host, component):
    def make(name):
        host.add(component("agent", plugin=f"raw_plugin:{name}"))
        return host.agent("agent-0")

    return make


@pytest.mark.parametrize(("name", "text"), [
    ("Garbage", "something that is no HTTP: b'.x16"),
    ("HalfGarbage", "a header that is none: b'no header at all'"),
    ("NoJson", "the result of agent_status"),
])
def test_an_answer_that_is_garbage_is_told(host, raw, name, text):
    with pytest.raises(errors.Internal, match=text) as caught:
        raw(name).status(["x"], timeout=60)
    assert caught.value.details["hook"] == "agent_status"
    assert _info(host).state == "ready"


def test_an_answer_that_ends_in_its_middle_is_asked_for_once_more_and_then_told(raw):
    with pytest.raises(errors.Retryable, match="closed the connection during agent_status"):
        raw("ClosesMidBody").status(["x"], timeout=60)


@pytest.mark.full
@pytest.mark.parametrize("name", ["Announces2GiB", "Sends2GiB", "Chunks2GiB"])
def test_an_answer_of_2_gib_is_refused_in_bounded_memory(raw, name):
    before = _memory()
    with pytest.raises(errors.Internal, match="at most 67108864 are read") as caught:
        raw(name).status(["x"], timeout=120)
    assert "location" in caught.value.hint
    # What is read at most, once more as it grows, and room for the rest of the test process.
    assert _memory() - before < 400 * 1024 * 1024


def test_headers_without_end_are_refused(raw):
    with pytest.raises(errors.Internal, match="in the head of its answer"):
        raw("EndlessHead").status(["x"], timeout=60)


@pytest.mark.full
@pytest.mark.parametrize("name", ["Drips", "Silent"])
def test_an_answer_that_never_comes_ends_at_the_deadline(host, raw, name):
    agent = raw(name)
    with pytest.raises(errors.Cancelled, match="before the deadline"):
        agent.status(["x"], timeout=2)
    assert alive(_info(host).pid)  # It may be busy with what others asked for.


def test_a_flood_of_stderr_blocks_nobody_and_stays_small(host, agent, tmp_path):
    assert agent.status(["fault-floods_stderr"], timeout=120)[0].state == "unknown"
    log = tmp_path / "logs" / "example.log"
    host.remove("agent-0", 10)
    assert until(lambda: "lines were dropped: more than" in log.read_text())
    assert log.stat().st_size < 11 * 1024 * 1024
    assert "a line of a flood" in log.read_text()


def test_children_end_with_their_plugin(host, agent, tmp_path):
    agent.status(["fault-forks_children"])
    children = [int(pid) for pid in (tmp_path / "state-0" / "children").read_text().split()]
    assert all(map(alive, children))
    os.kill(_info(host).pid, signal.SIGKILL)
    assert until(lambda: not any(map(alive, children)))


def test_a_plugin_that_ignores_sigterm_is_ended_all_the_same(host, agent):
    agent.status(["fault-ignores_sigterm"])
    pid = _info(host).pid
    host.remove("agent-0", 0.5)
    assert until(lambda: not alive(pid))


@pytest.mark.full
def test_a_plugin_that_holds_its_interpreter_is_not_killed(host, agent):
    pid = _info(host).pid
    with pytest.raises(errors.Cancelled):
        agent.status(["fault-holds_the_interpreter"], timeout=0.3)
    assert agent.status(["x"], timeout=60)[0].state == "unknown"
    assert (_info(host).pid, _info(host).restarts) == (pid, 0)


@pytest.mark.parametrize(("fault", "text"), [("fills_its_disk", "File too large"), ("leaks_descriptors", "Too many open"),
                                             ("eats_memory", "MemoryError")])
def test_want_of_a_resource_is_an_error_of_the_call_alone(host, agent, fault, text):
    pid = _info(host).pid
    with pytest.raises(errors.Internal, match=text):
        agent.status([f"fault-{fault}"], timeout=60)
    assert agent.status(["x"], timeout=60)[0].state == "unknown"
    assert _info(host).pid == pid


def test_the_end_of_memory_is_told_as_such(host, agent):
    with pytest.raises(errors.Retryable, match="out of memory"):
        agent.status(["fault-dies_of_hunger"], timeout=60)
    report = _info(host).crashes[-1]
    assert (report.cause, report.detail, report.hook) == ("out of memory", "exit code 1", "agent_status")
    assert report.output[-1] == "MemoryError"


@pytest.mark.full
def test_a_disk_without_room_for_the_log_stops_nobody(runtime_dir, tmp_path, component):
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "example.log").symlink_to("/dev/full")
    (logs / "example.crashes.jsonl").symlink_to("/dev/full")  # reads as zeros without end
    host = PluginHost(runtime_dir=runtime_dir, log_dir=logs)
    try:
        host.add(component("agent"))
        agent = host.agent("agent-0")
        assert agent.status(["fault-floods_stderr"], timeout=120)[0].state == "unknown"
        os.kill(_info(host).pid, signal.SIGKILL)
        assert agent.status(["x"], timeout=60)[0].state == "unknown"
        assert "signal SIGKILL" in _info(host).last_crash
    finally:
        host.shutdown()


def test_an_environment_that_is_removed_serves_on_and_its_end_is_explained(host, component, extension_python, tmp_path):
    root = tmp_path / "venv"
    venv.create(root, with_pip=False, symlinks=True)
    for pth in extension_python.parents[1].glob("lib/python*/site-packages/*.pth"):
        next((root / "lib").glob("python*/site-packages")).joinpath(pth.name).write_text(pth.read_text())
    made = component("agent")
    host.add(dataclasses.replace(made, python=root / "bin" / "python"))
    agent = host.agent(made.id)
    agent.status(["x"], timeout=60)
    shutil.rmtree(root)
    assert agent.status(["y"], timeout=60)[0].name == "y"
    os.kill(_info(host).pid, signal.SIGKILL)
    with pytest.raises(errors.PluginError) as caught:
        agent.status(["z"], timeout=60)
    assert str(root) in str(caught.value)


def test_a_plugin_whose_files_are_changed_serves_on(host, component, tmp_path):
    made = component("store")
    host.add(made)
    store = host.store(made.id)
    store.register(RegisterRequest(kind="model", project="p", name="n", digest="sha256:1"))
    for file in made.state_dir.glob("*.json"):
        file.write_text("changed behind its back")
    with pytest.raises(errors.Internal, match="ValidationError"):
        store.get(ArtifactRef(kind="model", project="p", name="n", digest="sha256:1"))
    assert store.describe().name == "example"
    assert _info(host).restarts == 0


def test_the_clock_on_the_wall_may_jump(runtime_dir, tmp_path, component, monkeypatch):
    host = PluginHost(runtime_dir=runtime_dir, log_dir=tmp_path, idle_seconds=600)
    real, jump = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + jump[0])
    try:
        host.add(component("agent"))
        agent = host.agent("agent-0")
        agent.describe()
        pid = _info(host).pid
        for days in (-3650, 3650, 0):
            jump[0] = days * 86400.0
            assert agent.status(["x"], timeout=60)[0].state == "unknown"
            host._eviction.look()
            assert abs(_info(host).idle_since - time.time()) < 120
            assert abs(host.trace()[-1].at - time.time()) < 120
        assert _info(host).pid == pid
        assert max(each.duration for each in host.trace()) < 300
    finally:
        host.shutdown()


@pytest.mark.full
def test_r133_kill_9_at_random_moments_of_1000_calls_loses_nothing(component, runtime_dir, tmp_path):
    made = component("store")
    hosting = SubprocessHosting(made, runtime_dir=runtime_dir, log=tmp_path / "log",
                                policy=RestartPolicy(first=0.01, threshold=10_000, stable=0.0))
    host = PluginHost(runtime_dir=runtime_dir, log_dir=tmp_path, hosting=lambda _: hosting)
    host.add(made)
    store = host.store(made.id)
    store.describe()
    registered, reported, silent, ended = [], [], [], [0] * 4
    moments = sorted(random.Random(20261123).sample(range(20, 950), 12))

    def call(number):
        for count in range(250):
            name = f"n{number}x{count}"
            try:
                if count % 10 == 9:
                    store.collect_garbage([], True, timeout=60)  # must not be repeated
                else:
                    store.register(RegisterRequest(kind="model", project="p", name=name, digest="sha256:1"), timeout=60)
                    registered.append(name)
            except errors.PluginError as error:
                reported.append(error)
            except BaseException as error:
                silent.append(error)
            ended[number] += 1

    def kill():
        for moment in moments:
            assert until(lambda moment=moment: sum(ended) >= moment and hosting.info().pid is not None, 240)
            with contextlib.suppress(ProcessLookupError, TypeError):  # it has just ended by itself
                os.kill(hosting.info().pid, signal.SIGKILL)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    killer = threading.Thread(target=kill)
    for thread in (*threads, killer):
        thread.start()
    for thread in threads:
        thread.join(240)
    assert not any(thread.is_alive() for thread in threads)
    killer.join(30)
    assert silent == []
    # Whoever was told that a call went well finds what it did; whoever was not was told why.
    kept = {item.name for item in store.search(StoreQuery(limit=1000)).items}
    assert set(registered) <= kept
    assert len(registered) + len(reported) + 100 - sum(
        error.details["hook"] == "store_collect_garbage" for error in reported) == 1000
    for error in reported:
        assert isinstance(error, errors.Retryable | errors.Permanent | errors.NotReady), error
        assert "extension example 1.2.3" in error.message
    assert all(report.cause == "signal SIGKILL" for report in hosting.info().crashes)
    assert hosting.info().restarts >= 3
    host.shutdown()


HOST = '''
import sys
from pathlib import Path
from fuseml_core.host import Component, PluginHost
from fuseml_sdk.types import ArtifactRef, RegisterRequest, StoreQuery
python, runtime, state, first, *readable = sys.argv[1:]
host = PluginHost(runtime_dir=Path(runtime), log_dir=Path(state).parent)
host.add(Component(id="s", extension="example", version="1", digest="", family="store", name="toy",
                   plugin="example_extension:Store", hosting="subprocess", config={}, state_dir=Path(state),
                   python=Path(python), readable=tuple(map(Path, readable))))
store = host.store("s")
for number in range(int(first), 1000):
    store.register(RegisterRequest(kind="model", project="p", name=f"n{number}", digest="sha256:1"))
    print(number, host.components()[0].pid, flush=True)
host.shutdown()
print("done", 0, flush=True)
'''


@pytest.mark.full
def test_r133_kill_9_of_the_host_at_random_moments_of_1000_calls(extension_python, component, runtime_dir, tmp_path):
    made, chance = component("store"), random.Random(4)
    acknowledged, plugins, kills, last = -1, set(), 0, ""
    while last != "done":
        host = subprocess.Popen([sys.executable, "-c", HOST, str(extension_python), str(runtime_dir),
                                 str(made.state_dir), str(acknowledged + 1), *map(str, made.readable)],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        stop_at = acknowledged + chance.randrange(1, 200)
        for line in host.stdout:
            last, pid = line.split()
            if last == "done":
                break
            acknowledged = int(last)
            plugins.add(int(pid))
            if acknowledged >= stop_at and kills < 8:
                kills += 1
                if kills % 2:
                    os.kill(int(pid), signal.SIGKILL)  # the plugin at the same time
                host.kill()
                break
        _, told = host.communicate(timeout=60)
        assert last == "done" or host.returncode == -signal.SIGKILL, told
        assert until(lambda: not any(map(alive, plugins)), 60)
    assert kills >= 5
    names = {path.name for path in made.state_dir.glob("p-n*.json")}
    assert len(names) == 1000  # every call that was acknowledged, and nothing else


@pytest.mark.full
def test_descriptors_and_threads_do_not_grow_with_crashes(host, component):
    made = component("agent")
    host.add(made)
    agent = host.agent(made.id)
    agent.describe()

    def round_trip():
        os.kill(_info(host).pid, signal.SIGKILL)
        assert until(lambda: _info(host).state == "failed")
        host._entries[made.id][0]._policy.failures = 0
        agent.describe(timeout=60)

    round_trip()
    before, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(8):
        round_trip()
    assert until(lambda: len(os.listdir("/proc/self/fd")) <= before + 2)
    assert until(lambda: threading.active_count() <= threads + 2)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 64
