"""Environments that are in use are not removed, and those that are removed are not used."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from fuseml_sdk.environments import ensure_environment, hold, remove_unused, users_of
from fuseml_sdk.environments.index import IndexSettings

USER = "a" * 64
HOLDER = """
import sys
from pathlib import Path
from fuseml_sdk.environments import ensure_environment, hold
made = ensure_environment(Path(sys.argv[1]), lock="", python=Path(sys.executable))
print(hold(made, [sys.argv[2]]), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "envs"


def test_an_environment_stays_while_a_process_holds_it(root: Path):
    made = ensure_environment(root, lock="", python=Path(sys.executable))
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(root), USER], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as holder:
        assert holder.stdout.readline() == "True\n"
        assert users_of(made.path) == {USER}
        assert remove_unused(root, keep=set(), older_than=0.0) == []
        assert made.python.exists()
        holder.kill()
    assert remove_unused(root, keep=set(), older_than=0.0) == [made.digest]
    assert not made.path.exists()


def test_what_was_removed_cannot_be_held(root: Path):
    made = ensure_environment(root, lock="", python=Path(sys.executable))
    assert remove_unused(root, keep=set(), older_than=0.0) == [made.digest]
    assert not hold(made)
    assert users_of(made.path) == frozenset()
    again = ensure_environment(root, lock="", python=Path(sys.executable))
    assert again.built
    time.sleep(0.01)
    assert remove_unused(root, keep=set(), older_than=60.0) == []


def test_wheels_at_hand_are_offered_to_tools_only_if_there_are_any(tmp_path: Path):
    there, missing = IndexSettings(find_links=str(tmp_path)), IndexSettings(find_links=str(tmp_path / "missing"))
    assert there.variables({"UV_FIND_LINKS": "/other"})["UV_FIND_LINKS"] == f"{tmp_path},/other"
    assert there.variables({})["PIP_FIND_LINKS"] == str(tmp_path)
    assert "UV_FIND_LINKS" not in missing.variables({})
    assert IndexSettings.from_dict(there.to_dict()) == there
