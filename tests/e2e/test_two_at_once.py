"""Two projects, two pushes, two installations: nothing is mixed and nothing is lost."""

from __future__ import annotations

import pytest


def test_two_projects_at_once(numbers, project, tmp_path):
    """Wildcards stay in their project."""
    other = type(project)(numbers, f"{project.name}-b", tmp_path / "other")
    other.folder.mkdir()
    numbers("project", "create", other.name)
    for one in (project, other):
        one.add_pipelines()

    pushes = [project.begin_push(numbers="1 2 3\n"), other.begin_push(numbers="10 20 30\n")]
    outputs = [push.communicate(timeout=120)[0] for push in pushes]

    assert [push.returncode for push in pushes] == [0, 0], outputs
    assert project("service", "predict", "myapp", "-d", "[1]").out.startswith('{"predictions": [2.0]')
    assert other("service", "predict", "myapp", "-d", "[1]").out.startswith('{"predictions": [20.0]')
    for one in (project, other):
        assert len(one.json("run", "list")) == 2
        assert len(one.json("model", "list")) == 1


def test_two_pushes_at_once(project):
    """Of different codesets in one project: both are trained."""
    project.add_pipelines()
    pushes = []
    for name in ("first", "second"):
        pushes.append(project.begin_push(name, numbers="1 2 3\n" if name == "first" else "4\n"))
        if name == "first":
            pushes[0].stdout.readline()  # the folder has been read
    outputs = [push.communicate(timeout=120)[0] for push in pushes]

    assert [push.returncode for push in pushes] == [0, 0], outputs
    assert {run["name"] for run in project.json("run", "list")} == {
        "training-pipeline/1", "training-pipeline/2", "serving-pipeline/1", "serving-pipeline/2"}
    assert {s["name"] for s in project.json("service", "list")} == {"first", "second"}


@pytest.mark.full
def test_a_second_installation_runs_beside_the_first(numbers, fuseml):
    """Another home and port; stopping one leaves the other alone."""
    fuseml("server", "start")
    fuseml("project", "create", "beside")
    assert fuseml.state["port"] != numbers.state["port"]
    fuseml("server", "stop")

    assert "beside" not in [p["name"] for p in numbers.json("project", "list")]
    assert numbers("server", "status").code == 0
