"""Fit a polynomial to a table with the columns x and y."""

from __future__ import annotations

import argparse

import mlflow
import mlflow.sklearn
import pandas as pd
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data", help="CSV file")
parser.add_argument("--degree", type=int, default=1)
options = parser.parse_args()

table = pd.read_csv(options.data).astype("float64")
rows, target = table[["x"]], table["y"]
model = make_pipeline(PolynomialFeatures(options.degree), LinearRegression()).fit(rows, target)
with mlflow.start_run():
    mlflow.log_metric("r2", model.score(rows, target))
    mlflow.sklearn.log_model(model, name="model", signature=infer_signature(rows, model.predict(rows)),
                             pip_requirements="requirements.txt")
print(f"r2 {model.score(rows, target):.4f} from {len(table)} rows")
