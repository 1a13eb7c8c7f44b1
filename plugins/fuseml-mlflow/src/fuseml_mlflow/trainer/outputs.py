"""Handing over what a run produced: model directories, their descriptions, metrics."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import stat
from pathlib import Path
from typing import Any

from .errors import TrainingError
from .runs import LoggedModel, Measure, load_yaml
from .settings import Settings

#: Bytes an input example may have to be copied into the descriptor.
MAX_EXAMPLE = 16 * 1024
#: A name of 7 to 64 hexadecimal digits reads as a version in addresses.
_HEX = re.compile(r"^[0-9a-f]{7,64}$")


def hand_over(models: list[LoggedModel], settings: Settings) -> list[str]:
    """Copy models into the output directory and describe them.

    Returns:
        The name of the sub-directory of each.
    """
    info: dict[str, Any] = {}
    for model in models:
        directory = _unused(_clean(model.name), info)
        target = settings.output / directory
        _copy(model, target)
        _add_environment(target, settings)
        info[directory] = _describe(model, directory, settings, alone=len(models) == 1)
    if settings.output_info is not None:
        settings.output_info.write_text(json.dumps(info, indent=2, allow_nan=False) + "\n", "utf-8")
    return list(info)


def _copy(model: LoggedModel, target: Path) -> None:
    """Copy a model; links to files become files, as links into a download cache must.

    Raises:
        TrainingError: It has something that is no file, or that cannot be read.
    """
    for directory, names, files in os.walk(model.directory):
        for path in (Path(directory, name) for name in names + files):
            wrong = _unfit(path, model.directory)
            if wrong:
                raise TrainingError(f"the model {model.name!r} cannot be handed over: "
                                    f"{path.relative_to(model.directory)} {wrong}; remove it from the model")
    try:
        shutil.copytree(model.directory, target)
    except (OSError, shutil.Error) as error:
        raise TrainingError(f"the model {model.name!r} cannot be handed over: {error}") from None


def _unfit(path: Path, root: Path) -> str:
    """Why something inside a model is no part of it; empty if it is."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return "is a link to nothing"
    if stat.S_ISREG(mode):
        return ""
    if not stat.S_ISDIR(mode):
        return "is a pipe, socket or device"
    target = path.resolve()
    if path.is_symlink() and (not target.is_relative_to(root.resolve()) or path.absolute().is_relative_to(target)):
        return "is a link to a directory that contains it or lies outside"
    return ""


def write_metrics(history: list[Measure], path: Path | None) -> None:
    """Append metrics as JSON lines. A value that is not finite has no JSON form and is named in the log instead."""
    if path is None:
        return
    with path.open("a", encoding="utf-8") as out:
        for measure in history:
            if math.isfinite(measure.value):
                line = {"key": measure.key, "value": measure.value, "step": measure.step,
                        "timestamp": measure.timestamp / 1000}
                out.write(json.dumps(line) + "\n")
            else:
                print(f"fuseml: the metric {measure.key!r} is {measure.value} at step {measure.step}; not recorded",
                      flush=True)


def _describe(model: LoggedModel, directory: str, settings: Settings, *, alone: bool) -> dict[str, Any]:
    facts = load_yaml(model.directory / "MLmodel")
    flavors = facts.get("flavors") or {}
    flavor = next((name for name in flavors if name != "python_function"), "pyfunc")
    metadata = {
        "flavor": flavor,
        "flavors": sorted(flavors),
        "flavor_version": str((flavors.get(flavor) or {}).get(f"{flavor}_version") or "") or None,
        "signature": _signature(facts.get("signature")),
        "params": model.params,
        "metrics": {key: value if math.isfinite(value) else str(value) for key, value in model.metrics.items()},
        "mlflow_version": facts.get("mlflow_version"),
        "model_uuid": facts.get("model_uuid") or model.model_id or None,
        "run_id": model.run_id or facts.get("run_id"),
        "logged_name": model.name,
        "registered_model_name": model.registered,
        "input_example": _input_example(model.directory),
        "python": settings.python,
        "pretrained": True,
    }
    return {"name": _name(model, directory, settings, alone=alone), "type": f"mlflow/{flavor}",
            "metadata": {key: value for key, value in metadata.items() if value is not None}}


def _name(model: LoggedModel, directory: str, settings: Settings, *, alone: bool) -> str | None:
    """The registered name; None leaves it to the codeset's; of several, the codeset's and the logged one."""
    if model.registered:
        return _clean(model.registered)
    codeset = str(settings.codeset.get("name") or "")
    if alone:
        return None
    return _clean(f"{codeset}-{directory}" if codeset else directory)


def _clean(name: str) -> str:
    """Turn any text into a name that an artifact may have."""
    cleaned = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).replace("..", ".").strip("-._")[:63].strip("-._") or "model"
    return f"model-{cleaned}"[:63] if _HEX.match(cleaned) else cleaned


def _unused(name: str, taken: dict[str, Any]) -> str:
    number, candidate = 1, name
    while candidate in taken:
        number += 1
        candidate = f"{name}-{number}"
    return candidate


def _add_environment(target: Path, settings: Settings) -> None:
    """Let the model carry the environment it can be served in."""
    directory = target / ".fuseml"
    directory.mkdir()
    shutil.copyfile(settings.contents / "serving.lock", directory / "requirements.lock")
    (directory / "environment.json").write_text(json.dumps({"python": settings.python}) + "\n", "utf-8")


def _signature(signature: Any) -> dict[str, Any] | None:
    """MLflow keeps the parts of a signature as JSON in strings."""
    if not isinstance(signature, dict):
        return None
    parts = {}
    for key, value in signature.items():
        try:
            parts[key] = json.loads(value) if isinstance(value, str) else value
        except ValueError:
            parts[key] = value
    return parts


def _input_example(directory: Path) -> Any:
    for name in ("serving_input_example.json", "input_example.json"):
        path = directory / name
        if path.is_file() and path.stat().st_size <= MAX_EXAMPLE:
            try:
                return json.loads(path.read_text("utf-8"), parse_constant=lambda _: None)
            except ValueError:
                continue
    return None
