"""Where control groups may be made, on machines of other kinds than this one (R133)."""

from __future__ import annotations

import os
import sys

import pytest

from fuseml_core.host.hierarchies import Hierarchy, find

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has control groups")
BOTH = ("memory", "pids")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Writes what the kernel says of mounts and groups; gives the folder of the process."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    def write(mounts, groups):
        proc = tmp_path / "proc"
        proc.mkdir()
        lines = [f"{30 + n} 23 0:{n} {root} {tmp_path}/{point} rw - {kind} none rw,{options}"
                 for n, (root, point, kind, options) in enumerate(mounts)]
        (proc / "mountinfo").write_text("\n".join(["22 1 8:1 / / rw - ext4 /dev/sda1 rw", *lines]) + "\n")
        (proc / "cgroup").write_text(groups)
        return proc

    return write


def group(path, controllers="cpu memory pids"):
    path.mkdir(parents=True, exist_ok=True)
    (path / "cgroup.controllers").write_text(controllers)
    return path


def test_r133_version_1_divides_the_servers_own_group(machine, tmp_path):
    (tmp_path / "memory/session").mkdir(parents=True)
    (tmp_path / "pids").mkdir()
    proc = machine([("/", "unified", "cgroup2", ""), ("/", "memory", "cgroup", "memory"), ("/", "pids", "cgroup", "pids")],
                   "4:memory:/session\n8:pids:/\n0::/\n")
    assert find(BOTH, proc) == {"memory": [Hierarchy(1, tmp_path / "memory/session")],
                                "pids": [Hierarchy(1, tmp_path / "pids")]}


def test_r133_version_2_divides_the_servers_own_group_or_the_delegated_one_above(machine, tmp_path):
    own = group(tmp_path / "cg/system/fuseml/server")
    group(own.parent)
    proc = machine([("/", "cg", "cgroup2", "")], "0::/system/fuseml/server\n")
    assert find(BOTH, proc)["memory"] == [Hierarchy(2, own), Hierarchy(2, own.parent)]


def test_r133_the_subgroup_that_systemd_makes_has_no_controllers_before_the_delegated_one_hands_them_on(machine, tmp_path):
    """With Delegate=yes and DelegateSubgroup=server."""
    own = group(tmp_path / "cg/system/fuseml/server", "")
    group(own.parent)
    proc = machine([("/", "cg", "cgroup2", "")], "0::/system/fuseml/server\n")
    assert find(BOTH, proc) == {controller: [Hierarchy(2, own.parent)] for controller in BOTH}


def test_r133_in_a_container_the_mount_shows_a_part_of_the_tree(machine, tmp_path):
    top = group(tmp_path / "cg")
    proc = machine([("/docker/abc", "cg", "cgroup2", "")], "0::/docker/abc\n")
    assert find(BOTH, proc)["pids"] == [Hierarchy(2, top)]


def test_r133_what_is_not_there_is_said(machine, tmp_path):
    own = group(tmp_path / "cg/user", "cpu pids")
    proc = machine([("/", "cg", "cgroup2", "")], "0::/user\n")
    found = find(BOTH, proc)
    assert found["memory"] == f"the server's control group {own} was not given the controller 'memory'"
    assert isinstance(found["pids"], list)
    assert find(("memory",), tmp_path / "nowhere")["memory"].startswith("control groups cannot be looked up")
