"""Reads numbers from text files: parameters come as a variable, an argument and a configuration file."""

import argparse
import json
import os
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--output", type=Path, required=True)
parser.add_argument("--factor", type=float, required=True)
options = parser.parse_args()
configuration = json.loads(Path(os.environ["FUSEML_CONFIG"]).read_text())
smallest = int(os.environ["FUSEML_PARAMETER_SMALLEST"])
code = Path(os.environ["FUSEML_INPUT_CODE"])

if witness := os.environ.get("FUSEML_PARAMETER_WITNESS"):
    with Path(witness).open("a") as file:
        file.write(f"{os.environ['FUSEML_WORKLOAD']} {os.getpid()}\n")

end = time.monotonic() + float(os.environ["FUSEML_PARAMETER_SECONDS"])
while time.monotonic() < end:
    print(f"{end - time.monotonic():.1f} seconds left", flush=True)
    time.sleep(0.2)

if (code / "fail").exists():
    print("about to fail", flush=True)
    sys.exit(int((code / "fail").read_text()))

numbers = [
    float(line) * options.factor
    for path in sorted(code.rglob("*.txt"))
    for line in path.read_text().split()
    if float(line) >= smallest
]
(options.output / "numbers.json").write_text(json.dumps({"numbers": numbers, "note": configuration["note"]}))
with Path(os.environ["FUSEML_METRICS"]).open("a") as metrics:
    metrics.write(json.dumps({"key": "count", "value": len(numbers)}) + "\n")
print(f"read {len(numbers)} numbers")
