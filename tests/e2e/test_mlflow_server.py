"""Training that logs to an MLflow server which somebody runs already, set by the extension's `tracking_uri`."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DIABETES = ROOT / "examples/diabetes"


@pytest.fixture(scope="module")
def server_python(tmp_path_factory) -> Path:
    """The interpreter of an environment with the whole of the MLflow that the example is pinned to."""
    folder = tmp_path_factory.mktemp("mlflow")
    pinned = re.search(r"^mlflow-skinny==(\S+)$", (DIABETES / "requirements.txt").read_text(), re.MULTILINE)
    assert pinned, "the example does not pin mlflow-skinny any more"
    uv = [sys.executable, "-m", "uv", "--quiet"]
    subprocess.run([*uv, "venv", "--python", "3.11", folder / "venv"], check=True, timeout=300)
    python = folder / "venv/bin/python"
    subprocess.run([*uv, "pip", "install", "--python", python, f"mlflow=={pinned[1]}"], check=True, timeout=900)
    return python


class Server:
    """A running MLflow server."""

    def __init__(self, url: str, artifacts: Path) -> None:
        self.url, self.artifacts = url, artifacts

    def ask(self, path: str, **body: Any) -> Any:
        """Call its REST API."""
        request = urllib.request.Request(f"{self.url}/api/2.0/mlflow/{path}", json.dumps(body).encode() or None,
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def answers(self) -> bool:
        """Whether it is up."""
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
            return bool(answer.status == 200)
        return False


@contextlib.contextmanager
def mlflow_server(python: Path, folder: Path, wait_for: Any) -> Iterator[Server]:
    """An MLflow server on loopback with everything it keeps in a folder; stopped with all its processes at the end."""
    folder.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [python, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
               "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", folder / "artifacts"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "FUSEML_"))}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
            env={**kept, "HOME": str(folder), "PATH": f"{python.parent}{os.pathsep}{kept['PATH']}",
                 "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"})
    server = Server(f"http://127.0.0.1:{port}", folder / "artifacts")
    try:
        wait_for(lambda: server.answers() or process.poll() is not None, 180, "the MLflow server")
        assert process.poll() is None, (folder / "log").read_text()
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_r99_r104_r106_training_logs_to_a_real_mlflow_server_and_the_model_is_served(fuseml, server_python, tmp_path):
    """The server has run, parameters, metrics and model as after `mlflow run`; FuseML registers and serves the model."""
    fuseml.install("mlflow", "kserve")
    refused = fuseml("extension", "configure", "mlflow", "tracking_uri=ftp://nowhere", code=2).err
    assert "'tracking_uri'" in refused
    assert "does not match" in refused
    with mlflow_server(server_python, tmp_path / "mlflow", fuseml.wait_for) as server:
        fuseml("extension", "configure", "mlflow", f"tracking_uri={server.url}")
        assert f"tracking_uri: {server.url}" in fuseml("extension", "info", "mlflow").out
        for template, name, binding in (("mlflow-training", "training", "mlflow_code=code://*"),
                                        ("kserve-serving", "serving", "model=model://*")):
            fuseml("pipeline", "add", template, "--name", name, "--input", binding)
        fuseml("codeset", "push", str(DIABETES), "--name", "diabetes", "--wait")
        _logged_as_by_mlflow_run(server)
        [model] = fuseml.json("model", "list")
        [run] = _runs(server)
        assert model["type"].startswith("mlflow")
        assert set(model["metadata"]["metrics"]) == {"r2", "rmse", "mae"}
        assert run["info"]["run_id"] in json.dumps(model["metadata"])
        assert _predicted(fuseml) > 0

        # Elsewhere from now on: that alone is no reason to train again, but the next training goes there.
        fuseml("extension", "configure", "mlflow", "--unset", "tracking_uri")
        fuseml("run", "start", "training", "--wait")
        assert {s["name"]: s["reused"] for s in fuseml.json("run", "get", "training/2")["steps"]} == {
            "build": True, "train": True}
        fuseml("run", "start", "training", "--param", "alpha=0.4", "--wait")
        assert fuseml.json("run", "get", "training/3")["state"] == "succeeded"
        assert len(_runs(server)) == 1

        # A server that does not answer fails the run with the reason.
        fuseml("extension", "configure", "mlflow", "tracking_uri=http://127.0.0.1:9")
        failed = fuseml("run", "start", "training", "--param", "alpha=0.3", "--wait", code=1)
        assert "the MLflow server (setting tracking_uri) does not answer" in failed.out + failed.err


def _predicted(fuseml: Any) -> float:
    """What the service answers for one patient."""
    columns = ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"]
    row = dict(zip(columns, [48.0, 1.0, 26.0, 94.0, 189.0, 115.0, 49.0, 4.0, 4.6, 91.0], strict=True))
    [value] = fuseml.post(fuseml.json("service", "get", "diabetes")["url"], [row])["predictions"]
    return float(value)


def _runs(server: Server) -> list[dict[str, Any]]:
    """All runs of the experiments that FuseML made."""
    experiments = server.ask("experiments/search", max_results=100)["experiments"]
    made = [e["experiment_id"] for e in experiments if e["name"] == "default/diabetes"]
    return list(server.ask("runs/search", experiment_ids=made, max_results=100).get("runs") or [])


def _logged_as_by_mlflow_run(server: Server) -> None:
    [run] = _runs(server)
    tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
    assert run["info"]["status"] == "FINISHED"
    assert tags["mlflow.source.type"] == "PROJECT"
    assert tags["mlflow.project.entryPoint"] == "main"
    assert len(tags["mlflow.source.git.commit"]) == 40
    assert {p["key"]: p["value"] for p in run["data"]["params"]}["alpha"] == "0.5"
    assert {metric["key"] for metric in run["data"]["metrics"]} == {"r2", "rmse", "mae"}
    assert list(server.artifacts.rglob("MLmodel")), "the model's files went through the server"
