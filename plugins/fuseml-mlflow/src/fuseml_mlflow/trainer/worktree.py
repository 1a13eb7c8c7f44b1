"""Models that the entry point left in the checkout, without telling MLflow or telling another store."""

from __future__ import annotations

import os
from pathlib import Path

from .filestore import read_history
from .runs import LoggedModel, load_yaml

SKIPPED = {".git", ".venv", "node_modules", "__pycache__"}


def marks(root: Path) -> dict[Path, tuple[int, int]]:
    """Time and size of every MLmodel file under a directory, to tell later which are new."""
    found = {}
    for directory, names, files in os.walk(root):
        names[:] = sorted(name for name in names if name not in SKIPPED)
        if "MLmodel" in files:
            path = Path(directory) / "MLmodel"
            state = path.stat()
            found[path] = (state.st_mtime_ns, state.st_size)
            names[:] = []  # what lies inside a model is part of it
    return found


def new_models(root: Path, before: dict[Path, tuple[int, int]]) -> list[LoggedModel]:
    """Models whose MLmodel file is new or changed since `before`."""
    models = []
    for path, mark in sorted(marks(root).items()):
        if before.get(path) != mark:
            models.append(_model(path))
    return models


def _model(path: Path) -> LoggedModel:
    directory, facts = path.parent, load_yaml(path)
    name, metrics = directory.name, {}
    if name == "artifacts":  # layout of a store: …/models/m-<id>/artifacts
        meta = load_yaml(directory.parent / "meta.yaml")
        name = str(meta.get("name") or "model")
        metrics = {m.key: m.value for m in read_history(directory.parent / "metrics")}
    return LoggedModel(name=name, directory=directory, model_id=str(facts.get("model_uuid") or ""),
                       run_id=str(facts.get("run_id") or ""), created=int(path.stat().st_mtime * 1000),
                       metrics=metrics)
