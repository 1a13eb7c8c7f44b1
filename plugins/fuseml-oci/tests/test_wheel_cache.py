"""The folder of wheels that were built before."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fuseml_oci.bundles import WheelCache, wheel_cache
from fuseml_oci.bundles.wheels import make_wheel
from fuseml_sdk.errors import InvalidInput

PROJECT = """
[build-system]
requires = ["hatchling>=1.30"]
build-backend = "hatchling.build"
[project]
name = "greeter-plugin"
version = "1.0"
"""


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    (folder / "src/greeter_plugin").mkdir(parents=True)
    (folder / "src/greeter_plugin/__init__.py").write_text("")
    (folder / "pyproject.toml").write_text(PROJECT)
    return folder


@pytest.fixture
def pins(tmp_path):
    file = tmp_path / "build-constraints.txt"
    file.write_text("hatchling<2\n")
    return file


@pytest.fixture
def builds(monkeypatch):
    """The projects that were really built, in order."""
    found: list[Path] = []

    def make(source, *, constraints=None):
        found.append(source)
        return make_wheel(source, constraints=constraints)

    monkeypatch.setattr(wheel_cache, "make_wheel", make)
    return found


def test_a_project_is_built_once_and_gives_the_same_bytes(project, pins, tmp_path, builds):
    cache = WheelCache(tmp_path / "cache")
    with ThreadPoolExecutor(3) as pool:  # the lock lets one of them build
        made = list(pool.map(lambda _n: cache.make(project, constraints=pins), range(3)))
    (project / "src/greeter_plugin/__pycache__").mkdir()
    (project / "src/greeter_plugin/__pycache__/x.pyc").write_bytes(b"x")
    os.utime(project / "pyproject.toml", (1, 1))
    again = WheelCache(tmp_path / "cache").make(project, constraints=pins)
    assert len(builds) == 1
    assert {*made, again} == {make_wheel(project, constraints=pins)}


def test_whatever_the_wheel_depends_on_makes_it_anew(project, pins, tmp_path, builds):
    cache = WheelCache(tmp_path / "cache")
    changes = (lambda: None, lambda: (project / "src/greeter_plugin/a.py").write_text("A = 1\n"),
               lambda: (project / "src/greeter_plugin/a.py").rename(project / "src/greeter_plugin/b.py"),
               lambda: (project / "src/greeter_plugin/b.py").chmod(0o755), lambda: pins.write_text("hatchling<3\n"))
    for number, change in enumerate(changes, 1):
        change()
        made = cache.make(project, constraints=pins)
        assert len(builds) == number
    assert made == make_wheel(project, constraints=pins)


def test_without_pinned_build_tools_nothing_is_kept(project, tmp_path, builds):
    cache = WheelCache(tmp_path / "cache")
    cache.make(project)
    cache.make(project)
    assert len(builds) == 2
    assert not (tmp_path / "cache").exists()


def test_a_damaged_wheel_is_made_anew(project, pins, tmp_path, builds):
    cache = WheelCache(tmp_path / "cache")
    good = cache.make(project, constraints=pins)
    file, = (tmp_path / "cache").glob("*/*.whl")
    file.write_bytes(good.data[:-40])
    assert cache.make(project, constraints=pins) == good
    assert len(builds) == 2
    assert file.read_bytes() == good.data


def test_what_cannot_be_kept_is_made_all_the_same(project, pins, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert WheelCache(tmp_path / "cache").make(project, constraints=pins).distribution == "greeter-plugin"


def test_a_source_that_changes_while_it_is_built_is_not_kept(project, pins, tmp_path, monkeypatch):
    def make(source, *, constraints=None):
        wheel = make_wheel(source, constraints=constraints)
        (project / "src/greeter_plugin/late.py").write_text("")
        return wheel

    monkeypatch.setattr(wheel_cache, "make_wheel", make)
    WheelCache(tmp_path / "cache").make(project, constraints=pins)
    assert not list((tmp_path / "cache").glob("*/*.whl"))


def test_the_wheels_that_were_not_used_for_longest_go(project, pins, tmp_path, monkeypatch):
    monkeypatch.setattr(wheel_cache, "MOST", 1)
    cache = WheelCache(tmp_path / "cache")
    cache.make(project, constraints=pins)
    first, = (tmp_path / "cache").glob("*/*.whl")
    os.utime(first.parent, (1, 1))
    (project / "src/greeter_plugin/a.py").write_text("A = 1\n")
    cache.make(project, constraints=pins)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert not first.exists()


def test_a_project_that_does_not_build_says_so_each_time(project, pins, tmp_path):
    (project / "pyproject.toml").write_text(PROJECT.replace("hatchling.build", "nothing.build"))
    for _ in range(2):
        with pytest.raises(InvalidInput, match="failed"):
            WheelCache(tmp_path / "cache").make(project, constraints=pins)


def test_build_tools_that_are_cached_need_no_network(project, monkeypatch):
    made = make_wheel(project)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    assert make_wheel(project) == made
