"""An extension goes while something runs on its agent: waited for, uninstalled and collected, beside another that stays."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from fuseml_sdk.environments import compile_lock

from .conftest import Fuseml, installation, new_project, processes_of
from .test_live_plugins import SOURCE, begin, bundle

pytestmark = pytest.mark.full

MANIFEST = """
name = "shades"
version = "0.1.0"
summary = "A template for whoever has an agent of lamps."
licence = "Apache-2.0"
"""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Fuseml]:
    """An installation with `lights`, an extension `shades` whose runnable lights run, and `numbers` beside them."""
    shades = tmp_path / "shades"
    for part in ("runnables", "templates"):
        shutil.copytree(SOURCE / part, shades / part)
    (shades / "extension.toml").write_text(MANIFEST)
    lights = bundle(tmp_path / "lights", "0.1.0", compile_lock(["pluggy>=1.7,<2", "pydantic>=2.13"]))
    with installation(FUSEML_GC_SECONDS="0") as instance:
        for source in (str(lights), str(shades), "tests/e2e/bundles/numbers"):
            instance("bundle", "push", source)
        instance("extension", "install", "lights", "shades", "numbers")
        yield instance


def _named(home: Path, words: set[str]) -> list[str]:
    """Files and folders of an installation with a word in their path.

    But for archives of bundles, which can be installed again, logs, and the empty files that builders of environments lock.
    """
    found = (str(path.relative_to(home / "fz")) for path in (home / "fz").rglob("*"))
    return [path for path in found if not path.startswith(("registry/", "logs/", "envs/.locks/"))
            and any(word in path for word in words)]


def test_r130_an_extension_is_drained_uninstalled_and_collected_while_it_works(machine: Fuseml, tmp_path: Path):
    other = new_project(machine, tmp_path)
    other.add_pipelines()
    other.push(numbers="1 2 3\n")
    (tmp_path / "lamps").mkdir()
    room = new_project(machine, tmp_path / "lamps")
    room("pipeline", "add", "shades/glowing", "--name", "glowing", "--input", "code=code://*")
    run = begin(room)
    info = machine.json("extension", "info", "lights")
    pids = [component["pid"] for component in info["components"] if component["pid"]]
    (environment,) = {_interpreter(pid).parents[1] for pid in pids}
    stay = {entry["name"]: entry["digest"] for entry in machine.json("extension", "list")}
    words = {stay["lights"].partition(":")[2], environment.name, "state/lights"}
    assert len(_named(machine.home, words)) > 10

    refused = machine("extension", "uninstall", "lights", code=5).err
    assert f"the step shine of the run {run} runs on an agent of it" in refused
    assert "--drain" in refused
    leaving = machine.begin("extension", "uninstall", "lights", "--drain", "300")
    machine.wait_for(lambda: machine.json("extension", "info", "lights")["state"] == "leaving", 120, "the wait")
    assert "glows" in room("run", "logs", run).out, "its agent looks after the step meanwhile"
    assert [e["name"] for e in machine("extension", "gc", "--older-than", "0s", "--only", "environment", "--only", "bundle",
                                       "-o", "json").json["leftovers"]] == [], "what works is no leftover"
    assert leaving.poll() is None
    machine("extension", "configure", "lights", "glow=false")
    said, _ = leaving.communicate(timeout=300)
    assert leaving.returncode == 0, said
    assert "waiting at most 300 s for the end of what goes on with lights" in said
    assert room.json("run", "get", run)["state"] == "succeeded", "it was waited for, and not lost"
    assert room.run(run)["steps"]["shine"]["attempt"] == 1

    assert {entry["name"] for entry in machine.json("extension", "list")} == {"shades", "numbers"}
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert environment.exists(), "until it is collected, going back is quick"
    gone = machine("extension", "gc", "--older-than", "0s", "--keep", "1", "-o", "json").json["leftovers"]
    assert {"bundle", "environment", "generation"} <= {entry["kind"] for entry in gone if entry["removed"]}
    assert [path for path in _named(machine.home, words) if not path.startswith("extensions/state/lights")] == []
    assert not (machine.home / "fz/extensions/state/.lights").exists()
    gc = ("extension", "gc", "--older-than", "0s", "--only", "state", "-o", "json")
    assert [(e["name"], e["removed"]) for e in machine(*gc).json["leftovers"]] == [("lights", True)]
    assert _named(machine.home, words) == []
    assert [pid for pid in processes_of(machine.home) if environment in _interpreter(pid).parents] == []

    assert {e["name"]: e["digest"] for e in machine.json("extension", "list")} == {
        name: digest for name, digest in stay.items() if name != "lights"}
    assert machine.json("extension", "verify")["ok"]
    other.push(numbers="4 5 6\n")
    (service,) = other.json("service", "list")
    assert machine.post(service["url"], [1])["predictions"] == [5.0]
    machine("extension", "install", "lights")
    assert re.search(r"lights/lamp", machine("plugin", "list").out)


def _interpreter(pid: int) -> Path:
    """The program of a process, as it was called."""
    with suppress(OSError):
        return Path(Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0].decode())
    return Path()
