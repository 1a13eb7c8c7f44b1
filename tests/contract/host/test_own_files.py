"""A plugin that changes its own code and environment: refused where the machine can, told and mended where it cannot."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import venv
from pathlib import Path

import pytest

from fuseml_core.host import PluginHost
from fuseml_core.host.isolation import Isolation
from fuseml_core.host.machine import probe
from fuseml_sdk import errors

from .conftest import EXAMPLE, until


def _put_in_place(root: Path, extension_python: Path) -> None:
    """What an installation makes, and `extension verify --repair` makes again: the files of the bundle, an environment."""
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(EXAMPLE, root / "files", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "files" / "__pycache__").mkdir()
    venv.create(root / "venv", with_pip=False, symlinks=True)
    (pth,) = extension_python.parents[1].glob("lib/python*/site-packages/example.pth")
    (packages,) = (root / "venv" / "lib").glob("python*/site-packages")
    (packages / "example.pth").write_text(pth.read_text().replace(str(EXAMPLE), str(root / "files")))


def _contents(root: Path) -> dict[str, str]:
    found = (path for path in sorted(root.rglob("*")) if not path.is_dir())
    return {str(path.relative_to(root)): str(path.readlink()) if path.is_symlink() else
            hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


@pytest.fixture
def changing(component, extension_python, tmp_path):
    """The example agent with files of its own, and where they lie."""
    root = tmp_path / "installed"
    _put_in_place(root, extension_python)
    made = component("agent")
    return dataclasses.replace(made, python=root / "venv" / "bin" / "python",
                               readable=(root / "files", *made.readable)), root


def _attempt(host, made):
    """Let it try; gives what it says about that."""
    agent = host.agent(made.id)
    assert agent.status(["fault-changes_its_own_files"], timeout=60)[0].state == "unknown"
    told = json.loads((made.state_dir / "changes").read_text())
    assert len(told) == 7
    assert agent.status(["x"], timeout=60)[0].name == "x", "it serves on"
    return set(told.values())


def _kill(host):
    os.kill(host.components()[0].pid, signal.SIGKILL)
    assert until(lambda: host.components()[0].pid is None)


def test_r133_a_plugin_cannot_change_its_own_files_and_starts_again_as_it_was(host, changing):
    if not probe().landlock:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(probe().landlock_why)
    made, root = changing
    before = _contents(root)
    host.add(made)
    assert _attempt(host, made) == {"PermissionError"}
    assert _contents(root) == before
    _kill(host)
    assert host.agent(made.id).describe(timeout=60).name == "example"
    assert host.components()[0].restarts == 1
    assert _contents(root) == before


def test_r133_where_nothing_confines_a_plugin_its_changes_are_told_at_the_next_start_and_can_be_mended(
        changing, extension_python, runtime_dir, tmp_path):
    machine = dataclasses.replace(probe(), landlock=0, landlock_why="this kernel has no Landlock", architecture="",
                                  seccomp_why="this kernel cannot filter", root=False)
    made, root = changing
    host = PluginHost(runtime_dir=runtime_dir, log_dir=tmp_path / "logs", isolation=Isolation(machine=machine))
    try:
        host.add(made)
        assert _attempt(host, made) == {"done"}
        assert "files" not in host.components()[0].enforced, "what is not in force is not claimed"
        _kill(host)
        with pytest.raises(errors.PluginError, match="cannot be started.*No such file") as caught:
            host.agent(made.id).describe(timeout=60)
        assert "fuseml extension verify --repair" in caught.value.hint
        _put_in_place(root, extension_python)
        assert until(lambda: _answers(host, made)), "it starts again by itself once its files are as they were"
    finally:
        host.shutdown()


def _answers(host, made):
    try:
        return host.agent(made.id).describe(timeout=60).name == "example"
    except errors.NotReady:  # it pauses after failures
        return False
