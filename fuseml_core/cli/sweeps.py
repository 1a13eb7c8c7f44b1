"""Sweeps: reading the grid of values, comparing the trials."""

from __future__ import annotations

from typing import Any

import click


def read_grid(pairs: tuple[str, ...]) -> dict[str, list[str]]:
    """Turn `alpha=0.1,0.5` into values by parameter.

    Raises:
        click.BadParameter: A pair is not of this form.
    """
    return {name: [v.strip() for v in value.split(",") if v.strip()] for name, value in map(_pair, pairs)}


def read_inputs(pairs: tuple[str, ...]) -> dict[str, str]:
    """Turn `data=dataset://…` into addresses by input."""
    return dict(map(_pair, pairs))


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals or not value:
        raise click.BadParameter(f"{text!r} is not of the form NAME=VALUE")
    return name, value


def compare(runs: list[dict[str, Any]], parameters: list[str], metric: str | None, *,
            lowest: bool) -> list[dict[str, Any]]:
    """One row for each trial: run, state, parameters, metrics; the best first when a metric is named."""
    metrics = [_metrics(run) for run in runs]
    names = sorted({name for found in metrics for name in found})
    rows = [_row(run, parameters, found, names) for run, found in zip(runs, metrics, strict=True)]
    if metric:
        known = [row for row in rows if row.get(metric) is not None]
        rest = [row for row in rows if row.get(metric) is None]
        rows = sorted(known, key=lambda row: row[metric], reverse=not lowest) + rest
    return rows


def _metrics(run: dict[str, Any]) -> dict[str, float]:
    return {m["key"]: m["value"] for step in run["steps"] for m in step["metrics"]}


def _row(run: dict[str, Any], parameters: list[str], metrics: dict[str, float], names: list[str]) -> dict[str, Any]:
    values = {p["name"]: p["value"] for p in run["parameters"]}
    return {"run": run["name"], "state": run["state"], **{name: values.get(name) for name in parameters},
            **{name: metrics.get(name) for name in names}}
