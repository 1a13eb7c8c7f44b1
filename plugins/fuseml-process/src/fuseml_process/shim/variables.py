"""What a workload is told: environment variables, arguments and the configuration file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fuseml_process.directories import WorkDirectory

_PLACEHOLDER = re.compile(r"\{(?:(input|output|parameter|python)\.([A-Za-z0-9_.-]+)|(runnable|python))\}")
Json = dict[str, Any]


def variable(name: str) -> str:
    """The part of an environment variable that stands for a name: upper case, `.` and `-` become `_`."""
    return re.sub(r"[^A-Z0-9]", "_", name.upper())


def text(value: object) -> str:
    """A parameter as text: `true`, `0.5`, `abc`."""
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def placeholders(arguments: list[str]) -> list[tuple[str, str]]:
    """What `arguments` refer to, as pairs such as `("input", "code")` and `("python", "")`."""
    found = [match for argument in arguments for match in _PLACEHOLDER.finditer(argument)]
    return [(match[1] or match[3], match[2] or "") for match in found]


def build_arguments(workload: Json, values: Mapping[tuple[str, str], str]) -> list[str]:
    """Replace placeholders in the command and append what is delivered as an argument.

    Args:
        workload: The `Workload` as JSON.
        values: What each placeholder stands for; what is missing, such as an optional input, becomes empty.
    """
    runnable = workload["runnable"]
    used = set(placeholders(runnable["command"]))

    def replace(match: re.Match[str]) -> str:
        return values.get((match[1] or match[3], match[2] or ""), "")

    arguments = [_PLACEHOLDER.sub(replace, argument) for argument in runnable["command"]]
    for family in ("input", "parameter"):
        for spec in runnable[f"{family}s"]:
            key = (family, spec["name"])
            if spec["deliver"] == "argument" and key not in used and key in values:
                arguments += [spec["argument"], values[key]] if spec["argument"] else [values[key]]
    return arguments


def build_values(workload: Json, directory: WorkDirectory, inputs: Mapping[str, Path], runnable: Path,
                 pythons: Mapping[str, Path]) -> dict[tuple[str, str], str]:
    """What each placeholder stands for; `pythons` are interpreters by the name of their environment, or `""`."""
    values = {("runnable", ""): str(runnable)} | {("python", name): str(path) for name, path in pythons.items()}
    values |= {("input", name): str(path) for name, path in inputs.items()}
    outputs = [spec["name"] for spec in workload["runnable"]["outputs"]]
    values |= {("output", name): str(directory.output(name)) for name in outputs}
    return values | {("parameter", name): text(value) for name, value in workload["parameters"].items()}


def build_variables(workload: Json, directory: WorkDirectory, values: Mapping[tuple[str, str], str],
                    base: Mapping[str, str]) -> dict[str, str]:
    """The environment of the workload: `base`, what FuseML tells, what the descriptor and the caller set."""
    labels = workload.get("labels") or {}
    result = {**base, "HOME": str(directory.path / "scratch"), "TMPDIR": str(directory.path / "tmp"),
              "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1", "FUSEML_WORKLOAD": workload["name"],
              "FUSEML_PROJECT": labels.get("project", ""), "FUSEML_RUNNABLE": values["runnable", ""],
              "FUSEML_METRICS": str(directory.metrics), "FUSEML_CONFIG": str(directory.path / "config.json")}
    cores = (workload.get("resources") or {}).get("cpu") or workload["runnable"]["resources"].get("cpu")
    if cores:
        result["OMP_NUM_THREADS"] = str(max(1, int(cores)))
    for (family, name), value in values.items():
        if family in ("input", "output"):
            key = f"FUSEML_{family.upper()}_{variable(name)}"
            result |= {key: value, f"{key}_INFO": str(directory.info(f"{family}-{name}"))}
    how = {spec["name"]: spec["deliver"] for spec in workload["runnable"]["parameters"]}
    for name, value in workload["parameters"].items():
        if how.get(name, "env") == "env":
            result[f"FUSEML_PARAMETER_{variable(name)}"] = text(value)
    result.update(workload["runnable"]["env"])
    result.update(workload["env"])
    return result


def write_config(workload: Json, directory: WorkDirectory, inputs: Mapping[str, Path]) -> None:
    """Write the JSON file with everything whose delivery is `config`: parameters as they are, inputs as paths."""
    runnable = workload["runnable"]
    by_config = {family: {spec["name"] for spec in runnable[family] if spec["deliver"] == "config"}
                 for family in ("inputs", "parameters")}
    config: Json = {name: str(path) for name, path in inputs.items() if name in by_config["inputs"]}
    config |= {name: value for name, value in workload["parameters"].items() if name in by_config["parameters"]}
    (directory.path / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True))
