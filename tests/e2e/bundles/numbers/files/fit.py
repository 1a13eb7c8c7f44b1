"""Averages numbers; the flavour of the model is told through the output's information file."""

import json
import os
from pathlib import Path

numbers = json.loads((Path(os.environ["FUSEML_INPUT_NUMBERS"]) / "numbers.json").read_text())["numbers"]
mean = sum(numbers) / len(numbers)
(Path(os.environ["FUSEML_OUTPUT_MODEL"]) / "model.json").write_text(json.dumps({"mean": mean}))
Path(os.environ["FUSEML_OUTPUT_MODEL_INFO"]).write_text(json.dumps({"metadata": {"flavor": "mean"}}))
with Path(os.environ["FUSEML_METRICS"]).open("a") as metrics:
    metrics.write(json.dumps({"key": "mean", "value": mean}) + "\n")
