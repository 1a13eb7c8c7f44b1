"""`extension gc`, `doctor` and `diff` as a user types them, while work goes on."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from .conftest import Fuseml, installation, new_project


@pytest.fixture(scope="module")
def machine():
    """An installation of its own: collecting must not meet the work of other tests."""
    with installation(FUSEML_GC_SECONDS="0") as instance:
        instance("bundle", "push", "tests/e2e/bundles/numbers")
        instance("extension", "install", "numbers")
        yield instance

def gc(machine: Fuseml, *arguments: str, code: int = 0) -> list[dict]:
    return machine("extension", "gc", "--older-than", "0s", *arguments, "-o", "json", code=code).json["leftovers"]

def kinds(leftovers) -> set[str]:
    return {leftover["kind"] for leftover in leftovers}

def test_what_ended_goes_and_what_runs_stays(machine: Fuseml, tmp_path: Path):
    project = new_project(machine, tmp_path)
    project.add_pipelines(serve=True)
    project.push(numbers="1\n2\n3\n")
    service = project.json("service", "list")[0]
    url = f"/serve/{project.name}/{service['name']}/predict"
    assert machine.post(url, [1])
    running = set(machine.workload_processes("answer.py"))
    assert running

    plan = gc(machine, "--dry-run")
    assert "workload" in kinds(plan)
    assert not any(leftover["removed"] for leftover in plan)
    assert all(leftover["why"] and leftover["bytes"] >= 0 for leftover in plan)
    folders = {path.name for path in (machine.home / "fz/work").iterdir()}
    assert {leftover["name"] for leftover in plan if leftover["kind"] == "workload"} < folders

    done = gc(machine)
    assert {e["name"] for e in done} == {e["name"] for e in plan}
    assert all(leftover["removed"] for leftover in done)
    assert set(machine.workload_processes("answer.py")) == running
    assert machine.post(url, [1])
    assert machine.json("extension", "verify")["ok"]
    project.push(numbers="4\n5\n6\n")
    assert project.json("run", "list")[0]["state"] == "succeeded"
    assert gc(machine, "--only", "content", "--dry-run") == [], "the project's models and data are needed"

@pytest.mark.full
def test_a_workload_and_a_collection_at_the_same_moment(machine: Fuseml, tmp_path: Path):
    project = new_project(machine, tmp_path)
    project.add_pipelines(serve=False)
    end, errors = threading.Event(), []

    def collect():
        while not end.is_set():
            done = machine("extension", "gc", "--older-than", "0s", "-o", "json", code=None)
            if done.code:
                errors.append(done.err)

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        for number in range(4):
            project.push(numbers=f"{number}\n7\n")
            assert project.json("run", "list")[0]["state"] == "succeeded"
    finally:
        end.set()
        thread.join(60)
    assert errors == []

def test_contents_of_deleted_projects_go_after_their_age(machine: Fuseml, tmp_path: Path):
    project = new_project(machine, tmp_path)
    project.add_pipelines(serve=False)
    project.push(numbers="70\n80\n90\n")
    places = machine.home / "fz/artifacts/sha256"
    before = {path.name for path in places.glob("*/*")}

    machine("project", "delete", project.name, "--force")
    assert project.name not in {p["name"] for p in machine.json("project", "list")}
    assert gc(machine, "--only", "content", "--dry-run") == [], "what is new may be about to be registered"
    for path in places.glob("*/*"):
        os.utime(path, (time.time() - 7200,) * 2)
    assert "content" in kinds(gc(machine, "--only", "content", "--dry-run"))
    done = gc(machine, "--only", "content")
    assert kinds(done) == {"content"}
    after = {path.name for path in places.glob("*/*")}
    assert after < before
    assert {e["kind"] for e in machine("extension", "gc", "--older-than", "1d", "-o", "json").json["leftovers"]} == set()

def test_an_old_version_goes_when_no_generation_has_it(machine: Fuseml, tmp_path: Path):
    source = tmp_path / "numbers"
    shutil.copytree("tests/e2e/bundles/numbers", source)
    first = machine.json("extension", "list")[0]["digest"]
    manifest = source / "extension.toml"
    manifest.write_text(manifest.read_text().replace("0.1.0", "0.2.0") + '[[permissions]]\nname = "network"\nreason = "x"\n')
    template = source / "templates/mean-training.yaml"
    template.write_text(template.read_text() + "# another template\n")
    machine("bundle", "push", str(source))
    changes = machine.json("extension", "diff", "numbers")["changes"]
    assert {"part": "version", "name": "version", "change": "changed", "before": "0.1.0", "after": "0.2.0"} in changes
    assert {"part": "permission", "name": "network", "change": "added", "before": "", "after": "x"} in changes
    assert machine("extension", "diff", "numbers", "--exit-code", code=1).out.startswith("Part")
    machine("extension", "upgrade", "numbers")
    [change] = machine.json("extension", "diff", "1")["changes"]
    assert (change["part"], change["name"], change["change"]) == ("extension", "numbers", "changed")
    assert machine.json("extension", "diff", "numbers:0.1.0", "numbers:0.2.0")["changes"] == changes
    assert machine("extension", "diff", "99", code=3).err
    assert "do not differ" in machine("extension", "diff", "numbers").err

    assert "bundle" not in kinds(gc(machine, "--dry-run")), "the generation before can be gone back to"
    for pipeline in _pipelines(machine):
        machine("pipeline", "remove", pipeline[1], "--project", pipeline[0])
    plan = gc(machine, "--dry-run", "--keep", "1")
    assert {"generation", "bundle"} <= kinds(plan)
    gc(machine, "--keep", "1")
    assert not (machine.home / "fz/extensions/store" / first.partition(":")[2]).exists()
    assert machine.json("extension", "verify")["ok"]
    assert len(machine.json("extension", "history")) == 1

def _pipelines(machine: Fuseml) -> list[tuple[str, str]]:
    with sqlite3.connect(f"file:{machine.home}/fz/fuseml.db?mode=ro", uri=True) as database:
        return list(database.execute("select project, name from pipeline"))

def test_doctor_names_what_is_wrong_and_fixes_what_cannot_do_harm(machine: Fuseml):
    healthy = machine.json("extension", "doctor")
    assert healthy["ok"], healthy
    assert {"registry", "policy", "keys", "disk", "uv", "clock", "generations"} <= {c["id"] for c in healthy["checks"]}
    home = machine.home / "fz"
    (home / "keys/registry.key").chmod(0o644)
    policy = (home / "policy.toml").read_text()
    (home / "policy.toml").write_text('version = 1\n[[rule]]\nmatch = "**"\naction = "allow"\n')
    store = home / "extensions/store" / machine.json("extension", "list")[0]["digest"].partition(":")[2]
    (store / "extension.json").rename(store / "moved")
    found = {c["id"]: c for c in machine("extension", "doctor", "-o", "json", code=1).json["checks"]}
    assert {name: found[name]["state"] for name in ("keys", "policy", "bundles")} == {
        "keys": "error", "policy": "warning", "bundles": "error"}
    assert all(c["fix"] for c in found.values() if c["state"] in ("error", "warning"))
    fixed = {c["id"]: c for c in machine("extension", "doctor", "--fix", "-o", "json", code=1).json["checks"]}
    assert fixed["keys"]["state"] == "ok"
    assert fixed["keys"]["fixed"]
    assert (home / "keys/registry.key").stat().st_mode & 0o777 == 0o600
    (home / "policy.toml").write_text(policy)
    machine("extension", "verify", "--repair")
    assert machine("extension", "doctor").code == 0
    assert "there is no check 'x'" in machine("extension", "doctor", "x", code=2).err
    assert [c["id"] for c in machine("extension", "doctor", "clock", "-o", "json").json["checks"]] == ["clock"]

@pytest.mark.full
def test_kills_during_a_collection_leave_everything_whole(machine: Fuseml, tmp_path: Path):
    project = new_project(machine, tmp_path)
    project.add_pipelines(serve=False)
    for number in range(4):
        project.push(numbers=f"{number}\n1\n")
        collecting = machine.begin("extension", "gc", "--older-than", "0s")
        time.sleep(0.08 * number)
        machine.kill("control")
        collecting.communicate(timeout=60)
        machine.wait_for(lambda: machine("extension", "doctor", code=None).code == 0, 60, "a healthy server")
    assert machine.json("extension", "verify")["ok"]
    gc(machine)
    assert [path.name for path in (machine.home / "fz/work").iterdir() if path.name.startswith(".")] == []
    project.push(numbers="5\n5\n")
    assert project.json("run", "list")[0]["state"] == "succeeded"

