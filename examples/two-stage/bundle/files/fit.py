"""Fit a straight line to a table and hand it over as a model. Plain Python: nothing of FuseML is imported."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from statistics import linear_regression

data = Path(os.environ["FUSEML_INPUT_DATASET"]) / "data.csv"
output = Path(os.environ["FUSEML_OUTPUT_MODEL"])
with data.open(newline="") as file:
    rows = [(float(row["x"]), float(row["y"])) for row in csv.DictReader(file)]
slope, intercept = linear_regression([x for x, _ in rows], [y for _, y in rows])
error = sum((y - slope * x - intercept) ** 2 for x, y in rows) / len(rows)

(output / "line.json").write_text(json.dumps({"slope": slope, "intercept": intercept}))
Path(os.environ["FUSEML_OUTPUT_MODEL_INFO"]).write_text(json.dumps({
    "type": "line",
    "metadata": {"flavor": "line", "metrics": {"mean_squared_error": error}},
}))
with Path(os.environ["FUSEML_METRICS"]).open("a") as metrics:
    metrics.write(json.dumps({"key": "mean_squared_error", "value": error}) + "\n")
print(f"y = {slope:.4f} x + {intercept:.4f} from {len(rows)} rows")
