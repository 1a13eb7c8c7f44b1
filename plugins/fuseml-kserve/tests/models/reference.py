"""Predict rows from standard input by MLflow itself."""

import json
import sys

import mlflow.pyfunc
import pandas as pd

body = json.load(sys.stdin)
model = mlflow.pyfunc.load_model(sys.argv[1])
result = model.predict(pd.DataFrame(body["data"], columns=body["columns"]))
print(json.dumps(result.tolist()))
