"""Save models of every kind of signature; run in an environment with MLflow."""

import sys
import time
from pathlib import Path

import mlflow.pyfunc
import mlflow.sklearn
import numpy as np
import pandas as pd
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import ColSpec, Schema, TensorSpec
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge

root = Path(sys.argv[1])
rows, target = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
rows = rows.astype("float64")
ridge = Ridge(alpha=0.3).fit(rows, target)
options = {"pip_requirements": ["scikit-learn"]}
mlflow.sklearn.save_model(ridge, root / "linear", signature=infer_signature(rows, ridge.predict(rows)), **options)
mlflow.sklearn.save_model(Ridge(alpha=0.3).fit(rows.to_numpy(), target), root / "untyped", **options)


class Echo(mlflow.pyfunc.PythonModel):
    """Tell the type and value of every column, so that casts can be seen."""

    def predict(self, context, model_input, params=None):
        """Return the table with the names of the types."""
        if not isinstance(model_input, pd.DataFrame):
            return model_input
        told = model_input.copy()
        for name in model_input.columns:
            told[f"{name}_type"] = str(model_input[name].dtype)
        return told


class Slow(mlflow.pyfunc.PythonModel):
    """Take as many seconds as the row says."""

    def predict(self, context, model_input, params=None):
        """Sleep, then give the rows back; a negative number is a defect."""
        seconds = float(model_input["seconds"].iloc[0])
        if seconds < 0:
            raise RuntimeError("no negative sleep")
        time.sleep(seconds)
        return model_input["seconds"]


class Sum(mlflow.pyfunc.PythonModel):
    """Add up each row of a tensor; several tensors by name."""

    def predict(self, context, model_input, params=None):
        """Return sums."""
        if isinstance(model_input, dict):
            return {name: value.sum(axis=1) for name, value in model_input.items()}
        return np.asarray(model_input).sum(axis=1) * float((params or {}).get("factor", 1))


def save(name, model, inputs, **more):
    """Save one with a signature."""
    mlflow.pyfunc.save_model(root / name, python_model=model, signature=ModelSignature(inputs=Schema(inputs), **more),
                             pip_requirements=["pandas"])


save("mixed", Echo(), [ColSpec("integer", "i"), ColSpec("long", "l"), ColSpec("float", "f"), ColSpec("double", "d"),
                       ColSpec("string", "s"), ColSpec("boolean", "b"), ColSpec("datetime", "t"),
                       ColSpec("binary", "y", required=False), ColSpec("double", "o", required=False)])
save("slow", Slow(), [ColSpec("double", "seconds")])
save("tensor", Sum(), [TensorSpec(np.dtype("float32"), (-1, 2))])
save("tensors", Sum(), [TensorSpec(np.dtype("float64"), (-1, 2), "a"), TensorSpec(np.dtype("int64"), (-1, 1), "b")])
