"""Run `prepare.py` of the codeset and hand over the table it wrote. Plain Python: nothing of FuseML is imported."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

code = Path(os.environ["FUSEML_INPUT_CODE"])
output = Path(os.environ["FUSEML_OUTPUT_DATASET"])
script = code / "prepare.py"
if not script.is_file():
    sys.exit("the codeset has no prepare.py in its root")
subprocess.run([sys.executable, str(script), str(output / "data.csv")], cwd=code, check=True)

with (output / "data.csv").open(newline="") as file:
    columns, *rows = list(csv.reader(file))
Path(os.environ["FUSEML_OUTPUT_DATASET_INFO"]).write_text(json.dumps({
    "type": "csv",
    "metadata": {"rows": len(rows), "columns": columns},
}))
with Path(os.environ["FUSEML_METRICS"]).open("a") as metrics:
    metrics.write(json.dumps({"key": "rows", "value": len(rows)}) + "\n")
print(f"{len(rows)} rows with the columns {', '.join(columns)}")
