"""MLflow projects through the real command line: built, trained, registered, served, and what happens when they change."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytestmark = [pytest.mark.full, pytest.mark.timeout(1200)]

DIABETES = Path(__file__).resolve().parents[2] / "examples/diabetes"
#: A project that needs no package: it writes a model in MLflow's format by hand.
PLAIN = {
    "MLproject": 'name: plain\npython_env: python_env.yaml\nentry_points:\n  main:\n    parameters:\n'
                 '      bias: {type: float, default: 1.0}\n    command: "python train.py {bias}"\n',
    "python_env.yaml": 'python: "3.11"\ndependencies: []\n',
    "train.py": 'import pathlib, sys\nmodel = pathlib.Path("model")\nmodel.mkdir()\n'
                '(model / "MLmodel").write_text("flavors:\\n  python_function:\\n    loader_module: plain\\n")\n'
                '(model / "bias.txt").write_text(sys.argv[1])\n',
}


def _write(project, **changes: str) -> None:
    """Put the plain project into the folder, with other contents for some files (`_` in a name stands for `.`)."""
    files = {**PLAIN, **{name.replace("_py", ".py").replace("_yaml", ".yaml"): text for name, text in changes.items()}}
    for name, text in files.items():
        (project.folder / name).write_text(text)


def _interpreter(project) -> Path:
    """The Python of an environment that FuseML made and that has mlflow."""
    environments = (project.fuseml.home / "fz/envs").glob("*/lib/python*/site-packages/mlflow/__init__.py")
    return next(environments).parents[4] / "bin/python"


def test_r68_r79_r85_r86_r89_r92_r102_r110_a_push_is_built_trained_and_registered(mlflow):
    """Trainer and predictor are tied to the code; the runnables are registered before the training starts."""
    _write(mlflow)
    pushed = mlflow.push()

    registered = [line.split("registered ")[1] for line in pushed.out.splitlines() if "registered " in line]
    assert [re.match(r"\w+", what)[0] for what in registered] == ["code", "runnable", "runnable", "model"]
    assert pushed.out.index(registered[2]) < pushed.out.index("training-pipeline/1 train: started")
    runnables = {item["name"]: item for item in mlflow.json("runnable", "list")}
    assert runnables.pop("mlflow/mlflow")["type"] == "builder", "the extension's own, with nobody who made it"
    assert set(runnables) == {"myapp-trainer", "myapp-predictor"}
    assert {item["producer"]["step"] for item in runnables.values()} == {"build"}
    (version,) = mlflow.json("codeset", "get", "myapp")["versions"]
    assert version["type"] == "mlflow-project"
    assert version["digest"].removeprefix("git:")[:40] in json.dumps(runnables["myapp-trainer"]["metadata"])
    (model,) = mlflow.json("model", "list")
    assert model["type"].startswith("mlflow")


def test_r60_r82_the_kinds_are_concepts_and_the_builder_runs_in_the_extensions_environment(mlflow):
    """Builder, trainer and predictor are kinds of runnables; the build is a step like any other."""
    _write(mlflow)
    mlflow.push()

    kinds = {item["type"] for item in mlflow.json("runnable", "list")}
    assert kinds == {"builder", "trainer", "predictor"}
    run = mlflow.run("training-pipeline/1")
    assert run["steps"]["build"]["agent"] == "process"
    (extension,) = (e for e in mlflow.fuseml.json("extension", "list") if e["name"] == "mlflow")
    assert "builder" in extension["runnables"]
    builder = next(a for a in mlflow.fuseml.json("agent", "list") if a["family"] == "builder")
    assert (builder["extension"], builder["hosting"]) == ("mlflow", "subprocess")


def test_r80_r83_r84_r88_what_a_push_changes_decides_what_runs_again(mlflow):
    """Documentation: nothing. The script: training. The environment: everything."""
    _write(mlflow)
    mlflow.push()
    mlflow.push(readme="# About\n")
    _write(mlflow, train_py=PLAIN["train.py"] + "print('more')\n")
    mlflow.push()
    _write(mlflow, python_env_yaml='python: "3.11"\ndependencies: [packaging]\n')
    mlflow.push()

    reused = {run: {name: step["reused"] for name, step in mlflow.run(f"training-pipeline/{run}")["steps"].items()}
              for run in (2, 3, 4)}
    assert reused[2] == {"build": True, "train": True}
    assert reused[3] == {"build": True, "train": False}
    assert reused[4]["build"] is False
    steps = mlflow.run("training-pipeline/3")["steps"]
    assert "training-pipeline/" in steps["build"]["why"]
    assert "train.py" in steps["train"]["why"]


def test_r91_r101_r108_the_entry_points_parameters_are_the_pipelines(mlflow):
    """Given by hand, converted to their type, and part of what decides whether training is repeated."""
    _write(mlflow)
    mlflow.push()

    run = mlflow.json("run", "start", "training-pipeline", "--param", "bias=2.5", "--wait")
    refused = mlflow("run", "start", "training-pipeline", "--param", "bias=much", "--wait", code=None)

    assert run["state"] == "succeeded"
    models = {Path(urlsplit(m["location"]).path) for m in mlflow.json("model", "list")}
    values = {next(path.rglob("bias.txt")).read_text() for path in models}
    assert values == {"1.0", "2.5"}
    assert refused.code != 0
    assert "bias" in refused.err


def test_the_served_prediction_is_the_models_own(mlflow):
    """What comes over HTTP equals `mlflow.pyfunc.load_model(...).predict(...)` on the same rows to 1e-9."""
    mlflow("pipeline", "add", "kserve-serving", "--name", "serving-pipeline", "--input", "model=model://*")
    shutil.copytree(DIABETES, mlflow.folder, dirs_exist_ok=True)
    mlflow.push("diabetes")
    (model,) = mlflow.json("model", "list")
    url = mlflow.json("service", "get", "diabetes")["url"]
    program = (
        "import json, sys, mlflow.pyfunc\n"
        "from sklearn.datasets import load_diabetes\n"
        "rows = load_diabetes(as_frame=True, scaled=False).data.astype('float64').head(50)\n"
        "print(json.dumps([json.loads(rows.to_json(orient='records', double_precision=15)),\n"
        "                  mlflow.pyfunc.load_model(sys.argv[1]).predict(rows).tolist()]))\n"
    )
    path = urlsplit(model["location"]).path
    done = subprocess.run([_interpreter(mlflow), "-c", program, path], capture_output=True, text=True, timeout=300,
                          check=True, env=mlflow.fuseml.environment, cwd=mlflow.folder)
    rows, expected = json.loads(done.stdout.splitlines()[-1])

    answered = mlflow.fuseml.post(url, rows)["predictions"]

    assert len(answered) == 50
    assert max(abs(a - b) for a, b in zip(answered, expected, strict=True)) <= 1e-9


def test_a_codeset_that_is_no_mlflow_project(mlflow):
    """The push succeeds; it says which pipeline looked at it and why it did not run."""
    mlflow.write(numbers="1 2 3\n")
    pushed = mlflow.push()

    assert re.search(r"training-pipeline: not run: .*MLproject", pushed.out)
    assert mlflow.json("run", "list") == []
    assert mlflow.json("codeset", "get", "myapp")["versions"][0]["type"] is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"MLproject": "name: [\n"}, ["MLproject"]),
        ({"MLproject": "name: x\nentry_points:\n  other:\n    command: python train.py\n"}, ["main", "other"]),
        ({"python_env_yaml": 'python: "3.11"\ndependencies: [no-such-package-of-anybody==99.9]\n'},
         ["no-such-package-of-anybody"]),
        ({"train_py": "print('before the end')\nraise SystemExit(9)\n"}, ["exit code 9", "before the end"]),
        ({"train_py": "print('no model')\n"}, ["model"]),
    ],
    ids=["broken project file", "no such entry point", "unsatisfiable requirement", "failing script", "no model"],
)
def test_a_project_that_cannot_work_fails_with_one_clear_message(mlflow, change, words):
    """The step, the reason, the last lines; nothing is registered; the next push works."""
    _write(mlflow, **change)
    failed = mlflow.push(code=1)
    for word in words:
        assert word in failed.err
    assert "Traceback" not in failed.err
    assert mlflow.json("model", "list") == []

    _write(mlflow)
    mlflow.push()
    assert len(mlflow.json("model", "list")) == 1


def _builder(project) -> dict:
    """What `agent list` says of the builder."""
    return next(agent for agent in project.fuseml.json("agent", "list") if agent["family"] == "builder")


def test_kill_9_of_an_extensions_process(mlflow):
    """Lists and log name what happened at once; the next push that needs the process starts it again."""
    _write(mlflow)
    mlflow.push()
    before = _builder(mlflow)
    os.kill(before["pid"], signal.SIGKILL)

    dead = mlflow.fuseml.wait_for(lambda: (now := _builder(mlflow))["state"] == "failed" and now, 10, "the death")
    assert (dead["pid"], dead["last_crash"].partition(" after ")[0]) == (None, "signal SIGKILL")
    for noun in ("agent", "extension"):
        assert dead["last_crash"] in mlflow.fuseml(noun, "list").out
    log = mlflow.fuseml("server", "logs", "control").out.splitlines()
    assert any("(builder mlflow)" in line and dead["last_crash"] in line for line in log)

    _write(mlflow, train_py=PLAIN["train.py"] + "print('again')\n")
    mlflow.push()

    after = _builder(mlflow)
    assert mlflow.run("training-pipeline/2")["state"] == "succeeded"
    assert (after["state"], after["restarts"]) == ("ready", before["restarts"] + 1)
    assert after["last_crash"] == dead["last_crash"]
    assert f"process {after['pid']}, restarted" in mlflow.fuseml("extension", "list").out


def test_r179_r187_r188_two_commands_with_an_end_to_end_template(fuseml):
    """No project is created, nothing is set: push, then add; the wildcard finds the code that is there."""
    fuseml.install("mlflow", "kserve", "mlflow-end-to-end")

    fuseml("codeset", "push", "examples/diabetes", "--name", "myapp")
    fuseml("pipeline", "add", "mlflow-end-to-end", "--name", "full-pipeline", "--input", "mlflow_code=code://*", "--wait")

    table = fuseml("pipeline", "results", "show", "--current-code", "--recursive").out
    assert re.search(r"full-pipeline/1 +mlflow_code: code://default/myapp/[0-9a-f]{7} ", table)
    assert "model: model://default/" in table
    answered = fuseml("service", "predict", "myapp", "--example").out
    assert json.loads(answered.splitlines()[-1])["predictions"]
