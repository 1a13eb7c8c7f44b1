"""Collecting what a job made: artifacts, values and metrics."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

from fuseml_process.directories import WorkDirectory
from fuseml_process.shim.failures import StepFailed
from fuseml_sdk.errors import PluginError
from fuseml_sdk.trees import scan_tree

_VALUE_LIMIT, _METRIC_LIMIT, _INFO_LIMIT = 64 << 10, 10_000, 4 << 20
Json = dict[str, Any]


def collect(specs: list[Json], directory: WorkDirectory) -> tuple[list[Json], list[str]]:
    """Read all outputs; returns them as `WorkloadOutput` JSON, and warnings.

    Raises:
        StepFailed: A required output is missing, or one cannot be stored.
    """
    found: list[Json] = []
    warnings: list[str] = []
    for spec in specs:
        here = _value(spec, directory) if spec["kind"] == "value" else _artifacts(spec, directory, warnings)
        if not here and not spec["optional"]:
            place = "the file" if spec["kind"] == "value" else "the directory"
            raise StepFailed("MissingOutput", f"the job ended well but left nothing in its output {spec['name']!r}; it "
                             f"must write to {place} that the variable FUSEML_OUTPUT_{spec['name'].upper()} names")
        found += here
    return found, warnings


def read_metrics(path: Path) -> tuple[list[Json], list[str]]:
    """Read the JSON lines a workload wrote; returns them as `Metric` JSON, and warnings about lines skipped."""
    metrics: list[Json] = []
    skipped = 0
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return [], []
    for line in lines[:_METRIC_LIMIT]:
        try:
            entry = json.loads(line)
            value, at = float(entry["value"]), float(entry.get("timestamp") or time.time())
            metric = {"key": str(entry["key"]), "value": value, "step": int(entry.get("step") or 0), "timestamp": at}
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            skipped += bool(line.strip())
            continue
        if math.isfinite(value) and math.isfinite(at):
            metrics.append(metric)
        else:
            skipped += 1
    warnings = []
    if skipped:
        warnings.append(f"{skipped} lines of FUSEML_METRICS were skipped: not of the form "
                        '{"key": "rmse", "value": 0.5} with a finite number')
    if len(lines) > _METRIC_LIMIT:
        warnings.append(f"only the first {_METRIC_LIMIT} of {len(lines)} metrics were recorded")
    return metrics, warnings


def _value(spec: Json, directory: WorkDirectory) -> list[Json]:
    path = directory.output(spec["name"])
    if not path.is_file():
        return []
    if path.stat().st_size > _VALUE_LIMIT:
        raise StepFailed("InvalidOutput", f"the output {spec['name']!r} is a value and has more than "
                         f"{_VALUE_LIMIT} bytes")
    try:
        value = path.read_bytes().decode().strip()
    except UnicodeDecodeError:
        raise StepFailed("InvalidOutput", f"the output {spec['name']!r} is a value and not UTF-8 text") from None
    return [_output(spec, _info(spec, directory), value=value)]


def _artifacts(spec: Json, directory: WorkDirectory, warnings: list[str]) -> list[Json]:
    root = directory.output(spec["name"])
    if not root.is_dir():
        return []
    info = _info(spec, directory)
    if not spec["many"]:
        artifact = _artifact(spec, root, info)
        return [artifact] if artifact["files"] else []
    found = []
    for folder in sorted(root.iterdir()):
        if folder.is_symlink() or not folder.is_dir():
            warnings.append(f"{folder.name} in the output {spec['name']!r} was ignored: it is no directory")
            continue
        own = info.get(folder.name)
        artifact = _artifact(spec, folder, {"name": folder.name, **(own if isinstance(own, dict) else {})})
        found += [artifact] if artifact["files"] else []
    return found


def _artifact(spec: Json, folder: Path, info: Json) -> Json:
    try:
        files = scan_tree(folder)
    except PluginError as error:
        raise StepFailed("InvalidOutput", f"the output {spec['name']!r} cannot be stored: {error}") from None
    return _output(spec, info, location={"uri": folder.as_uri()}, files=[entry._asdict() for entry in files])


def _output(spec: Json, info: Json, **fields: Any) -> Json:
    labels, metadata = info.get("labels"), info.get("metadata")
    return {
        "name": spec["name"], "kind": spec["kind"], "artifact_name": info.get("name") or None,
        "type": info.get("type") or spec["type"], "metadata": metadata if isinstance(metadata, dict) else {},
        "labels": {str(k): str(v) for k, v in labels.items()} if isinstance(labels, dict) else {}, **fields,
    }


def _info(spec: Json, directory: WorkDirectory) -> Json:
    """What the workload said about an output, if anything."""
    path, what = directory.info(f"output-{spec['name']}"), f"the INFO file of the output {spec['name']!r}"
    try:
        if path.stat().st_size > _INFO_LIMIT:
            raise StepFailed("InvalidOutput", f"{what} has more than {_INFO_LIMIT} bytes")
        info = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise StepFailed("InvalidOutput", f"{what} is not JSON: {error}") from None
    if not isinstance(info, dict):
        raise StepFailed("InvalidOutput", f"{what} is no JSON object")
    return info
