"""Real projects, built and trained with real MLflow versions, in environments that uv makes."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

EXAMPLES = Path(__file__).parents[3] / "examples"
MLFLOW_3 = ["mlflow-skinny==3.17.2", "scikit-learn==1.9.1", "skops==0.16.0", "pandas==2.3.3"]
FIT = """
import sys, numpy as np, mlflow, mlflow.sklearn
from sklearn.linear_model import LinearRegression
x = np.arange(10.0).reshape(-1, 1); y = 3 * x[:, 0] + 1
model = LinearRegression().fit(x, y)
"""


def test_r79_r85_r110_the_builder_makes_a_trainer_and_a_predictor(diabetes):
    built, result, _ = diabetes
    trainer, predictor = (item.descriptor for item in result.runnables)
    assert (trainer.kind, predictor.kind) == ("trainer", "predictor")
    assert (trainer.name, predictor.name) == ("app-trainer", "app-predictor")
    assert trainer.environment.python == "3.11"
    assert (built / "predictor" / "files" / "server.py").is_file()
    assert predictor.service is not None


def test_r87_r101_parameters_are_those_of_the_entry_point(diabetes):
    parameters = {p.name: (p.type, p.default) for p in diabetes[1].runnables[0].descriptor.parameters}
    assert parameters == {"alpha": ("float", 0.5), "l1_ratio": ("float", 0.1), "test_size": ("float", 0.25),
                          "seed": ("integer", 7)}


def test_r83_the_same_project_gives_the_same_files_and_descriptors(workshop, diabetes):
    again, result = workshop.build(EXAMPLES / "diabetes")
    built = diabetes[0]
    assert result == diabetes[1]
    assert contents(again) == contents(built)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts}


def test_r84_r103_the_lock_is_hashed_names_no_index_and_serves_what_it_trains(diabetes):
    lock = (diabetes[0] / "trainer" / "requirements.lock").read_text()
    assert "://" not in lock
    assert lock.count("--hash=sha256:") > 20
    assert (diabetes[0] / "predictor" / "requirements.lock").read_text() == lock


def test_r92_r98_r102_r104_a_model_is_detected_without_importing_mlflow(diabetes):
    trained = diabetes[2]
    assert trained.code == 0, trained.log
    assert not list((diabetes[0] / "trainer").rglob("__pycache__"))
    item = trained.info["model"]
    assert (item["name"], item["type"]) == (None, "mlflow/sklearn")
    facts = item["metadata"]
    assert facts["params"] == {"alpha": "0.25", "l1_ratio": "0.1", "seed": "7", "test_size": "0.25"}
    assert facts["mlflow_version"] == "3.17.2"
    assert [column["name"] for column in facts["signature"]["inputs"]][:3] == ["age", "sex", "bmi"]
    assert {"MLmodel", ".fuseml"} <= {path.name for path in trained.model.iterdir()}
    assert json.loads((trained.model / ".fuseml" / "environment.json").read_text()) == {"python": "3.11"}
    assert (trained.model / ".fuseml" / "requirements.lock").read_text() == \
        (diabetes[0] / "predictor" / "requirements.lock").read_text()


def test_r93_metrics_are_recorded(diabetes):
    trained = diabetes[2]
    assert {line["key"] for line in trained.metrics} == {"r2", "rmse", "mae"}
    values = {line["key"]: line["value"] for line in trained.metrics}
    assert trained.info["model"]["metadata"]["metrics"] == values


def test_r99_the_run_has_the_tags_that_mlflow_run_gives(diabetes):
    [run] = [path.parent for path in diabetes[2].folder.glob("scratch/mlruns/*/*/meta.yaml") if path.parts[-3] != "models"
             and (path.parent / "tags").is_dir()]
    tags = {path.name: path.read_text() for path in (run / "tags").iterdir()}
    assert tags["mlflow.source.type"] == "PROJECT"
    assert tags["mlflow.project.entryPoint"] == "main"
    assert tags["mlflow.source.git.commit"] == "0123456789" * 4
    assert tags["mlflow.source.name"].startswith("code://p/app@git:")
    assert yaml.safe_load((run / "meta.yaml").read_text())["status"] == 3


def test_a_script_that_fails_passes_its_exit_code_on(workshop):
    code = workshop.project(["pyyaml"], "print('last words'); raise SystemExit(5)\n")
    built, _ = workshop.build(code)
    trained = workshop.train(code, built)
    assert trained.code == 5
    assert "last words" in trained.log
    assert "the entry point 'main' failed with exit code 5" in trained.log
    assert trained.info == {}


def test_a_script_that_logs_no_model_is_told_so(workshop):
    code = workshop.project(["pyyaml"], "print('done')\n")
    built, _ = workshop.build(code)
    trained = workshop.train(code, built)
    assert trained.code == 3
    assert "finished but logged no model; log one with mlflow.<flavor>.log_model(...)" in trained.log


def test_requirements_that_exclude_each_other_are_explained(workshop):
    from fuseml_sdk.errors import InvalidInput

    code = workshop.project(["numpy==1.26.4", "numpy==2.0.0"], "")
    with pytest.raises(InvalidInput, match="requirements cannot be satisfied"):
        workshop.build(code)


def train(workshop, requirements, script, **options):
    code = workshop.project(requirements, FIT + script, **options)
    built, _ = workshop.build(code)
    return workshop.train(code, built)


@pytest.mark.full
@pytest.mark.parametrize("requirements", [
    ["mlflow==2.9.2", "scikit-learn<1.4", "setuptools<70"],
    ["mlflow==2.13.2", "scikit-learn<1.5", "setuptools<70"],
    ["mlflow==2.22.0", "scikit-learn"],
    ["mlflow==3.1.4", "scikit-learn"],
    ["mlflow==3.17.2", "scikit-learn"],
    MLFLOW_3,
], ids=lambda value: value[0])
@pytest.mark.parametrize("with_run", [True, False], ids=["start_run", "no start_run"])
def test_r98_r102_r104_projects_of_all_versions_work(workshop, requirements, with_run):
    three = "==3" in requirements[0]
    call = f"mlflow.sklearn.log_model(model, {'name=' if three else ''}'model'); mlflow.log_metric('m', 2.5, step=4)\n"
    trained = train(workshop, requirements, f"with mlflow.start_run():\n    {call}" if with_run else call)
    assert trained.code == 0, trained.log
    facts = trained.info["model"]["metadata"]
    assert facts["mlflow_version"] == requirements[0].partition("==")[2]
    assert trained.info["model"]["type"] == "mlflow/sklearn"
    assert [(line["key"], line["value"], line["step"]) for line in trained.metrics] == [("m", 2.5, 4)]
    runs = [yaml.safe_load(p.read_text()) for p in trained.folder.glob("scratch/mlruns/*/*/meta.yaml")]
    assert [run["status"] for run in runs if "run_id" in run] == [3]
    assert facts["run_id"] in {run.get("run_id") for run in runs}


@pytest.mark.full
def test_r92_several_models_and_registered_names(workshop):
    trained = train(workshop, MLFLOW_3, "with mlflow.start_run():\n"
                    "    mlflow.sklearn.log_model(model, name='first', registered_model_name='Best Line')\n"
                    "    mlflow.sklearn.log_model(model, name='second')\n")
    assert trained.code == 0, trained.log
    assert {name: item["name"] for name, item in trained.info.items()} == {"first": "best-line", "second": "app-second"}
    assert trained.info["first"]["metadata"]["registered_model_name"] == "Best Line"


@pytest.mark.full
def test_r92_registered_names_of_mlflow_2(workshop):
    trained = train(workshop, ["mlflow==2.9.2", "scikit-learn<1.4", "setuptools<70"], "with mlflow.start_run():\n"
                    "    mlflow.sklearn.log_model(model, 'model', registered_model_name='Best Line')\n")
    assert trained.info["model"]["name"] == "best-line"


@pytest.mark.full
def test_the_refusal_of_skops_is_shown_with_the_remedy(workshop):
    trained = train(workshop, MLFLOW_3, """
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
def double(values): return values * 2
mlflow.sklearn.log_model(make_pipeline(FunctionTransformer(double), model).fit(x, y), name="model")
""")
    assert trained.code == 1
    assert "skops_trusted_types=['__main__.double']" in trained.log
    assert 'serialization_format="cloudpickle"' in trained.log


@pytest.mark.full
def test_r105_a_model_saved_without_a_run_is_found(workshop):
    trained = train(workshop, MLFLOW_3, "mlflow.sklearn.save_model(model, 'out/mine')\n")
    assert trained.code == 0, trained.log
    assert trained.info["mine"]["type"] == "mlflow/sklearn"


@pytest.mark.full
def test_r90_r95_r100_a_dataset_is_given_to_a_path_parameter(workshop, tmp_path):
    (tmp_path / "data.csv").write_text("x,y\n0,1\n1,3\n2,5\n3,7\n")
    second = EXAMPLES / "two-stage" / "second"
    built, _ = workshop.build(second)
    trained = workshop.train(second, built, variables={"FUSEML_INPUT_DATA": str(tmp_path)})
    assert trained.code == 0, trained.log
    assert trained.info["model"]["metadata"]["params"] == {"data": str(tmp_path / "data.csv"), "degree": "1"}


@pytest.fixture
def mlflow_server(workshop, tmp_path):
    """A real tracking server that proxies artifacts."""
    lock = tmp_path / "lock"
    from fuseml_sdk.environments import compile_lock, find_python

    lock.write_text(compile_lock(["mlflow==3.17.2"], find_python("3.11")[0]))
    python = workshop.environment(lock)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {"PATH": f"{python.parent}:/usr/bin:/bin", "HOME": str(tmp_path), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    process = subprocess.Popen(
        [str(python), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
         "--backend-store-uri", f"sqlite:///{tmp_path}/m.db", "--artifacts-destination", str(tmp_path / "artifacts")],
        env=env, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{url}/health", timeout=2).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.25)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


@pytest.mark.full
def test_r99_a_tracking_server_can_be_used_instead(workshop, mlflow_server):
    code = workshop.project(MLFLOW_3, FIT + "with mlflow.start_run():\n    mlflow.log_metric('m', 1.5)\n"
                            "    mlflow.sklearn.log_model(model, name='model', registered_model_name='Remote Line')\n",
                            parameters="{alpha: {type: float, default: 0.5}}", command="python train.py {alpha}")
    built, _ = workshop.build(code)
    trained = workshop.train(code, built, variables={"FUSEML_MLFLOW_TRACKING_URI": mlflow_server})
    assert trained.code == 0, trained.log
    item = trained.info["model"]
    assert (item["name"], item["type"]) == ("remote-line", "mlflow/sklearn")
    assert (trained.model / "MLmodel").is_file()
    assert [(line["key"], line["value"]) for line in trained.metrics] == [("m", 1.5)]
    assert item["metadata"]["params"] == {"alpha": "0.5"}
    with urllib.request.urlopen(f"{mlflow_server}/api/2.0/mlflow/runs/get?run_id={item['metadata']['run_id']}",
                                timeout=10) as answer:
        run = json.load(answer)["run"]
    assert run["info"]["status"] == "FINISHED"
    assert {t["key"]: t["value"] for t in run["data"]["tags"]}["mlflow.source.type"] == "PROJECT"


@pytest.mark.full
def test_a_tracking_server_that_is_not_there_is_named_by_its_setting(workshop):
    code = workshop.project(["pyyaml"], "")
    built, _ = workshop.build(code)
    trained = workshop.train(code, built, variables={"FUSEML_MLFLOW_TRACKING_URI": "http://127.0.0.1:9"})
    assert trained.code == 2
    assert re.search(r"the MLflow server \(setting tracking_uri\) does not answer", trained.log)
