"""Plugin processes that die, hang, start slowly or outlive their host."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fuseml_core.domain.errors import NotFound
from fuseml_core.host import PluginHost
from fuseml_core.host.backoff import RestartPolicy
from fuseml_core.host.subprocess_hosting import SubprocessHosting
from fuseml_sdk import errors
from fuseml_sdk.types import ArtifactRef, RegisterRequest

from .conftest import alive, until


def _request(name="n", **labels):
    return RegisterRequest(kind="model", project="p", name=name, digest="sha256:1", labels=labels)


@pytest.fixture
def store(host, component):
    host.add(component("store"))
    return host.store("store-0")


def _info(host):
    return host.components()[0]


def test_r130_adding_starts_nothing_and_the_first_call_starts_it(host, store):
    assert (_info(host).state, _info(host).pid, _info(host).restarts) == ("idle", None, 0)
    store.describe()
    info = _info(host)
    assert (info.state, info.restarts, info.last_crash) == ("ready", 0, "")
    assert info.pid != os.getpid()
    assert alive(info.pid)


def test_r133_kill_9_and_the_next_call_works(host, store):
    store.register(_request())
    pid = _info(host).pid
    os.kill(pid, signal.SIGKILL)
    assert store.get(ArtifactRef(kind="model", project="p", name="n", digest="sha256:1")).name == "n"
    info = _info(host)
    assert info.pid != pid
    assert (info.state, info.restarts) == ("ready", 1)
    assert info.last_crash.startswith("signal SIGKILL after ")


def test_a_crash_is_reported_with_signal_and_last_output(host, store):
    assert store.register(_request(die="once")).name == "n"  # idempotent: done again by the new process
    crash = _info(host).last_crash
    assert "signal SIGKILL" in crash
    assert "dying once" in crash


def test_an_idempotent_call_is_repeated_once(host, store, tmp_path):
    store.register(_request(die="once"))
    assert (tmp_path / "state-0" / "registrations").read_text() == "n\nn\n"


def test_a_call_that_is_not_idempotent_is_not_repeated(host, store):
    with pytest.raises(errors.Permanent) as caught:
        store.collect_garbage(["die"], True)
    for text in ("extension example 1.2.3", "crashed in store_collect_garbage", "exit code 13", "dying while collecting"):
        assert text in caught.value.message
    assert "may have taken effect" in caught.value.hint
    assert caught.value.details["hook"] == "store_collect_garbage"
    assert _info(host).state == "failed"
    assert store.collect_garbage([], True).bytes == 5
    assert _info(host).restarts == 1


def test_a_call_that_is_not_idempotent_works_after_kill_9(host, store):
    store.describe()
    os.kill(_info(host).pid, signal.SIGKILL)
    until(lambda: _info(host).state == "failed")
    assert store.collect_garbage([], True).bytes == 5


def test_waiting_callers_are_answered_when_the_process_dies(host, component):
    host.add(component("agent"))
    agent = host.agent("agent-0")
    agent.describe()
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(agent.status(["hang-1.0"])[0].state)) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    os.kill(_info(host).pid, signal.SIGKILL)
    for thread in threads:
        thread.join(20)
    assert answers == ["unknown"] * 3
    assert _info(host).restarts == 1


def test_a_busy_process_is_not_killed(host, component):
    host.add(component("agent"))
    agent = host.agent("agent-0")
    agent.describe()
    pid = _info(host).pid
    with pytest.raises(errors.Cancelled):
        agent.status(["hang-3"], timeout=0.2)
    assert agent.status(["x"])[0].state == "unknown"
    assert _info(host).pid == pid


def test_a_slow_start_tells_the_impatient_and_serves_the_patient(host, component):
    host.add(component("store", config={"slow_start": 1.0}))
    store = host.store("store-0")
    with pytest.raises(errors.NotReady, match="is still starting"):
        store.describe(timeout=0.3)
    assert _info(host).state == "starting"
    assert store.describe(timeout=20).name == "example"
    assert _info(host).restarts == 0


def test_the_breaker_opens_and_closes_again(component, runtime_dir, tmp_path):
    made = component("store", config={"die_at_start": 7})
    policy = RestartPolicy(first=0.05, threshold=3, pause=0.5)
    hosting = SubprocessHosting(made, runtime_dir=runtime_dir, log=tmp_path / "log", policy=policy)
    host = PluginHost(runtime_dir=runtime_dir, log_dir=tmp_path, hosting=lambda _: hosting)
    host.add(made)
    store = host.store(made.id)
    for _ in range(3):
        with pytest.raises(errors.Retryable, match="exit code 7"):
            store.describe()
    with pytest.raises(errors.NotReady, match="failed 3 times and starts again in") as caught:
        store.describe()
    assert "giving up at start" in caught.value.message
    assert hosting.info().restarts == 2
    time.sleep(0.6)
    with pytest.raises(errors.Retryable, match="exit code 7"):
        store.describe()
    host.shutdown()


def test_an_interpreter_that_is_missing_is_explained(host, component, tmp_path):
    host.add(dataclasses.replace(component("store"), python=tmp_path / "gone"))
    with pytest.raises(errors.Permanent, match="cannot be started: .*No such file") as caught:
        host.store("store-0").describe()
    assert "fuseml extension verify --repair" in caught.value.hint


def test_only_allowed_variables_reach_the_plugin(host, component, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    host.add(component("store", config={"password": "s3cr3t"}, identifier="closed"))
    assert not {"HTTPS_PROXY", "UV_DEFAULT_INDEX"} & host.store("closed").health()["environment"].keys()
    made = component("store", config={"password": "s3cr3t"}, identifier="store-0")
    host.add(dataclasses.replace(made, permissions=("network",)))
    facts = host.store("store-0").health()
    given = facts["environment"]
    assert not {"AWS_SECRET_ACCESS_KEY", "PYTHONDONTWRITEBYTECODE"} & given.keys()
    assert (given["HTTPS_PROXY"], given["UV_DEFAULT_INDEX"]) == ("http://127.0.0.1:9", "http://127.0.0.1:9/simple")
    assert given["HOME"] == facts["cwd"] == str(made.state_dir)
    assert "s3cr3t" not in str(given)
    with open(f"/proc/{facts['pid']}/cmdline") as file:
        assert "s3cr3t" not in file.read()


def test_the_plugin_has_a_process_group_of_its_own_and_a_private_socket(host, store, runtime_dir):
    store.describe()
    pid = _info(host).pid
    assert os.getpgid(pid) == pid
    (path,) = runtime_dir.glob("p-*.sock")
    assert len(path.name) == len("p-12345678.sock")
    assert path.stat().st_mode & 0o777 == 0o600
    host.shutdown()
    assert not path.exists()
    assert not alive(pid)


def test_output_is_kept_in_the_log_of_the_extension(host, store, tmp_path):
    store.register(_request(die="once"))
    log = (tmp_path / "logs" / "example.log").read_text()
    assert "store/toy[" in log
    assert "dying once" in log


def test_remove_drains_calls_in_flight(host, component):
    host.add(component("agent"))
    agent = host.agent("agent-0")
    agent.describe()
    pid = _info(host).pid
    answers = []
    thread = threading.Thread(target=lambda: answers.append(agent.status(["hang-1.0"])[0].state))
    thread.start()
    time.sleep(0.3)
    host.remove("agent-0", 10)
    thread.join(20)
    assert answers == ["unknown"]
    assert not alive(pid)
    assert host.components() == []
    with pytest.raises(NotFound):
        agent.describe()


def test_remove_forces_what_does_not_end(host, component):
    host.add(component("agent"))
    agent = host.agent("agent-0")
    agent.describe()
    pid = _info(host).pid
    caught = []

    def call():
        try:
            agent.status(["hang-60"])
        except errors.PluginError as error:
            caught.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    time.sleep(0.3)
    started = time.monotonic()
    host.remove("agent-0", 0.5)
    assert time.monotonic() - started < 5
    thread.join(20)
    assert isinstance(caught[0], errors.PluginError)
    assert not alive(pid)


def test_r130_replacing_serves_without_a_gap(host, component):
    host.add(component("store"))
    store = host.store("store-0")
    store.describe()
    old = _info(host).pid
    stop, failures, pids = threading.Event(), [], set()

    def call():
        while not stop.is_set():
            try:
                pids.add(store.health()["pid"])
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    host.replace(dataclasses.replace(component("store", identifier="store-0"), version="1.2.4"), 10)
    time.sleep(0.3)
    stop.set()
    for thread in threads:
        thread.join(20)
    assert failures == []
    assert len(pids) == 2
    assert not alive(old)


HOST = '''
import sys, time
from dataclasses import replace
from pathlib import Path
from fuseml_core.host import Component, PluginHost
python, runtime, state, example = sys.argv[1:]
host = PluginHost(runtime_dir=Path(runtime), log_dir=Path(state))
host.add(Component("s", "example", "1", "", "store", "toy", "example_extension:Store", "subprocess", {}, Path(state),
                   Path(python), readable=(Path(example), *map(Path, sys.path))))
host.store("s").describe()
print(host.components()[0].pid, flush=True)
time.sleep(60)
'''


def test_r133_kill_9_of_the_host_leaves_no_orphan(extension_python, runtime_dir, tmp_path):
    host = subprocess.Popen([sys.executable, "-c", HOST, str(extension_python), str(runtime_dir), str(tmp_path / "state"),
                             str(Path(__file__).parent / "example")], stdout=subprocess.PIPE, text=True)
    child = int(host.stdout.readline())
    assert alive(child)
    host.kill()
    host.communicate(timeout=10)
    assert until(lambda: not alive(child), 5)
    (stale,) = runtime_dir.glob("p-*.sock")

    def removed_by_the_next_host():
        PluginHost(runtime_dir=runtime_dir, log_dir=tmp_path)
        return not stale.exists()

    # The last thread of a killed process closes the socket a moment after the process counts as dead.
    assert until(removed_by_the_next_host)


def test_sockets_of_a_living_host_are_left_alone(host, store, runtime_dir, tmp_path):
    store.describe()
    (path,) = runtime_dir.glob("p-*.sock")
    PluginHost(runtime_dir=runtime_dir, log_dir=tmp_path)
    assert path.exists()
    assert store.describe().name == "example"


def test_no_descriptor_is_left_behind(host, component):
    def round_trip(number):
        made = component("store", identifier=f"s-{number}")
        host.add(made)
        host.store(made.id).describe()
        host.remove(made.id, 5)

    round_trip(0)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(1, 4):
        round_trip(number)
    assert until(lambda: len(os.listdir("/proc/self/fd")) <= before, 5)


def test_r130_two_environments_serve_side_by_side(host, component):
    host.add(component("store"))
    host.add(component("agent"))
    first, second = host.store("store-0").health(), host.agent("agent-1").health()
    assert first["pid"] != second["pid"]


@pytest.mark.full
def test_crashes_under_load_lose_no_idempotent_call(component, runtime_dir, tmp_path):
    made = component("store")
    hosting = SubprocessHosting(made, runtime_dir=runtime_dir, log=tmp_path / "log",
                                policy=RestartPolicy(first=0.05, threshold=50))
    host = PluginHost(runtime_dir=runtime_dir, log_dir=tmp_path, hosting=lambda _: hosting)
    host.add(made)
    store = host.store(made.id)
    store.describe()
    stop, failures, done = threading.Event(), [], [0, 0, 0, 0]

    def call(number):
        while not stop.is_set():
            try:
                store.describe()
                done[number] += 1
            except errors.PluginError as error:
                failures.append(error)

    def everybody_was_served():
        before = list(done)  # the first call to end may have been answered before the crash
        return until(lambda: all(now > then + 1 for now, then in zip(done, before, strict=True)), 30)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        # A call is repeated once, so no call may meet two crashes.
        assert everybody_was_served()
        os.kill(hosting.info().pid, signal.SIGKILL)
    assert everybody_was_served()
    stop.set()
    for thread in threads:
        thread.join(20)
    host.shutdown()
    assert failures == []
    assert hosting.info().restarts == 5


def test_a_server_that_speaks_another_protocol_is_refused(host, component, runtime_dir):
    made = component("store")
    hosting = host._hosting_of(made)
    described = b'{"protocols": [7], "hooks": {}}'
    path = runtime_dir / "other.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)

        def answer():
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(described), described))

        thread = threading.Thread(target=answer)
        thread.start()
        from fuseml_core.host.streams import UnixStream
        from fuseml_core.host.transport import ConnectionPool

        pool = ConnectionPool(lambda seconds: UnixStream(path, seconds))
        with pytest.raises(errors.Permanent, match=r"speaks protocol 7, this server speaks protocol 1 \(SDK"):
            hosting._handshake(pool)
        thread.join(10)
        pool.close()
    assert hosting.info().agreement.state == "too-new"


def test_a_system_without_waitid_sees_crashes_too(host, store, monkeypatch):
    monkeypatch.delattr(os, "waitid")
    store.describe()
    os.kill(_info(host).pid, signal.SIGKILL)
    assert store.describe().name == "example"
    assert "signal SIGKILL" in _info(host).last_crash
