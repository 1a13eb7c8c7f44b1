"""What the trainer was told: by its own contents and by the environment."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import TrainingError


@dataclass(frozen=True)
class Parameter:
    """One declared parameter; `default` is text, as the command takes it."""

    name: str
    type: str
    default: str | None


@dataclass(frozen=True)
class EntryPoint:
    """The entry point to run, as the builder found it in the MLproject file."""

    name: str
    command: str
    parameters: list[Parameter]


@dataclass(frozen=True)
class Settings:
    """Everything about one training run.

    Attributes:
        contents: Directory of the trainer's contents.
        code: Directory of the checkout; the entry point starts there.
        scratch: Directory for temporary files.
        output: Directory to put models in.
        output_info: File to describe them in, or None.
        metrics: File to append metrics to, or None.
        codeset: Facts about the code: project, name, digest.
        project: FuseML project.
        workload: Name of this job, if known.
        data: Path of the dataset that was given, or None.
        values: Parameters that were given, by name.
        tracking_uri: Server to log to; empty means a private file store.
    """

    contents: Path
    code: Path
    scratch: Path
    output: Path
    output_info: Path | None
    metrics: Path | None
    entry_point: EntryPoint
    codeset: dict[str, Any]
    project: str
    workload: str
    data: Path | None
    tracking_uri: str
    values: dict[str, str] = field(default_factory=dict)

    @property
    def python(self) -> str:
        """Minor version of the Python that trains, such as `3.11`."""
        return ".".join(platform.python_version_tuple()[:2])


def load(contents: Path, env: dict[str, str]) -> Settings:
    """Read the settings.

    Args:
        contents: Directory with `project.json`.
        env: Environment variables as a runnable sees them.

    Raises:
        TrainingError: A variable that every runnable has is missing.
    """
    entry = _entry_point(json.loads((contents / "project.json").read_text("utf-8")))
    info = env.get("FUSEML_OUTPUT_MODEL_INFO")
    metrics = env.get("FUSEML_METRICS")
    data = env.get("FUSEML_INPUT_DATA")
    return Settings(
        contents=contents,
        code=Path(_required(env, "FUSEML_INPUT_CODE")),
        scratch=Path(env.get("HOME") or env.get("TMPDIR") or "/tmp"),  # noqa: S108 - last resort
        output=Path(_required(env, "FUSEML_OUTPUT_MODEL")),
        output_info=Path(info) if info else None,
        metrics=Path(metrics) if metrics else None,
        entry_point=entry,
        codeset=_json_file(env.get("FUSEML_INPUT_CODE_INFO")),
        project=env.get("FUSEML_PROJECT", ""),
        workload=env.get("FUSEML_WORKLOAD", ""),
        data=Path(data) if data else None,
        tracking_uri=env.get("FUSEML_MLFLOW_TRACKING_URI", ""),
        values=_values(entry, env),
    )


def _required(env: dict[str, str], name: str) -> str:
    value = env.get(name)
    if not value:
        msg = "the environment variable {} is not set; the trainer is started by a workload agent".format(name)
        raise TrainingError(msg)
    return value


def _entry_point(data: dict[str, Any]) -> EntryPoint:
    parameters = [Parameter(item["name"], item["type"], item["default"]) for item in data["parameters"]]
    return EntryPoint(data["entry_point"], data["command"], parameters)


def _json_file(path: str | None) -> dict[str, Any]:
    if not path or not os.path.exists(path):
        return {}
    data = json.loads(Path(path).read_text("utf-8"))
    return data if isinstance(data, dict) else {}


def _values(entry: EntryPoint, env: dict[str, str]) -> dict[str, str]:
    """Given values: the config file has them under their own names; variables are upper-cased."""
    values = {name: _text(value) for name, value in _json_file(env.get("FUSEML_CONFIG")).items() if value is not None}
    prefix = "FUSEML_PARAMETER_"
    declared = {variable(p.name): p.name for p in entry.parameters}
    known = {variable(name) for name in values}
    for name, value in env.items():
        key = name[len(prefix):]
        if name.startswith(prefix) and key not in known:
            values[declared.get(key, key.lower())] = value
    return values


def variable(name: str) -> str:
    """A parameter's name as environment variables have it."""
    return name.upper().replace(".", "_").replace("-", "_")


def _text(value: Any) -> str:
    """A JSON value as a command line has it; whole floats stay floats, as in MLproject files."""
    return value if isinstance(value, str) else str(value)
