"""What is decided about a component before it starts, on machines that can do more or less (R133)."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fuseml_core.host.components import Component
from fuseml_core.host.isolation import Isolation
from fuseml_core.host.limits import Limits
from fuseml_core.host.machine import Machine, probe

FULL = Machine(True, 7, "", "x86_64", "", False)
OLD = Machine(True, 0, "this kernel has no Landlock", "", "this kernel cannot filter", False)
OTHER = Machine(False, 0, "macOS has no such thing", "", "macOS has no such thing", False)


@pytest.fixture
def component(tmp_path):
    return Component(id="s", extension="e", version="1.0.0", digest="", family="store", name="s", plugin="p:p",
                     hosting="subprocess", config={"token": "canary"}, state_dir=tmp_path / "home" / "state",
                     python=Path(sys.executable))


def names(isolation):
    return {measure.name for measure in isolation.measures() if measure.enforced}


def test_r133_what_a_machine_cannot_do_is_reported_with_the_reason():
    everywhere = {"environment", "private files", "limits"}
    assert names(Isolation(machine=OTHER)) == everywhere
    assert names(Isolation(machine=OLD)) == everywhere | {"no new privileges"}
    assert names(Isolation(machine=replace(FULL, landlock=3))) == names(Isolation(machine=FULL)) - {"ports", "signals"}
    assert {m.name for m in Isolation(machine=FULL).measures()} - names(Isolation(machine=FULL)) == {"own user"}
    assert all(measure.reason for measure in Isolation(machine=OTHER).measures())


@pytest.mark.parametrize(("permission", "full", "old"), [
    ("network", True, False), ("network:443", True, False), ("unix-sockets", True, False), ("processes", False, False),
    ("secrets:x", True, True), ("filesystem:read:/srv", True, False), ("nonsense", False, False),
])
def test_r133_a_permission_is_enforced_or_declared_only(permission, full, old):
    for machine, expected in ((FULL, full), (OLD, old)):
        enforced, how = Isolation(machine=machine).judge(permission)
        assert enforced is expected
        assert how


def test_r133_on_a_machine_without_means_a_component_starts_all_the_same(component):
    confined = Isolation(machine=OTHER, limits=Limits(open_files=64)).confine(component, ["-m", "x"], {"PATH": "/bin"})
    told = confined.command[confined.command.index("-S") + 2:confined.command.index("--")]
    assert {argument.partition("=")[0] for argument in told} == {"umask", "limit"}
    assert confined.temporary.is_dir()
    confined.close()
    assert not confined.temporary.exists()


def test_r133_nothing_secret_is_in_what_is_started(component):
    confined = Isolation(machine=FULL).confine(component, ["-m", "x"], {"PATH": "/bin", "PASSWORD": "canary"})
    assert "canary" not in repr((confined.command, confined.environment))
    assert "canary" not in repr(component)


def test_r133_the_folders_of_the_server_are_never_granted(component, tmp_path):
    home = tmp_path / "home"
    for path in (home, home / "keys", tmp_path, component.state_dir.parent):
        asking = replace(component, permissions=(f"filesystem:write:{path}",))
        confined = Isolation(machine=FULL, protected=(home,)).confine(asking, ["-m", "x"], {})
        granted = [Path(a.partition("=")[2]) for a in confined.command if a.startswith(("read=", "write="))]
        assert path not in granted
        assert not any(grant == home or grant in home.parents for grant in granted)
    link = tmp_path / "link"
    link.symlink_to(home)
    linked = Isolation(machine=FULL, protected=(home,))
    assert linked.judge(f"filesystem:read:{link}") == (True, "refused: the server keeps its own files there")
    asking = replace(component, permissions=(f"filesystem:read:{link}", "network"))
    assert "network" in linked.enforced(asking)
    assert f"filesystem:read:{link}" not in linked.enforced(asking), "it is not given at all"


def test_r133_folders_of_the_host_cannot_be_swapped_for_links(component):
    """A plugin owns its state folder, so nothing that the server makes for it lies in there."""
    Isolation(machine=FULL).confine(component, ["-m", "x"], {})
    assert list(component.state_dir.iterdir()) == []
    assert component.state_dir.stat().st_mode & 0o777 == 0o700
    beside = component.state_dir.parent / ".state"
    assert {path.name for path in beside.iterdir()} == {"tmp", "byte-code", "incoming", "making", "workloads"}
    assert beside.stat().st_uid == os.geteuid()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux is asked")
def test_the_machine_is_asked_once():
    assert probe() is probe()
    assert probe().linux
    assert probe().landlock or probe().landlock_why
    assert probe().architecture or probe().seccomp_why
