"""What a run of MLflow is to the trainer, whichever place keeps it."""

from __future__ import annotations

import getpass
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from .settings import Settings

#: mlflow.entities.RunStatus
RUNNING, FINISHED, FAILED = 1, 3, 4


@dataclass(frozen=True)
class Measure:
    """One value of a metric; `timestamp` in milliseconds."""

    key: str
    value: float
    step: int
    timestamp: int


@dataclass(frozen=True)
class LoggedModel:
    """A model that the entry point logged; its files lie in `directory`.

    Attributes:
        name: As it was logged, such as `model`.
        directory: Holds the MLmodel file.
        model_id: MLflow's identifier, if it has one.
        run_id: Run that logged it, if known.
        created: Milliseconds since the epoch; 0 if unknown.
        registered: Name in MLflow's registry, or None.
        params: Of the run and of the model.
        metrics: Last values, of the run and of the model.
    """

    name: str
    directory: Path
    model_id: str = ""
    run_id: str = ""
    created: int = 0
    registered: str | None = None
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)


class Tracking(Protocol):
    """Where runs are logged: a private file store or a server."""

    uri: str
    experiment_id: str
    run_id: str

    def start(self, tags: dict[str, str], params: dict[str, str]) -> None:
        """Create the run, as `mlflow run` does."""

    def finish(self, *, succeeded: bool) -> None:
        """Close the run if the entry point left it open."""

    def models(self) -> list[LoggedModel]:
        """Models that were logged: those of the run, else those of other runs of the entry point."""

    def history(self) -> list[Measure]:
        """Every metric of the run, oldest first."""

    def env(self) -> dict[str, str]:
        """Variables that lead the entry point to the run."""


def project_tags(settings: Settings) -> dict[str, str]:
    """The tags that `mlflow run` gives to a run."""
    tags = {
        "mlflow.user": _user(),
        "mlflow.source.name": _source(settings),
        "mlflow.source.type": "PROJECT",
        "mlflow.project.entryPoint": settings.entry_point.name,
        "mlflow.project.env": "virtualenv",
        "mlflow.project.backend": "local",
        "mlflow.runName": settings.workload or "fuseml",
    }
    commit = _commit(settings)
    if commit:
        tags["mlflow.source.git.commit"] = commit
    parent = os.environ.get("FUSEML_MLFLOW_PARENT_RUN_ID")
    if parent:
        tags["mlflow.parentRunId"] = parent
    return tags


def experiment_name(settings: Settings) -> str:
    """Runs of one codeset are one experiment."""
    return "/".join(part for part in (settings.project, str(settings.codeset.get("name") or "")) if part) or "fuseml"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _source(settings: Settings) -> str:
    facts = settings.codeset
    if facts.get("project") and facts.get("name") and facts.get("digest"):
        return f"code://{facts['project']}/{facts['name']}@{facts['digest']}"
    return settings.code.absolute().as_uri()


def _commit(settings: Settings) -> str:
    scheme, _, commit = str(settings.codeset.get("digest") or "").partition(":")
    if scheme == "git":
        return commit
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=str(settings.code), stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, universal_newlines=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def last_values(history: list[Measure]) -> dict[str, float]:
    """The value of each metric at its last step."""
    last: dict[str, Measure] = {}
    for measure in history:
        known = last.get(measure.key)
        if known is None or (measure.step, measure.timestamp) >= (known.step, known.timestamp):
            last[measure.key] = measure
    return {key: measure.value for key, measure in last.items()}


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping of MLflow; one that is missing or broken reads as empty."""
    import yaml

    try:
        data = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, yaml.YAMLError):
        return {}
    return data if isinstance(data, dict) else {}
