"""Runs in a person's hands through the real commands: two verbs, single steps, sweeps, cancelling, deleting."""

from __future__ import annotations

import os

import pytest


@pytest.fixture
def training(project):
    """A project in which `training-pipeline/1` has trained `myapp`."""
    project.add_pipelines(serve=False)
    project.push(numbers="1 2 3 400\n")
    return project


def start(project, *options: str) -> str:
    """Start a run by hand and return its name."""
    return project.json("run", "start", "training-pipeline", *options)["name"]


def states(project, name: str) -> dict[str, str]:
    return {step: found["state"] for step, found in project.run(name)["steps"].items()}


def until(project, name: str, state: str) -> None:
    project.fuseml.wait_for(lambda: project.run(name)["state"] == state, 30, f"{name} {state}")


def until_held(project, name: str, step: str) -> None:
    """Wait until a step is the one that waits for a person."""
    project.fuseml.wait_for(lambda: project.run(name)["steps"][step]["phase"].startswith("held"), 30, f"held {step}")


def test_r188_code_is_trained_and_its_model_served_by_two_commands(project):
    """A folder, then the address that was printed: pipelines are made on the way, and kept for what comes next."""
    trained = project("train", str(project.write(numbers="1 2 3\n")), "--name", "myapp")
    model = project.json("model", "list")[0]["short"]

    assert f"Model:  {model}" in trained.out
    assert "mean     2" in trained.out
    assert f"fuseml serve {model}" in trained.out

    served = project("serve", model)
    url = project.json("service", "get", "myapp")["url"]
    assert f"URL:      {url}" in served.out
    assert project.fuseml.post(url, [1])["predictions"] == [2.0]
    assert [(p["name"], p["inputs"]) for p in project.json("pipeline", "list")] == [
        ("serve", {"model": f"model://{project.name}/myapp"}), ("train", {"code": f"code://{project.name}/myapp"})]


def test_r188_the_two_commands_use_the_pipelines_that_are_there(project):
    """A push that trains by itself is waited for, not trained twice; what is served already is only shown."""
    project.add_pipelines()
    project("train", str(project.write(numbers="1 2 3\n")), "--name", "myapp")
    project("serve", project.json("model", "list")[0]["short"])

    assert sorted(r["name"] for r in project.json("run", "list")) == ["serving-pipeline/1", "training-pipeline/1"]
    assert len(project.json("pipeline", "list")) == 2


def test_r188_parameters_make_a_run_of_their_own(training):
    """The same code with another value is trained again; unchanged code without one takes what is known."""
    first = training("train", str(training.folder), "--name", "myapp", "--param", "smallest=100")
    again = training("train", str(training.folder), "--name", "myapp", "--no-wait")

    assert "mean     400" in first.out
    assert "unchanged" in first.out
    assert "run watch training-pipeline/3" in again.out
    wrong = training("train", str(training.folder), "--name", "myapp", "--param", "smallest=many", code=2)
    assert "smallest" in wrong.err
    assert len(training.json("run", "list")) == 3


def test_r188_what_cannot_be_trained_or_served_is_refused(training):
    """Each with a reason, and no pipeline is added."""
    assert "is a codeset" in training("serve", f"code://{training.name}/myapp", code=2).err
    assert "nothing" in training("serve", "nothing", code=3).err
    assert "takes a codeset" in training("train", str(training.folder), "--template", "mean-serving", code=2).err
    assert "training-pipeline does not serve" in training("serve", "myapp", "--name", "training-pipeline", code=4).err
    assert "goes with a MODEL" in training("serve", code=2).err
    assert [p["name"] for p in training.json("pipeline", "list")] == ["training-pipeline"]


def test_r188_without_a_template_the_extension_to_install_is_named(fuseml, tmp_path):
    """A new installation knows neither training nor serving."""
    (tmp_path / "train.py").write_text("print(1)\n")
    refused = fuseml("train", str(tmp_path), "--name", "myapp", code=3)
    assert "fuseml extension install mlflow" in refused.err
    assert fuseml.json("codeset", "list") == []


def test_r116_a_run_is_taken_step_by_step(training):
    """The line that says what is waited for appears while somebody waits; each command lets one step go."""
    name = start(training, "--step-by-step", "--no-cache")
    until_held(training, name, "collect")
    watch = training("run", "watch", name, "--timeout", "6", code=None)
    assert watch.out.count(f"collect held: go on with `fuseml run step {name}`") >= 1
    assert "have not ended" in watch.err
    assert "held: go on with" in training("run", "get", name).out

    assert "step collect" in training("run", "step", name).out
    until_held(training, name, "fit")
    assert states(training, name) == {"collect": "succeeded", "fit": "waiting"}
    assert "All steps" in training("run", "step", name, "--rest").out
    until(training, name, "succeeded")
    assert "holds no step" in training("run", "step", name, code=4).err


def test_r117_a_step_that_waits_is_swapped(training):
    """What fits is taken; what does not, or comes too late, is refused with the reason."""
    name = start(training, "--step-by-step")
    until_held(training, name, "collect")
    for step, runnable, word, code in (("fit", "numbers/collect", "cannot stand in", 2), ("fit", "nothing", "nothing", 3),
                                       ("nothing", "numbers/fit", "has no step 'nothing'", 3)):
        assert word in training("run", "swap", name, step, runnable, code=code).err
    assert "will run numbers/fit" in training("run", "swap", name, "fit", "numbers/fit").out
    training("run", "step", name, "--rest")
    until(training, name, "succeeded")

    assert training.run(name)["steps"]["fit"]["why"].startswith("swapped by hand")
    assert "only a waiting one" in training("run", "swap", name, "fit", "numbers/fit", code=4).err


def test_r115_one_step_is_executed_alone(training):
    """The others give what they gave before; a step that there is not is refused."""
    name = start(training, "--only", "fit", "--wait")
    steps = training.run(name)["steps"]
    assert (steps["collect"]["reused"], steps["fit"]["reused"]) == (True, False)
    assert "nothing" in training("run", "start", "training-pipeline", "--only", "nothing", code=2).err


def test_r118_a_failed_run_is_resumed(project):
    """After what was wrong outside is put right, the run goes on; one that succeeded has nothing to go on with."""
    project.add_pipelines(serve=False)
    project.push(numbers="1\n", fail="7", code=1)
    resumed = project("run", "resume", "training-pipeline/1", "--wait", code=1)
    assert "training-pipeline/2 resumes training-pipeline/1" in resumed.out
    (project.folder / "fail").unlink()
    project.push()
    assert "has succeeded" in project("run", "resume", "training-pipeline", code=4).err


def test_r91_a_sweep_compares_its_trials(training):
    """Every combination is a run; the best comes first, and progress is counted."""
    swept = training("run", "sweep", "training-pipeline", "--param", "smallest=0,2,100", "--metric", "mean")
    lines = swept.out.splitlines()
    rows = [line.split() for line in lines if line.startswith("training-pipeline/")]

    assert "3 runs started" in lines[0]
    assert "(3 of 3)" in swept.out
    assert [row[2] for row in rows] == ["100", "2", "0"]
    assert "Best: training-pipeline/4 (smallest=100), mean 400" in lines

    lowest = training.json("run", "sweep", "training-pipeline", "--param", "smallest=0,2", "--metric", "mean", "--lowest")
    assert [trial["parameters"]["smallest"] for trial in lowest] == [0, 2]


def test_r91_a_sweep_that_cannot_work_is_refused_or_says_what_failed(training):
    """Before anything starts where that can be known; trials that succeeded are compared all the same."""
    for arguments, word in (
        (["--param", "smallest=,"], "no values"), (["--param", "smallest"], "NAME=VALUE"),
        (["--param", "smallest=1,many"], "many"), (["--param", "nothing=1"], "nothing"),
        (["--param", "smallest=1", "--lowest"], "--metric"),
        (["--param", "smallest=1", "--param", "smallest=2"], "twice"),
    ):
        assert word in training("run", "sweep", "training-pipeline", *arguments, code=2).err
    assert len(training.json("run", "list")) == 1

    swept = training("run", "sweep", "training-pipeline", "--param", "smallest=0,1000", "--metric", "mena", code=1)
    assert "training-pipeline/3   failed" in swept.out
    assert "No trial has the metric 'mena'. There are count, mean." in swept.err


def test_what_a_live_run_needs_is_not_taken_away(training):
    """Cancelled by hand, the run ends at once; only then code, pipeline and project can go."""
    name = start(training, "--param", "seconds=60")
    training.fuseml.wait_for(lambda: states(training, name)["collect"] == "running", 30, "the step")
    for command in (["codeset", "delete", "myapp"], ["pipeline", "remove", "training-pipeline"]):
        assert name in training(*command, code=None).err
    assert name in training.fuseml("project", "delete", training.name, "--force", code=None).err

    training("run", "cancel", name)
    until(training, name, "cancelled")
    assert states(training, name)["fit"] == "skipped"
    assert "was cancelled already" in training("run", "cancel", name, code=4).err
    training("codeset", "delete", "myapp")
    assert training.json("codeset", "list") == []
    assert len(training.json("model", "list")) == 1
    training("pipeline", "remove", "training-pipeline")
    assert training.json("run", "list") == []


def test_a_project_goes_with_its_live_services(project):
    """Without --force it is refused; with it the service's process ends too."""
    project.add_pipelines()
    project.push(numbers="1 2 3\n")
    pid = project.fuseml.post(project.json("service", "get", "myapp")["url"], [1])["pid"]
    assert "--force" in project.fuseml("project", "delete", project.name, code=None).err
    project.fuseml("project", "delete", project.name, "--force")

    project.fuseml.wait_for(lambda: not os.path.exists(f"/proc/{pid}"), 20, "the end of the service")
    assert project.name not in [p["name"] for p in project.fuseml.json("project", "list")]
    assert not (project.fuseml.home / "fz/git" / project.name).exists()


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_every_list_and_get_is_data_too(training, form):
    """What programs read is a document of its own on standard output, empty lists included."""
    import yaml

    for noun in ("codeset", "pipeline", "run", "service", "artifact", "model", "dataset", "runnable"):
        assert isinstance(yaml.safe_load(training(noun, "list", "-o", form).out), list), noun
    for command in (["codeset", "get", "myapp"], ["pipeline", "get", "training-pipeline"],
                    ["run", "get", "training-pipeline"], ["model", "get", "myapp"],
                    ["pipeline", "results", "show"]):
        assert isinstance(yaml.safe_load(training(*command, "-o", form).out), dict), command
    for command in (["project", "list"], ["pipeline", "template", "list"], ["extension", "list"], ["agent", "list"]):
        assert isinstance(yaml.safe_load(training.fuseml(*command, "-o", form).out), list), command
    for command in (["project", "get", training.name], ["pipeline", "template", "get", "mean-training"],
                    ["extension", "info", "numbers"], ["server", "status"]):
        assert isinstance(yaml.safe_load(training.fuseml(*command, "-o", form).out), dict), command
