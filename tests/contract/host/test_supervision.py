"""Idle processes end, full queues push back, callers who give up are noticed, crashes are remembered."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import threading
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from fuseml_core.host import PluginHost
from fuseml_core.host.crashes import KEPT, SHOWN, CrashLog, CrashReport, cause_of
from fuseml_core.host.eviction import Eviction, candidates
from fuseml_core.host.gate import Gate
from fuseml_core.host.in_process import MAX_LEFT
from fuseml_core.host.output import BURST, OutputCapture
from fuseml_sdk import errors
from fuseml_sdk.calls import Call
from fuseml_sdk.quickness import IN_A_ROW
from fuseml_sdk.types import ArtifactRef, RegisterRequest

from .conftest import until


def _info(host):
    return host.components()[0]


def _request(**labels):
    return RegisterRequest(kind="model", project="p", name="n", digest="sha256:1", labels=labels)


def _in_thread(act):
    results = []

    def run():
        try:
            results.append(act())
        except errors.PluginError as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, results


def test_r133_an_idle_process_ends_and_the_next_call_starts_it_again(runtime_dir, tmp_path, component):
    host = PluginHost(runtime_dir=runtime_dir, log_dir=tmp_path / "logs", idle_seconds=0.3)
    try:
        host.add(component("store"))
        store = host.store("store-0")
        store.register(_request())
        (path,) = runtime_dir.glob("p-*.sock")
        assert until(lambda: _info(host).pid is None)
        info = _info(host)
        assert (info.state, info.last_crash, info.crashes) == ("idle", "", ())
        assert path.exists()  # the socket stays
        assert store.describe().name == "example"
        assert (_info(host).restarts, _info(host).calls) == (0, 2)
    finally:
        host.shutdown()


def test_a_component_may_stay_for_ever_or_go_sooner_than_the_others(component):
    class Hosting:
        def __init__(self, idle_seconds):
            self.component = dataclasses.replace(component("store"), idle_seconds=idle_seconds)

        def rest(self):
            return True

    def seconds(own, default):
        return [each.seconds for each in candidates([(Hosting(own), Gate())], default)]

    assert (seconds(-1, 300), seconds(None, 300), seconds(5, 300)) == ([300], [], [5])
    assert (seconds(-1, None), seconds(5, None)) == ([], [5])


def test_a_process_is_not_ended_while_a_call_is_in_flight(host, component):
    host.add(dataclasses.replace(component("agent"), idle_seconds=0.0))
    agent = host.agent("agent-0")
    thread, answers = _in_thread(lambda: agent.status(["hang-1.5"])[0].state)
    assert until(lambda: _info(host).in_flight == 1 and _info(host).state == "ready")
    pid = _info(host).pid
    eviction = Eviction(host._evictable)
    assert eviction.look() == []
    assert _info(host).pid == pid
    thread.join(30)
    assert answers == ["unknown"]


def test_a_process_with_children_is_not_ended(host, component):
    host.add(dataclasses.replace(component("agent"), idle_seconds=None))
    agent = host.agent("agent-0")
    agent.status(["child-30"])
    pid = _info(host).pid
    hosting = host._entries["agent-0"][0]
    assert hosting.rest() is False
    assert _info(host).pid == pid


def test_calls_that_come_while_a_process_is_ended_wait_for_the_next_one():
    gate = Gate(2)
    with gate.paused() as free:
        assert free
        thread, answers = _in_thread(lambda: gate.enter(Call(time.monotonic() + 30), "x"))
        assert until(lambda: gate.waiting == 1)
        assert answers == []
    thread.join(30)
    assert gate.active == 1
    with gate.paused() as free:
        assert not free


def test_a_full_queue_is_told_at_once_with_the_time_to_come_back(host, component):
    host.add(dataclasses.replace(component("store", config={"concurrency": 1, "hang": "release"}), queue=2))
    store = host.store("store-0")
    store.describe()
    gate = host._entries["store-0"][1]
    gate.resize(1)
    occupied, _ = _in_thread(lambda: store.collect_garbage(["wait"], True))
    assert until(lambda: gate.active == 1)
    waiting = [_in_thread(lambda: store.health(timeout=60)) for _ in range(2)]
    assert until(lambda: gate.waiting == 2)
    with pytest.raises(errors.NotReady, match="busy with 1 calls, and 2 more wait") as caught:
        store.health(timeout=60)
    assert caught.value.details["retry_after"] >= 1
    assert "Call again in" in caught.value.hint
    (host._entries["store-0"][0].component.state_dir / "go").touch()
    occupied.join(30)
    for thread, answers in waiting:
        thread.join(30)
        assert answers[0]["pid"] > 0


@pytest.mark.parametrize("hosting", ["in-process", "subprocess"])
def test_a_plugin_sees_that_its_caller_has_given_up(host, component, tmp_path, hosting):
    host.add(component("agent", hosting))
    agent = host.agent("agent-0")
    agent.describe()
    with contextlib.suppress(errors.Cancelled):  # or the plugin, which sees the same deadline, answers just in time
        agent.status(["cancellable-60"], timeout=0.5)
    seen = tmp_path / "state-0" / "cancelled"
    assert until(lambda: seen.exists() and seen.read_text())
    assert float(seen.read_text()) < 30


def test_a_connection_that_closes_before_the_deadline_cancels_the_call(host, component, tmp_path, runtime_dir):
    host.add(component("agent"))
    host.agent("agent-0").describe()
    (path,) = runtime_dir.glob("p-*.sock")
    body = json.dumps({"names": ["cancellable-60"]}).encode()
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(path))
        caller.sendall(b"POST /v1/hooks/agent_status HTTP/1.1\r\nhost: p\r\ncontent-length: %d\r\n\r\n%b"
                       % (len(body), body))
        assert until((tmp_path / "state-0" / "begun").exists)
        assert not (tmp_path / "state-0" / "cancelled").exists()
    assert until((tmp_path / "state-0" / "cancelled").exists)


def test_a_caller_that_closes_only_its_sending_side_gets_its_answer(host, component, runtime_dir):
    host.add(component("agent"))
    host.agent("agent-0").describe()
    (path,) = runtime_dir.glob("p-*.sock")
    body = json.dumps({"names": ["cancellable-1"]}).encode()
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(30)
        caller.connect(str(path))
        caller.sendall(b"POST /v1/hooks/agent_status HTTP/1.1\r\nhost: p\r\ncontent-length: %d\r\n\r\n%b"
                       % (len(body), body))
        caller.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: caller.recv(65536), b""))
    assert b"200 OK" in answer
    assert b'"state":"unknown"' in answer


def test_a_crash_report_names_the_hook_and_the_call_and_survives_the_host(host, component, runtime_dir, tmp_path):
    host.add(component("store"))
    with pytest.raises(errors.Permanent):
        host.store("store-0").collect_garbage(["die"], True)
    assert until(lambda: _info(host).crashes)
    (report,) = _info(host).crashes
    assert (report.cause, report.hook, report.component, report.version) == (
        "exit code 13", "store_collect_garbage", "store/toy", "1.2.3")
    assert report.call_id == next(each.call_id for each in host.trace() if each.hook == "store_collect_garbage")
    assert report.output[-1] == "dying while collecting"
    assert abs(report.at - time.time()) < 600
    host.shutdown()
    later = PluginHost(runtime_dir=runtime_dir, log_dir=tmp_path / "logs")
    later.add(component("store"))
    assert later.components()[0].crashes == (report,)


def test_a_failed_start_is_reported_too(host, component):
    host.add(component("store", plugin="no_such_module:x"))
    with pytest.raises(errors.Internal):
        host.store("store-0").describe()
    (report,) = _info(host).crashes
    assert report.cause == "did not start"
    assert "no_such_module" in report.detail


def test_crash_files_are_bounded_and_broken_lines_are_passed_over(tmp_path):
    path = tmp_path / "x.crashes.jsonl"
    log = CrashLog(path)
    for number in range(3 * KEPT):
        log.add(CrashReport(float(number), "exit code 1", component="store/x", output=("o" * 5000,)))
    assert len(path.read_text().splitlines()) <= 2 * KEPT
    assert max(map(len, path.read_text().splitlines())) < 1000
    with path.open("a") as file:
        file.write("{half a line\n[]\n")
    assert log.of("store/x")[-1].at == 3 * KEPT - 1
    found = CrashLog(path).of("store/x")
    assert [report.at for report in found] == [float(n) for n in range(3 * KEPT - SHOWN, 3 * KEPT)]
    assert log.of("store/y") == ()


@pytest.mark.parametrize(("code", "output", "by_kernel", "expected"), [
    (1, ("Traceback", "MemoryError"), False, ("out of memory", "exit code 1")),
    (-signal.SIGABRT, ("what():  std::bad_alloc",), False, ("out of memory", "signal SIGABRT")),
    (-signal.SIGKILL, (), True, ("out of memory", "signal SIGKILL")),
    (-signal.SIGKILL, (), False, ("signal SIGKILL", "")),
    (13, ("bye",), True, ("exit code 13", "")),
    (0, ("MemoryError",), False, ("exit code 0", "")),
])
def test_the_cause_of_an_end(code, output, by_kernel, expected):
    assert cause_of(code, output, killed_by_kernel=by_kernel) == expected


def test_a_flood_of_output_neither_blocks_the_plugin_nor_fills_the_disk(tmp_path):
    read, write = os.pipe()
    log = tmp_path / "x.log"
    capture = OutputCapture(read, log, "store/x[1]", clock=lambda: 0.0)
    with os.fdopen(write, "wb") as pipe:
        for _ in range(200):
            pipe.write(b"a line of a flood that nobody reads\n" * 1000)
        pipe.write(b"the last words\n")
    capture.wait(60)
    lines = log.read_text().splitlines()
    assert len(lines) == BURST + 1
    assert f"({200_001 - BURST} lines were dropped" in lines[-1]
    assert capture.tail(1) == ["the last words"]


def test_output_goes_on_when_the_flood_is_over_and_says_what_is_missing(tmp_path):
    read, write = os.pipe()
    now = [0.0]
    log = tmp_path / "x.log"
    capture = OutputCapture(read, log, "l", clock=lambda: now[0])
    with os.fdopen(write, "wb", buffering=0) as pipe:
        pipe.write(b"x\n" * (BURST + 500))
        assert until(lambda: log.exists() and len(log.read_text().splitlines()) == BURST)
        assert until(lambda: capture._dropped == 500)
        now[0] = 1.0
        pipe.write(b"calm again\n")
        assert until(lambda: "calm again" in log.read_text())
    capture.wait(30)
    assert log.read_text().splitlines()[-2].endswith("(500 lines were dropped: more than 1000 lines in a second)")


def test_long_and_odd_lines_are_cut_and_kept(tmp_path):
    read, write = os.pipe()
    log = tmp_path / "x.log"
    capture = OutputCapture(read, log, "l")
    with os.fdopen(write, "wb") as pipe:
        pipe.write(b"\xff\x00" + b"y" * 300_000 + b"\nend without newline")
    capture.wait(30)
    assert capture.tail(1) == ["end without newline"]
    assert max(map(len, log.read_text().splitlines())) < 2100


def test_r168_every_hook_is_counted_without_a_line_of_its_author(host, component):
    host.add(component("agent"))
    agent = host.agent("agent-0")
    for _ in range(3):
        agent.describe()
    with pytest.raises(errors.NotFound):
        agent.status(["raise-not-found"])
    found = {each.hook: each for each in host.statistics()}
    assert (found["agent_describe"].calls, found["agent_describe"].errors) == (3, {})
    assert (found["agent_status"].calls, found["agent_status"].errors) == (1, {"not-found": 1})
    longest = max(each.duration for each in host.trace())
    assert 0 < found["agent_describe"].p50 <= found["agent_describe"].p99 <= longest
    assert found["agent_describe"].extension == "example"
    told = {sample.name: sample for family in text_string_to_metric_families(host.metrics_text())
            for sample in family.samples if sample.labels["hook"] == "agent_status"}
    assert told["fuseml_plugin_calls_total"].value == 1
    assert told["fuseml_plugin_call_seconds_count"].value == 1
    failed = told["fuseml_plugin_errors_total"]
    assert (failed.value, failed.labels) == (1, {"extension": "example", "version": "1.2.3", "component": "agent-0",
                                                 "hook": "agent_status", "error": "not-found"})


def test_each_call_is_a_span_of_its_own_in_the_trace_of_its_caller(host, component):
    from fuseml_sdk import calls

    host.add(component("agent"))
    agent = host.agent("agent-0")
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with calls.serving(Call(traceparent=parent)):
        seen = [agent.status(["call-"])[0].message.split()[1] for _ in range(2)]
    assert {each[:36] for each in seen} == {parent[:36]}
    assert len({each[36:52] for each in seen} | {parent[36:52]}) == 3
    assert [each.traceparent for each in host.trace("agent-0")] == seen
    begun = agent.status(["call-"])[0].message.split()[1]
    assert begun[:36] != parent[:36]


def test_a_hook_that_has_shown_to_be_quick_runs_on_the_callers_thread_and_agrees_with_the_long_way(host, component):
    host.add(component("store", "in-process"))
    store = host.store("store-0")
    ref = ArtifactRef(kind="model", project="p", name="nobody", digest="sha256:1")
    for _ in range(3 * IN_A_ROW):
        assert store.delete(ref) is False
    assert until(lambda: store.delete(ref) is False and "store_delete" in host._entries["store-0"].lanes)
    assert store.delete(ref) is False
    with pytest.raises(errors.InvalidInput, match="store_delete: ref") as caught:
        store.delete("nothing")  # type: ignore[arg-type]
    assert caught.value.details["component"] == "store-0"
    found = next(each for each in host.statistics() if each.hook == "store_delete")
    assert found.calls > 3 * IN_A_ROW
    assert found.errors == {"invalid-input": 1}
    assert host.trace()[-1].outcome == "invalid-input"
    assert _info(host).calls == found.calls
    assert _info(host).in_flight == 0
    assert host._entries["store-0"].gate.active == 0


def test_a_quick_hook_that_hangs_after_all_is_reported_and_goes_the_long_way(host, component, tmp_path):
    host.add(component("agent", "in-process"))
    agent = host.agent("agent-0")
    lanes = host._entries["agent-0"].lanes
    assert until(lambda: agent.status(["x"])[0].state == "unknown" and "agent_status" in lanes)
    with capture_logs() as written, pytest.raises(errors.Cancelled, match="after its deadline|before the deadline"):
        agent.status(["hang-2"], timeout=0.2)
    assert "agent_status" not in lanes
    assert "hook is not back at its deadline" in [each["event"] for each in written]
    with pytest.raises(errors.Cancelled, match="before the deadline"):
        agent.status(["hang-2"], timeout=0.2)


def test_hooks_that_hang_for_good_do_not_pile_up(host, component):
    host.add(component("agent", "in-process"))
    agent = host.agent("agent-0")
    agent.describe()
    refused = []
    for _ in range(40):
        with pytest.raises(errors.PluginError) as caught:
            agent.status(["hang-20"], timeout=0.02)
        refused.append(type(caught.value))
    assert refused[-1] is errors.NotReady
    assert refused.count(errors.Cancelled) == MAX_LEFT


def test_hooks_that_are_asked_for_are_written_to_the_log(component, runtime_dir, tmp_path):
    environ = {**os.environ, "FUSEML_TRACE_HOOKS": "agent_desc*"}
    host = PluginHost(runtime_dir=runtime_dir, log_dir=tmp_path, environ=environ)
    try:
        with capture_logs() as written:
            host.add(component("agent", "in-process"))
            host.agent("agent-0").describe()
            host.agent("agent-0").status(["x"])
    finally:
        host.shutdown()
    assert [each["hook"] for each in written if each["event"] == "hook call"] == ["agent_describe"]
