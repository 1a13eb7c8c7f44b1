"""Sweeps: reading the grid of values, comparing the trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click


def read_grid(given: Mapping[str, str]) -> dict[str, list[str]]:
    """Turn `alpha=0.1,0.5` into values by parameter; a value that is written twice is tried once.

    Raises:
        click.UsageError: A parameter has no value.
    """
    grid = {name: list(dict.fromkeys(v.strip() for v in text.split(",") if v.strip())) for name, text in given.items()}
    for name, values in grid.items():
        if not values:
            raise click.UsageError(f"--param {name} has no values; write for instance --param {name}=0.1,0.5")
    return grid


def compare(runs: Sequence[Mapping[str, Any]], parameters: Sequence[str], metric: str | None, *,
            lowest: bool) -> list[dict[str, Any]]:
    """What people and programs compare of each trial.

    Args:
        runs: The trials, with their steps.
        parameters: Names of those that were varied.
        metric: The one that decides the order, or None for that of the runs.
        lowest: The lowest value is the best.

    Returns:
        `run`, `state`, `parameters`, `metrics` and `outputs` of each; the best first when a metric is named, trials
        without it last.
    """
    rows = [{"run": run["name"], "state": run["state"],
             "parameters": {p["name"]: p["value"] for p in run["parameters"] if p["name"] in parameters},
             "metrics": metrics_of(run), "outputs": [output["short"] for output in run["outputs"]]} for run in runs]
    if metric is None:
        return rows
    known = [row for row in rows if metric in row["metrics"]]
    rest = [row for row in rows if metric not in row["metrics"]]
    return sorted(known, key=lambda row: row["metrics"][metric], reverse=not lowest) + rest


def columns(rows: Sequence[Mapping[str, Any]], metric: str | None) -> tuple[list[str], list[list[Any]]]:
    """Headers and cells of the table of trials; the metric that decides comes first among the metrics."""
    parameters = _names(rows, "parameters")
    metrics = sorted(_names(rows, "metrics"), key=lambda name: name != metric)
    headers = ["Run", "State", *parameters, *metrics, "Outputs"]
    return headers, [[row["run"], row["state"], *(_shown(row["parameters"].get(name)) for name in parameters),
                      *(_shown(row["metrics"].get(name)) for name in metrics), row["outputs"] or "-"] for row in rows]


def metrics_of(run: Mapping[str, Any]) -> dict[str, float]:
    """Metrics of all steps of a run by name; of a series its last value."""
    return {m["key"]: m["value"] for step in run["steps"] for m in step["metrics"]}


def _names(rows: Sequence[Mapping[str, Any]], what: str) -> list[str]:
    return sorted({name for row in rows for name in row[what]})


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
