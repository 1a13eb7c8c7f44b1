"""The course of one training run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from . import command, outputs, process, worktree
from .advice import advice
from .errors import TrainingError
from .filestore import FileStore
from .runs import LoggedModel, Tracking, experiment_name, project_tags
from .server import Server
from .settings import Settings, load

#: Exit codes of our own; those of the entry point are passed on.
INVALID, NO_MODEL = 2, 3


def main(arguments: list[str]) -> int:
    """Run the entry point and hand over its models.

    Args:
        arguments: The directory of the trainer's contents.

    Returns:
        Exit code: that of the entry point if it failed, 2 if it could not be started, 3 if it logged no model.
    """
    try:
        settings = load(Path(arguments[0]), dict(os.environ))
        return _train(settings)
    except TrainingError as error:
        print(f"fuseml: {error}", file=sys.stderr, flush=True)
        return INVALID


def _train(settings: Settings) -> int:
    tracking = _tracking(settings)
    planned = command.compose(settings)
    tracking.start(project_tags(settings), planned.logged)
    before = worktree.marks(settings.code)
    print(f"fuseml: running {planned.line!r} as MLflow run {tracking.run_id}", flush=True)
    finished = process.run(planned.line, settings.code, {**os.environ, **tracking.env()})
    tracking.finish(succeeded=finished.code == 0)
    outputs.write_metrics(tracking.history(), settings.metrics)
    if finished.code != 0:
        return _failed(finished, settings)
    models = tracking.models() or worktree.new_models(settings.code, before)
    if not models:
        print(f"fuseml: the entry point {settings.entry_point.name!r} finished but logged no model; log one with "
              "mlflow.<flavor>.log_model(...)", file=sys.stderr, flush=True)
        _advise(finished.tail)
        return NO_MODEL
    return _hand_over(models, settings)


def _tracking(settings: Settings) -> Tracking:
    name = experiment_name(settings)
    if not settings.tracking_uri:
        return FileStore(settings.scratch / "mlruns", name)
    return Server(settings.tracking_uri, name, settings.scratch / "models")


def _hand_over(models: list[LoggedModel], settings: Settings) -> int:
    for directory in outputs.hand_over(models, settings):
        print(f"fuseml: model {directory!r} handed over", flush=True)
    return 0


def _failed(finished: process.Finished, settings: Settings) -> int:
    code = 128 - finished.code if finished.code < 0 else finished.code
    how = f"was ended by signal {-finished.code}" if finished.code < 0 else f"failed with exit code {code}"
    print(f"fuseml: the entry point {settings.entry_point.name!r} {how}", file=sys.stderr, flush=True)
    _advise(finished.tail)
    return code


def _advise(log: str) -> None:
    remedy = advice(log)
    if remedy:
        print(f"fuseml: {remedy}", file=sys.stderr, flush=True)
