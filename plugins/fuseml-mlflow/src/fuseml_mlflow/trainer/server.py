"""An MLflow tracking server, spoken to by its REST API (https://mlflow.org/docs/latest/rest-api.html)."""

from __future__ import annotations

import base64
import json
import os
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path, PurePosixPath
from typing import Any

from .command import download_with_mlflow
from .errors import TrainingError
from .runs import LoggedModel, Measure

TIMEOUT = 60.0


class Server:
    """A run on a tracking server; implements `runs.Tracking`."""

    def __init__(self, uri: str, experiment: str, downloads: Path) -> None:
        """Take the address of the server; nothing is sent yet.

        Args:
            uri: `http://` or `https://`, as MLFLOW_TRACKING_URI.
            experiment: Name of the experiment, made if it does not exist.
            downloads: Directory for the models' files.

        Raises:
            TrainingError: It is no HTTP address.
        """
        if urllib.parse.urlparse(uri).scheme not in ("http", "https"):
            msg = "the setting tracking_uri of the extension mlflow must be an http:// or https:// address"
            raise TrainingError(msg)
        self.uri = uri.rstrip("/")
        self.experiment_id = ""
        self.run_id = ""
        self._experiment = experiment
        self._downloads = downloads

    def env(self) -> dict[str, str]:
        """Variables that lead the entry point to the run."""
        return {"MLFLOW_TRACKING_URI": self.uri, "MLFLOW_EXPERIMENT_ID": self.experiment_id,
                "MLFLOW_RUN_ID": self.run_id}

    def start(self, tags: dict[str, str], params: dict[str, str]) -> None:
        """Create the run, and the experiment if it is missing."""
        self.experiment_id = self._find_experiment()
        created = self._call("runs/create", {
            "experiment_id": self.experiment_id, "start_time": _now(), "run_name": tags.get("mlflow.runName", ""),
            "user_id": tags.get("mlflow.user", ""), "tags": _pairs(tags)})
        self.run_id = created["run"]["info"]["run_id"]
        if params:
            self._call("runs/log-batch", {"run_id": self.run_id, "params": _pairs(params)})

    def _find_experiment(self) -> str:
        query = urllib.parse.urlencode({"experiment_name": self._experiment})
        found = self._call(f"experiments/get-by-name?{query}", missing_ok=True)
        if not found:
            return str(self._call("experiments/create", {"name": self._experiment})["experiment_id"])
        return str(found["experiment"]["experiment_id"])

    def finish(self, *, succeeded: bool) -> None:
        """Close the run if the entry point left it open."""
        if self._info().get("status") not in ("FINISHED", "FAILED", "KILLED"):
            self._call("runs/update", {"run_id": self.run_id, "status": "FINISHED" if succeeded else "FAILED",
                                       "end_time": _now()})

    def _get_run(self) -> dict[str, Any]:
        return dict(self._call(f"runs/get?run_id={self.run_id}")["run"])

    def _info(self) -> dict[str, Any]:
        return dict(self._get_run()["info"])

    def history(self) -> list[Measure]:
        """Every metric of the run, oldest first."""
        measures = []
        for metric in self._get_run()["data"].get("metrics") or []:
            query = urllib.parse.urlencode({"run_id": self.run_id, "metric_key": metric["key"]})
            for item in self._call(f"metrics/get-history?{query}").get("metrics") or []:
                measure = (item["key"], float(item["value"]), int(item.get("step") or 0), int(item["timestamp"]))
                measures.append(Measure(*measure))
        return sorted(measures, key=lambda m: (m.timestamp, m.key, m.step))

    def models(self) -> list[LoggedModel]:
        """Models of the run, downloaded: LoggedModels (MLflow 3), else run artifacts with an MLmodel file."""
        run = self._get_run()
        params = {item["key"]: item["value"] for item in run["data"].get("params") or []}
        metrics = {item["key"]: float(item["value"]) for item in run["data"].get("metrics") or []}
        found = self._logged_models() or self._artifact_models(run)
        models = []
        for index, (name, uri, identifier) in enumerate(found):
            directory = self._download(uri, self._downloads / str(index))
            models.append(LoggedModel(name=name, directory=directory, model_id=identifier, run_id=self.run_id,
                                      params=params, metrics=metrics, registered=self._registered(identifier, uri)))
        return models

    def _logged_models(self) -> list[tuple[str, str, str]]:
        body = {"experiment_ids": [self.experiment_id], "filter": f"source_run_id = '{self.run_id}'"}
        found = self._call("logged-models/search", body, missing_ok=True).get("models") or []
        infos = sorted((item["info"] for item in found), key=lambda info: int(info["creation_timestamp_ms"]))
        newest = {info["name"]: info for info in infos if info.get("status") == "LOGGED_MODEL_READY"}
        return [(name, info["artifact_uri"], info["model_id"]) for name, info in newest.items()]

    def _artifact_models(self, run: dict[str, Any]) -> list[tuple[str, str, str]]:
        tags = {item["key"]: item["value"] for item in run["data"].get("tags") or []}
        entries = json.loads(tags.get("mlflow.log-model.history") or "[]")
        newest = {entry["artifact_path"]: entry.get("model_uuid") or "" for entry in entries}
        base = run["info"]["artifact_uri"]
        return [(path, f"{base}/{path}", identifier) for path, identifier in newest.items()]

    def _registered(self, identifier: str, uri: str) -> str | None:
        query = urllib.parse.urlencode({"filter": f"run_id = '{self.run_id}'"})
        versions = self._call(f"model-versions/search?{query}", missing_ok=True).get("model_versions") or []
        for version in versions:
            if (identifier and version.get("model_id") == identifier) or version.get("source") in (
                    uri, f"models:/{identifier}"):
                return str(version["name"])
        return None

    def _download(self, uri: str, target: Path) -> Path:
        """Fetch a model's files: from disk, through the server's proxy, or by the project's own mlflow."""
        parsed = urllib.parse.urlparse(uri)
        target.mkdir(parents=True, exist_ok=True)
        if parsed.scheme == "file":
            return Path(urllib.parse.unquote(parsed.path))
        if parsed.scheme == "mlflow-artifacts":
            self._download_tree(parsed.path.strip("/"), target)
            return target
        return Path(download_with_mlflow(uri, target))

    def _download_tree(self, path: str, target: Path) -> None:
        query = urllib.parse.urlencode({"path": path})
        listing = self._call(f"mlflow-artifacts/artifacts?{query}")
        for item in listing.get("files") or []:
            name = PurePosixPath(item["path"]).name
            if item.get("is_dir"):
                (target / name).mkdir(exist_ok=True)
                self._download_tree(f"{path}/{name}", target / name)
            else:
                quoted = urllib.parse.quote(f"{path}/{name}")
                with self._open(f"mlflow-artifacts/artifacts/{quoted}") as response, (target / name).open("wb") as out:
                    shutil.copyfileobj(response, out)

    def _call(self, path: str, body: dict[str, Any] | None = None, *, missing_ok: bool = False) -> dict[str, Any]:
        try:
            with self._open(path, body) as response:
                data = json.loads(response.read() or b"{}")
        except urllib.error.HTTPError as error:
            if error.code == 404 and missing_ok:
                return {}
            detail = error.read(2000).decode("utf-8", "replace")
            msg = f"the MLflow server answered {error.code} to {path.partition('?')[0]}: {detail}"
            raise TrainingError(msg) from None
        return data if isinstance(data, dict) else {}

    def _open(self, path: str, body: dict[str, Any] | None = None) -> Any:
        headers = {"Content-Type": "application/json", **_credentials()}
        data = None if body is None else json.dumps(body).encode()
        group = "" if path.startswith("mlflow-artifacts/") else "mlflow/"
        url = f"{self.uri}/api/2.0/{group}{path}"
        request = urllib.request.Request(url, data=data, headers=headers)  # noqa: S310 - checked to be HTTP
        try:
            return urllib.request.urlopen(request, timeout=TIMEOUT)  # noqa: S310 - checked to be HTTP
        except urllib.error.HTTPError:
            raise
        except OSError as error:
            msg = f"the MLflow server (setting tracking_uri) does not answer: {error}"
            raise TrainingError(msg) from None


def _credentials() -> dict[str, str]:
    """The variables that MLflow's own client takes."""
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    if token:
        return {"Authorization": f"Bearer {token}"}
    user, password = os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
    if user:
        return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
    return {}


def _pairs(values: dict[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def _now() -> int:
    return int(time.time() * 1000)
