"""Components that take more than they may: held to their limits by the kernel, and told by which."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fuseml_core.host import PluginHost
from fuseml_core.host.groups import ControlGroups
from fuseml_core.host.isolation import Isolation
from fuseml_core.host.limits import Limits
from fuseml_core.host.machine import probe
from fuseml_sdk import errors

from .conftest import alive, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limits of Linux")
MIB = 1 << 20


@pytest.fixture
def groups(tmp_path, runtime_dir):
    it = ControlGroups(runtime_dir.name, tmp_path / "run" / "control-groups")
    for name in ("memory", "processes"):
        if not it.by(name)[0]:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(it.by(name)[1])
    return it


@pytest.fixture
def bounded(runtime_dir, tmp_path, component, extension_python):
    """Adds a component that takes something to a host whose isolation has groups, or has none."""
    hosts = []

    def add(take, limits, groups=None, family="store"):
        host = PluginHost(runtime_dir=runtime_dir, log_dir=tmp_path / "logs", drain_seconds=5,
                          isolation=Isolation(groups=groups))
        hosts.append(host)
        made = component(family, plugin=f"bounded_extension:{family.capitalize()}", config={"take": take}, identifier="b")
        host.add(replace(made, limits=limits))
        return host

    yield add
    for host in hosts:
        host.shutdown()


def take(host):
    return host.call("b", "fuseml_health", {}, 120)


def folders(groups):
    """The groups of the host that are there now."""
    return [entry for base in groups._bases() for entry in (base.iterdir() if base.is_dir() else ()) if entry.is_dir()]


def test_r133_memory_over_the_limit_of_the_group_ends_the_process_and_names_the_limit(bounded, groups):
    host = bounded("memory", Limits(memory=128 * MIB), groups)
    with pytest.raises(errors.Retryable, match="out of memory"):
        take(host)
    report = host.info("b").crashes[-1]
    assert report.cause == "out of memory"
    assert report.detail == f"signal SIGKILL; the limit of memory is 128Mi, by {groups.by('memory')[0]}"
    assert report.hook == "fuseml_health"


def test_r133_memory_that_a_component_starts_counts_with_its_own(bounded, groups):
    """The child is the largest, so the kernel ends it; the component lives and tells."""
    host = bounded("memory_of_a_child", Limits(memory=128 * MIB), groups)
    assert take(host) == {"ended": -signal.SIGKILL}


def test_r133_without_groups_a_process_gets_no_more_memory(bounded):
    host = bounded("memory", Limits(memory=256 * MIB))
    with pytest.raises(errors.PluginError, match="MemoryError"):
        take(host)
    assert host.isolation.judge_limit("memory", host.info("b").component) == (
        True, "by rlimit, each process alone: this host makes no control groups")


def test_r133_processes_over_the_limit_of_the_group_are_refused(bounded, groups):
    host = bounded("processes", Limits(processes=32), groups)
    told = take(host)
    assert told["why"] == os.strerror(11)
    assert 0 < told["taken"] < 32


@pytest.mark.parametrize(("what", "limits", "most", "why"), [
    ("files", Limits(open_files=100), 100, os.strerror(24)), ("space", Limits(file_size=3 * MIB), 3 * MIB, os.strerror(27))])
def test_r133_files_over_the_limit_are_refused(bounded, what, limits, most, why):
    told = take(bounded(what, limits))
    assert told["why"] == why
    assert most * 0.8 < told["taken"] <= most


def test_r133_a_component_cannot_leave_its_group_or_raise_its_limit(bounded, groups):
    if not probe().landlock:
        pytest.skip("only Landlock keeps a process from files of its own user")
    refused = take(bounded("way_out", Limits(memory=512 * MIB, processes=64), groups))
    assert refused
    assert all(refused.values())


def test_r133_the_group_goes_with_the_process(bounded, groups):
    host = bounded("suicide", Limits(memory=512 * MIB, processes=64), groups)
    host.call("b", "store_describe", {}, 60)
    assert folders(groups)
    with pytest.raises(errors.PluginError):
        take(host)
    assert host.info("b").crashes[-1].detail == "", "it ended by itself"
    host.shutdown()
    assert until(lambda: not folders(groups))
    assert not any(base.exists() for base in groups._bases())


def test_r133_what_a_store_has_left_behind_ends_with_it(bounded, groups):
    """Though it has made itself a session of its own, so that no signal to the group of the process reaches it."""
    host = bounded("orphan", Limits(memory=512 * MIB, processes=64), groups)
    pid = take(host)["pid"]
    assert alive(pid)
    host.shutdown()
    assert until(lambda: not alive(pid))
    assert until(lambda: not folders(groups))


def test_r133_a_workload_that_outlives_its_agent_keeps_its_limits_until_it_ends(bounded, groups):
    host = bounded("orphan", Limits(memory=512 * MIB, processes=64), groups, "agent")
    pid = take(host)["pid"]
    host.shutdown()
    try:
        assert alive(pid)
        assert folders(groups)
    finally:
        os.kill(pid, signal.SIGKILL)
    assert until(lambda: not folders(groups))


def test_r133_groups_of_a_server_that_was_killed_go_at_the_next_start(groups, tmp_path):
    """Made by another process that ends without removing anything."""
    script = ("import os, sys; from pathlib import Path; from fuseml_core.host.groups import ControlGroups; "
              "made = ControlGroups(sys.argv[1], Path(sys.argv[2])).make({'memory': 1 << 28, 'processes': 64}); "
              "print(*made.folders, flush=True); os.kill(os.getpid(), 9)")
    remembered = tmp_path / "run" / "control-groups"
    done = subprocess.run([sys.executable, "-c", script, groups._name.removeprefix("fuseml-"), str(remembered)],
                          capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = [Path(path) for path in done.stdout.split()]
    assert left
    assert all(path.is_dir() for path in left)
    ControlGroups(groups._name.removeprefix("fuseml-"), remembered).clean()
    assert not any(path.parent.exists() for path in left)
