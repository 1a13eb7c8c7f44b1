"""Write a table of measurements, cleaned: rows without a value are left out."""

import csv
import sys
from pathlib import Path

with (Path(__file__).parent / "measurements.csv").open(newline="") as file:
    rows = [row for row in csv.DictReader(file) if row["x"] and row["y"]]
with Path(sys.argv[1]).open("w", newline="") as out:
    writer = csv.DictWriter(out, ["x", "y"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
