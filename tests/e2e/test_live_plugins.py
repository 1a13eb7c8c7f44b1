"""Plugins of an extension as an administrator meets them: seen, traced, changed under load, disabled, left out."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseml_sdk.environments import compile_lock

from .conftest import ROOT, Fuseml, Project, installation, new_project

SOURCE = Path(__file__).parent / "bundles/lights"


def bundle(folder: Path, version: str, lock: str) -> Path:
    """The source of the extension `lights` in some version."""
    shutil.copytree(SOURCE, folder)
    for name in ("extension.toml", "plugin/pyproject.toml", "plugin/lights.py"):
        path = folder / name
        sdk = os.path.relpath(ROOT / "plugins/fuseml-sdk", folder)
        path.write_text(path.read_text().replace("0.1.0", version).replace("@SDK@", sdk))
    (folder / "requirements.lock").write_text(lock)
    return folder


@pytest.fixture(scope="module")
def lights(tmp_path_factory) -> Iterator[Fuseml]:
    """An installation with `lights` 0.1.0 installed and 0.2.0 pushed."""
    lock = compile_lock(["pluggy>=1.7,<2", "pydantic>=2.13"])
    with installation() as instance:
        for version in ("0.1.0", "0.2.0"):
            instance("bundle", "push", str(bundle(tmp_path_factory.mktemp("lights") / "b", version, lock)))
        instance("extension", "install", "lights:0.1.0")
        yield instance


@pytest.fixture
def room(lights: Fuseml, tmp_path: Path) -> Iterator[Project]:
    """A new project; at the end `lights` 0.1.0 is there again with its settings unset."""
    made = new_project(lights, tmp_path)
    yield made
    for name in ("stuck", "dark"):
        (lights.home / "fz/extensions/state/lights" / name).unlink(missing_ok=True)
    lights("extension", "enable", "lights", code=None)
    lights("extension", "configure", "lights", "--unset", "glow", code=None)
    lights("extension", "install", "lights:0.1.0")
    # A process on its way out still says what becomes of workloads by its own settings.
    lights.wait_for(lambda: all(p["in_force"] for p in lights.json("plugin", "list")), 120, "the end of earlier processes")
    for run in made.json("run", "list"):
        made("run", "cancel", run["name"], code=None)
        lights.wait_for(lambda name=run["name"]: made.json("run", "get", name)["ended_at"], 120, "the end of a run")


def begin(room: Project, number: int = 1) -> str:
    """Start a run whose step glows on; returns its name."""
    room.write(**{"lamp.txt": f"bright {number}"})
    room("codeset", "push", str(room.folder), "--name", "lamp")
    name = f"glowing/{number}"
    room.fuseml.wait_for(lambda: _state(room, name) not in ("", "waiting", "queued"), 120, "the step")
    assert _state(room, name) == "running"
    return name


def _state(room: Project, run: str) -> str:
    found = room("run", "get", run, "-o", "json", code=None)
    return str(found.json["steps"][0]["state"]) if found.code == 0 else ""


@pytest.mark.full
def test_r133_r165_agents_and_builders_are_runnables_of_their_kind(room: Project, lights: Fuseml):
    digest = lights.json("extension", "info", "lights")["digest"]
    found = {item["name"]: item for item in room.json("runnable", "list")}
    agent = found["lights/lamp"]
    assert agent["address"] == f"runnable://fuseml/lights/lamp@{digest}"
    assert (agent["type"], agent["digest"], agent["metadata"]["version"]) == ("agent", digest, "0.1.0")
    assert agent["metadata"]["descriptor"]["capabilities"] == {"lamp": "yes"}
    assert found["lights/bulb"]["type"] == "builder"
    for name in ("runnable://fuseml/lights/lamp", agent["address"], agent["short"], "lights/lamp"):
        assert room.json("runnable", "get", name)["address"] == agent["address"]
    assert "there is no runnable" in room("runnable", "get", "lights/none", code=3).err
    assert "agent" in room("runnable", "list").out
    about = room("runnable", "get", "lights/lamp").out
    assert re.search(r"^ +kinds: job, service$", about, re.MULTILINE)
    assert "{'" not in about
    page = room.json("runnable", "list", "--limit", "1")
    assert len(page) == 1
    lights("extension", "upgrade", "lights")
    after = room.json("runnable", "get", "lights/lamp")
    assert after["digest"] != digest
    assert after["metadata"]["version"] == "0.2.0"
    assert room.json("runnable", "get", agent["address"])["digest"] == digest, "the earlier version is kept"


@pytest.mark.full
def test_r130_plugins_are_upgraded_configured_and_rolled_back_under_load(room: Project, lights: Fuseml):
    """A job goes on over all of it, pushes are recognised all the time, and runs keep the digest they began with."""
    room("pipeline", "add", "glowing", "--name", "glowing", "--input", "code=code://*")
    run = begin(room)
    first = lights.json("extension", "info", "lights")["digest"]
    stop, types, logs, wrong = threading.Event(), [], [], []

    def push() -> None:
        other = new_project(lights, room.folder.parent / "other")
        while not stop.is_set():
            other.write(**{"lamp.txt": str(len(types))})
            done = other("codeset", "push", str(other.folder), "--name", "lamp", code=None)
            types.append(other.json("codeset", "get", "lamp")["type"] if done.code == 0 else done.err)

    def read() -> None:
        url = f"{lights.base_url}/api/v1/projects/{room.name}/runs/{run}/logs"
        while not stop.is_set():
            try:
                with urllib.request.urlopen(url, timeout=30) as answer:
                    logs.append(answer.read())
            except OSError as error:
                wrong.append(error)

    (room.folder.parent / "other").mkdir()
    threads = [threading.Thread(target=push), *(threading.Thread(target=read) for _ in range(4))]
    for thread in threads:
        thread.start()
    try:
        for command in (["upgrade", "lights"], ["configure", "lights", "glow=true"], ["rollback"], ["upgrade", "lights"]):
            seen, read_by_now = len(types), len(logs)
            lights("extension", *command)
            lights.wait_for(lambda s=seen, r=read_by_now: len(types) > s + 1 and len(logs) > r + 50, 120, "load")
    finally:
        stop.set()
        for thread in threads:
            thread.join(120)
    assert wrong == []
    assert set(types) == {"lamp"}, types
    assert _state(room, run) == "running", "the job went on over all of it"
    room("pipeline", "add", "lights/glowing", "--name", "newer", "--input", "code=code://*")
    pipelines = {p["name"]: p["extension_digest"] for p in room.json("pipeline", "list")}
    assert pipelines["glowing"] == first, "several versions side by side"
    assert pipelines["newer"] == lights.json("extension", "info", "lights")["digest"] != first
    refused = lights("extension", "uninstall", "lights", code=5).err
    assert f"the pipeline {room.name}/glowing uses it" in refused
    lights("extension", "configure", "lights", "glow=false")
    lights.wait_for(lambda: room.json("run", "get", run)["state"] == "succeeded", 120, "the end of the run")
    room("pipeline", "remove", "newer")


@pytest.mark.full
def test_who_pushes_sees_why_a_builder_could_not_look_and_pushes_again(room: Project, lights: Fuseml):
    room("pipeline", "add", "glowing", "--name", "glowing", "--input", "code=code://*")
    dark = lights.home / "fz/extensions/state/lights/dark"
    dark.touch()
    room.write(**{"lamp.txt": "unseen"})
    pushed = room("codeset", "push", str(room.folder), "--name", "lamp").out
    assert "Warning: the builder lights/bulb could not look at it: it is too dark to see" in pushed
    assert "fuseml plugin logs lights/bulb" in pushed
    assert "registered without a type" in pushed
    assert "glowing: started glowing/1" in pushed, "it takes anything"
    assert "lights/bulb could not look at it: it is too dark to see" in room("codeset", "get", "lamp").out
    dark.unlink()
    again = room("codeset", "push", str(room.folder), "--name", "lamp").out
    assert "Warning" not in again
    found = room.json("codeset", "get", "lamp")
    assert (found["type"], "dark" in found["detection"]) == ("lamp", False)
    assert "Warning" not in room("codeset", "push", str(room.folder), "--name", "lamp").out

    os.kill(lights.json("plugin", "info", "lights/bulb")["pid"], signal.SIGKILL)
    check = lights.wait_for(lambda: _unless_ok(_components(lights)), 60, "the crash")
    assert "fuseml plugin info lights/bulb, fuseml plugin logs lights/bulb" in check["fix"]
    assert "signal SIGKILL" in lights("plugin", "info", "lights/bulb").out
    lights("plugin", "restart", "lights/bulb")
    assert _components(lights)["state"] == "ok"


def _components(lights: Fuseml) -> dict:
    return lights("extension", "doctor", "components", "-o", "json", code=None).json["checks"][0]


def _unless_ok(check: dict) -> dict | None:
    return None if check["state"] == "ok" else check


def _limits(lights: Fuseml, origin: str) -> dict[str, int]:
    found = lights.json("extension", "info", "lights")["limits"]
    return {limit["name"]: limit["value"] for limit in found
            if limit["component"] == "agent lamp" and limit["from"] == origin}


def _groups(lights: Fuseml) -> set[Path]:
    """Control groups of plugin processes that there are now."""
    remembered = lights.home / "fz/run/control-groups"
    bases = [Path(line) for line in remembered.read_text().splitlines()] if remembered.exists() else []
    return {group for base in bases if base.is_dir() for group in base.iterdir() if group.is_dir()}


@pytest.mark.full
def test_r133_limits_are_stated_shown_configured_and_in_force(room: Project, lights: Fuseml):
    plan = lights.json("extension", "install", "lights:0.2.0", "--dry-run")["plan"]
    stated = {limit["name"]: limit for limit in plan["changes"][0]["limits"] if limit["from"] == "manifest"}
    assert {name: limit["shown"] for name, limit in stated.items()} == {"memory": "512Mi", "open_files": "256"}
    assert "limit of agent lamp: open_files 256 (enforced by rlimit, each process alone)" in lights(
        "extension", "install", "lights:0.2.0", "--dry-run").out
    assert _limits(lights, "manifest") == {"memory": 512 << 20, "open_files": 256}
    assert "open_files by rlimit" in lights.json("extension", "doctor", "limits")["checks"][0]["reason"]

    assert "at most" in lights("extension", "configure", "lights", "--limit", "memory=9999Ti", code=2).err
    changed = lights("extension", "configure", "lights", "--limit", "memory=256Mi", "--limit", "open_files=128")
    assert "needs memory 512Mi, and gets 256Mi" in changed.err
    assert _limits(lights, "administrator") == {"memory": 256 << 20, "open_files": 128}
    plugin = lights.json("plugin", "info", "lights/lamp")
    assert {limit["name"]: limit["shown"] for limit in plugin["limits"]}["open_files"] == "128"
    if sys.platform == "linux":
        line, = re.findall(r"^Max open files +\d+ +(\d+)", Path(f"/proc/{plugin['pid']}/limits").read_text(), re.MULTILINE)
        assert line == "128"
    before = _groups(lights)
    if "cgroup" in {limit["name"]: limit["how"] for limit in plugin["limits"]}["memory"]:
        assert any(str(plugin["pid"]) in (group / "cgroup.procs").read_text().split() for group in before)
    lights("extension", "configure", "lights", "--limit", "memory=", "--limit", "open_files=")
    assert _limits(lights, "administrator") == {}

    before = _groups(lights)
    killed = lights.kill("control")
    lights.wait_for(lambda: lights.state["pids"].get("control") not in (killed, None), 60, "another control process")
    lights.wait_for(lambda: lights("plugin", "list", code=None).code == 0, 60, "an answer")
    lights.wait_for(lambda: not before & _groups(lights), 60, "the end of the groups of the one that was killed")


@pytest.mark.full
def test_a_disabled_extension_finishes_its_work_and_is_not_offered(room: Project, lights: Fuseml):
    room("pipeline", "add", "glowing", "--name", "glowing", "--input", "code=code://*")
    run = begin(room)
    disabled = lights("extension", "disable", "lights")
    assert f"the step shine of the run {run} goes on" in disabled.err
    assert "fuseml extension enable lights" in disabled.out
    plugins = {p["name"]: p["state"] for p in lights.json("plugin", "list")}
    assert plugins["lights/bulb"] == "disabled"
    assert plugins["lights/lamp"] in ("ready", "idle"), "it looks after its workload"
    assert "glows" in room("run", "logs", run).out
    refused = room("pipeline", "add", "glowing", "--name", "more", "--input", "code=code://*", code=5).err
    assert "the extension lights is disabled" in refused
    assert "fuseml extension enable lights" in refused
    assert lights.json("extension", "list")[0]["state"] == "disabled"
    lights("server", "stop", "--wait", "--timeout", "1", code=None)
    assert _state(room, run) == "running"
    lights("extension", "upgrade", "lights")
    assert "glows" in room("run", "logs", run).out, "the agent looks after it in its new version, too"
    lights("extension", "configure", "lights", "glow=false")
    lights.wait_for(lambda: _state(room, run) == "succeeded", 120, "the setting to reach the agent")
    lights.wait_for(lambda: all(p["state"] == "disabled" for p in lights.json("plugin", "list")
                                if p["extension"] == "lights"), 120, "the end of the agent")
    lights("extension", "enable", "lights")
    assert lights.json("extension", "info", "lights")["state"] == "active"


@pytest.mark.full
def test_safe_mode_shows_what_is_left_out_and_loses_nothing(room: Project, lights: Fuseml):
    room("pipeline", "add", "glowing", "--name", "glowing", "--input", "code=code://*")
    run = begin(room)
    state = lights.home / "fz/extensions/state/lights"
    lamp = state / "lamps" / room.json("run", "get", run)["steps"][0]["workload"]
    (state / "stuck").touch()
    left = lights("server", "stop", "--force", code=None)
    assert left.code != 0
    assert f"1 workload goes on: {run} shine (agent lights/lamp: the switch is stuck" in left.err
    assert "fuseml server stop --force" in left.err
    assert '"running"' in lamp.read_text()
    (state / "stuck").unlink()
    lights("server", "start")
    for process in ("launcher", "control", "data"):
        lights.kill(process)
    lights("server", "stop", "--force")
    assert '"cancelled"' in lamp.read_text(), "ended although no server ran any more"
    assert "No server was running" in lights("server", "stop").out
    assert "without extensions" in lights("server", "start", "--no-extensions").out
    assert "safe mode" in lights("server", "status").out
    assert {p["state"] for p in lights.json("plugin", "list") if p["extension"] == "lights"} == {"safe mode"}
    refused = room("pipeline", "add", "glowing", "--name", "more", "--input", "code=code://*", code=5).err
    assert "started without extensions" in refused
    room.write(**{"lamp.txt": "again"})
    assert "started without extensions" in room("codeset", "push", str(room.folder), "--name", "other").out
    assert "fuseml server stop, then fuseml server start" in lights("server", "start").out
    lights("server", "stop", "--force")
    assert "without extensions" not in lights("server", "start").out
    lights.wait_for(lambda: room.json("codeset", "get", "other")["type"] == "lamp", 60, "another look at the code")
    refused = lights("server", "start", "--no-extensions", code=4).err
    assert "fuseml server stop" in refused
    assert room.json("run", "get", run)["name"] == run
    assert {p["state"] for p in lights.json("plugin", "list") if p["extension"] == "lights"} != {"safe mode"}


@pytest.mark.full
def test_r130_the_commands_of_the_how_to_work_as_written(room: Project, lights: Fuseml):
    text = (ROOT / "docs/how-to/operate-plugins.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```console\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    commands = [shlex.split(line[2:])[1:] for block in blocks for line in block.splitlines() if line.startswith("$ fuseml ")]
    printed = {" ".join(command): lights(*command).out for command in commands if command[1] != "uninstall"}
    assert len(printed) == len({" ".join(command) for command in commands}) - 1
    assert "lights/lamp" in printed["plugin list"]
    assert "agent_describe" in printed["plugin info lights/lamp"]
    assert "lamp 0.1.0, glow True" in printed["plugin logs lights/lamp"]
    assert "agent_describe" in printed["plugin trace lights/lamp"]
    assert "lights/bulb" in printed["plugin stats"]
    assert "safe mode" in printed["server status"]
    assert {p["state"] for p in lights.json("plugin", "list") if p["extension"] == "lights"} == {"disabled"}
    lights("extension", "enable", "lights")
    with urllib.request.urlopen(f"{lights.base_url}/metrics", timeout=30) as answer:
        metrics = answer.read().decode()
    for name in re.findall(r"`(fuseml_plugin_\w+)`", text):
        assert f"# TYPE {name.removesuffix('_total')}" in metrics, name
    [uninstall] = [command for command in commands if command[1] == "uninstall"]
    room("pipeline", "add", "glowing", "--name", "glowing", "--input", "code=code://*")
    assert "uses it" in lights(*uninstall, code=5).err
    for project in lights.json("project", "list"):
        for pipeline in lights.json("pipeline", "list", "--project", project["name"]):
            lights("pipeline", "remove", pipeline["name"], "--project", project["name"])
    assert "uninstalled" in lights(*uninstall).out
