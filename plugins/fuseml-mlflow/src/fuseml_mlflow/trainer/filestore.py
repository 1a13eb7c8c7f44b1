"""A private file store in MLflow's layout, written and read as plain files (mlflow/store/tracking/file_store.py)."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from .runs import FAILED, FINISHED, LoggedModel, Measure, last_values, load_yaml

#: mlflow.entities.LoggedModelStatus
READY = 2
DEFAULT_EXPERIMENT = "0"


class FileStore:
    """One experiment with one run, in a directory that only this attempt uses; implements `runs.Tracking`."""

    def __init__(self, root: Path, experiment: str) -> None:
        self.root = root
        self.uri = root.absolute().as_uri()
        # Deterministic, so that a script that prints it prints the same in every run.
        self.experiment_id = str(int(hashlib.sha256(experiment.encode()).hexdigest()[:14], 16))
        self.run_id = uuid.uuid4().hex
        self._experiment = experiment

    @property
    def _run(self) -> Path:
        return self.root / self.experiment_id / self.run_id

    def env(self) -> dict[str, str]:
        """Variables that lead the entry point to the run."""
        return {"MLFLOW_TRACKING_URI": self.uri, "MLFLOW_ALLOW_FILE_STORE": "true",
                "MLFLOW_EXPERIMENT_ID": self.experiment_id, "MLFLOW_RUN_ID": self.run_id}

    def start(self, tags: dict[str, str], params: dict[str, str]) -> None:
        """Write the experiments and the run."""
        self._write_experiment(DEFAULT_EXPERIMENT, "Default")
        self._write_experiment(self.experiment_id, self._experiment)
        for name in ("tags", "params", "metrics", "artifacts"):
            (self._run / name).mkdir(parents=True, exist_ok=True)
        _write_yaml(self._run / "meta.yaml", {
            "artifact_uri": f"{self.uri}/{self.experiment_id}/{self.run_id}/artifacts", "end_time": None,
            "entry_point_name": "", "experiment_id": self.experiment_id, "lifecycle_stage": "active",
            "run_id": self.run_id, "run_uuid": self.run_id, "run_name": tags.get("mlflow.runName", ""),
            "source_name": "", "source_type": 4, "source_version": "", "start_time": _now(), "status": 1,
            "tags": [], "user_id": tags.get("mlflow.user", "")})
        for kind, values in (("tags", tags), ("params", params)):
            for name, value in values.items():
                path = self._run / kind / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(value, "utf-8")

    def _write_experiment(self, identifier: str, name: str) -> None:
        directory = self.root / identifier
        directory.mkdir(parents=True, exist_ok=True)
        now = _now()
        _write_yaml(directory / "meta.yaml", {
            "artifact_location": f"{self.uri}/{identifier}", "creation_time": now, "experiment_id": identifier,
            "last_update_time": now, "lifecycle_stage": "active", "name": name})

    def finish(self, *, succeeded: bool) -> None:
        """Close the run if the entry point left it open."""
        meta = load_yaml(self._run / "meta.yaml")
        if meta and (meta.get("status") not in (FINISHED, FAILED) or not meta.get("end_time")):
            _write_yaml(self._run / "meta.yaml",
                        {**meta, "status": FINISHED if succeeded else FAILED, "end_time": _now()})

    def history(self) -> list[Measure]:
        """Metrics of the run; of the newest run with metrics if the script logged elsewhere."""
        own = read_history(self._run / "metrics")
        if own:
            return own
        others = sorted(self.root.glob("*/*/metrics"), key=lambda path: path.stat().st_mtime)
        found = [history for history in map(read_history, others) if history]
        return found[-1] if found else []

    def models(self) -> list[LoggedModel]:
        """Models of the run, else of other runs of the store; LoggedModels (MLflow 3) before run artifacts."""
        return read_models(self.root, self.run_id)


def read_models(root: Path, run_id: str) -> list[LoggedModel]:
    """Find the models in a file store: the newest of each name.

    Args:
        root: Directory of the store.
        run_id: Run whose models are preferred; the others count only if it has none.
    """
    registered = _registered(root)
    found = _logged_models(root, registered, run_id) or _artifact_models(root, registered)
    own = [model for model in found if model.run_id == run_id]
    chosen: dict[tuple[str, str], LoggedModel] = {}
    for model in sorted(own or found, key=lambda model: (model.created, model.model_id)):
        chosen[(model.run_id, model.name)] = model
    return list(chosen.values())


def _logged_models(root: Path, registered: dict[str, str], own_run: str) -> list[LoggedModel]:
    """MLflow 3: `<experiment>/models/m-*/`. A model logged before any run was begun counts as one of ours."""
    models = []
    files = [file for file in sorted(root.glob("*/models/m-*/meta.yaml"))
             if (file.parent / "artifacts" / "MLmodel").is_file()]
    for meta_file in files:
        meta = load_yaml(meta_file)
        directory = meta_file.parent / "artifacts"
        if meta.get("status") != READY:
            continue
        identifier, run = str(meta.get("model_id") or meta_file.parent.name), str(meta.get("source_run_id") or own_run)
        params, metrics = _run_facts(root, run)
        params.update(_read_files(meta_file.parent / "params"))
        own = last_values(read_history(meta_file.parent / "metrics"))
        # Of several models each has its own values; of a single one the run's are newer.
        metrics = {**metrics, **own} if len(files) > 1 else {**own, **metrics}
        models.append(LoggedModel(
            name=str(meta.get("name") or "model"), directory=directory, model_id=identifier, run_id=run,
            created=int(meta.get("creation_timestamp") or 0), params=params, metrics=metrics,
            registered=registered.get(identifier) or registered.get(_path_of(directory.as_uri()))))
    return models


def _artifact_models(root: Path, registered: dict[str, str]) -> list[LoggedModel]:
    """MLflow 2: directories with an MLmodel file among the artifacts of a run."""
    models = []
    for file in sorted(root.glob("*/*/artifacts/**/MLmodel")):
        run = _run_directory(root, file)
        directory = file.parent
        if run is None or _inside_other_model(directory, run / "artifacts"):
            continue
        params, metrics = _run_facts(root, run.name)
        name = directory.relative_to(run / "artifacts").as_posix()
        models.append(LoggedModel(
            name="model" if name == "." else name, directory=directory, run_id=run.name, params=params,
            model_id=str(load_yaml(file).get("model_uuid") or ""), created=int(file.stat().st_mtime * 1000),
            metrics=metrics, registered=registered.get(_path_of(directory.as_uri()))))
    return models


def _run_directory(root: Path, file: Path) -> Path | None:
    parts = file.relative_to(root).parts
    return root / parts[0] / parts[1] if parts[1] != "models" else None


def _inside_other_model(directory: Path, top: Path) -> bool:
    """A model may carry other models in itself, as pyfunc pipelines do."""
    parents = [parent for parent in directory.parents if parent == top or top in parent.parents]
    return any((parent / "MLmodel").is_file() for parent in parents)


def _registered(root: Path) -> dict[str, str]:
    """Names in the store's registry, by model id and by path of the source."""
    names = {}
    for meta_file in sorted(root.glob("models/*/version-*/meta.yaml")):
        meta = load_yaml(meta_file)
        for key in ("model_id", "source", "storage_location"):
            if meta.get(key):
                names[_path_of(str(meta[key]))] = str(meta.get("name") or meta_file.parent.parent.name)
    return names


def _path_of(source: str) -> str:
    parsed = urlparse(source)
    return unquote(parsed.path).rstrip("/") if parsed.scheme in ("file", "") and "/" in source else source


def _run_facts(root: Path, run_id: str) -> tuple[dict[str, str], dict[str, float]]:
    """Parameters and last metrics of a run."""
    for run in root.glob(f"*/{run_id}") if run_id else ():
        return _read_files(run / "params"), last_values(read_history(run / "metrics"))
    return {}, {}


def _read_files(directory: Path) -> dict[str, str]:
    return {path.relative_to(directory).as_posix(): path.read_text("utf-8", errors="replace").strip()
            for path in sorted(directory.rglob("*")) if path.is_file()}


def read_history(directory: Path) -> list[Measure]:
    """Read metric files: lines of `timestamp value step …`, each measure once."""
    measures: dict[Measure, None] = {}
    for key, text in _read_files(directory).items():
        for line in text.splitlines():
            parts = line.split()
            if len(parts) >= 2:
                step = int(parts[2]) if len(parts) > 2 else 0
                measures[Measure(key, float(parts[1]), step, int(parts[0]))] = None
    return sorted(measures, key=lambda m: (m.timestamp, m.key, m.step))


def _write_yaml(path: Path, data: dict[str, Any]) -> None:
    """JSON is YAML."""
    text = "".join(f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in data.items())
    path.write_text(text, "utf-8")


def _now() -> int:
    return int(time.time() * 1000)
