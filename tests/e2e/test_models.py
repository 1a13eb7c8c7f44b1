"""What FuseML knows of models and metrics after a real MLflow training, and how several models of one run are served."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytestmark = [pytest.mark.full, pytest.mark.timeout(1200)]

DIABETES = Path(__file__).resolve().parents[2] / "examples/diabetes"
#: Trains three models in one run: two of them only logged, the third registered under a name of its own.
THREE = """
import sys
import mlflow, mlflow.sklearn
from mlflow.models import infer_signature
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression

rows, target = load_iris(return_X_y=True, as_frame=True)
with mlflow.start_run():
    mlflow.log_metric("rows", len(rows))
    for name, model, registered in (
        ("length", LinearRegression().fit(rows, target), None),
        ("Petal width", LinearRegression(fit_intercept=False).fit(rows, target), None),
        ("kind", LogisticRegression(max_iter=int(sys.argv[1])).fit(rows, target), "Flower Kind"),
    ):
        mlflow.sklearn.log_model(model, name=name, signature=infer_signature(rows, target), input_example=rows.head(2),
                                 registered_model_name=registered, pip_requirements="requirements.txt")
"""
PROJECT = """
name: three
python_env: python_env.yaml
entry_points:
  main:
    parameters:
      iterations: {type: int, default: 500}
    command: "python three.py {iterations}"
"""


def _metrics(run) -> dict[str, float]:
    return {m["key"]: m["value"] for m in run["steps"]["train"]["metrics"]}


def test_r58_r92_r93_r101_r102_metrics_of_the_run_and_metadata_of_the_model(mlflow):
    """The metrics in `run get`; flavour, signature, parameters and metrics in `model get`."""
    shutil.copytree(DIABETES, mlflow.folder, dirs_exist_ok=True)
    mlflow.push("diabetes")

    run = mlflow.run("training-pipeline/1")
    assert set(_metrics(run)) == {"r2", "rmse", "mae"}
    assert 0 < _metrics(run)["r2"] < 1
    shown = mlflow("run", "get", "training-pipeline/1").out
    assert "rmse" in shown
    (model,) = mlflow.json("model", "list")
    found = mlflow.json("model", "get", model["address"])
    assert (found["type"], found["name"]) == ("mlflow/sklearn", "diabetes")
    metadata = found["metadata"]
    assert (metadata["flavor"], metadata["flavors"]) == ("sklearn", ["python_function", "sklearn"])
    assert metadata["flavor_version"].startswith("1.")
    assert metadata["params"] == {"alpha": "0.5", "l1_ratio": "0.1", "test_size": "0.25", "seed": "7"}
    assert metadata["metrics"] == pytest.approx(_metrics(run))
    assert {column["name"] for column in metadata["signature"]["inputs"]} >= {"age", "bmi"}
    assert metadata["mlflow_version"].startswith("3.")
    assert found["producer"] == {"run": "training-pipeline/1", "step": "train"}
    again = mlflow.json("model", "get", model["short"])
    assert again["address"] == model["address"]


def test_r92_r105_each_model_of_a_run_is_registered_and_served(mlflow):
    """Three models: three names, three services from one wildcard, each answering for itself; a retrained one too."""
    mlflow("pipeline", "add", "kserve-serving", "--name", "serving-pipeline", "--input", "model=model://*")
    for name in ("python_env.yaml", "requirements.txt"):
        shutil.copy(DIABETES / name, mlflow.folder)
    mlflow.write(**{"MLproject": PROJECT, "three.py": THREE})
    mlflow.push("iris")

    models = {m["name"]: m for m in mlflow.json("model", "list")}
    assert set(models) == {"iris-length", "iris-petal-width", "flower-kind"}
    assert models["flower-kind"]["metadata"]["registered_model_name"] == "Flower Kind"
    assert {m["metadata"]["logged_name"] for m in models.values()} == {"length", "Petal width", "kind"}
    outputs = mlflow.json("run", "get", "training-pipeline/1")["outputs"]
    assert {o["value"] for o in outputs if o["name"] == "model"} == {m["address"] for m in models.values()}
    services = {s["name"]: s for s in mlflow.json("service", "list")}
    assert set(services) == set(models)
    assert {s["state"] for s in services.values()} == {"ready"}
    answers = {}
    for name, service in services.items():
        example = [{"sepal length (cm)": 6.3, "sepal width (cm)": 3.3, "petal length (cm)": 6.0, "petal width (cm)": 2.5}]
        (answers[name],) = mlflow.fuseml.post(service["url"], example)["predictions"]
    assert answers["flower-kind"] == 2
    assert len({round(value, 6) for value in answers.values()}) == 3

    run = mlflow.json("run", "start", "training-pipeline", "--param", "iterations=1000", "--wait")
    assert run["state"] == "succeeded"
    newer = {o["value"] for o in run["outputs"] if o["name"] == "model"}
    assert newer.isdisjoint({m["address"] for m in models.values()})
    replaced = mlflow.json("service", "list")
    assert {s["model"] for s in replaced} == newer
    assert {s["state"] for s in replaced} == {"ready"}
