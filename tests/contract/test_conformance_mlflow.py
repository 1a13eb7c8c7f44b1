"""R134: the MLflow builder keeps every rule of the kit, in every host."""

from __future__ import annotations

import pytest

from fuseml_mlflow.plugin import MlflowBuilder
from fuseml_sdk.testing import Samples, conformance

pytestmark = pytest.mark.full
PROJECT = """
name: sample
python_env: python_env.yaml
entry_points:
  main:
    parameters:
      alpha: {type: float, default: 0.5}
    command: "python train.py {alpha}"
"""


class Projects(Samples):
    """MLflow projects, whole and broken."""

    def codeset(self, folder):
        (folder / "MLproject").write_text(PROJECT)
        (folder / "python_env.yaml").write_text("dependencies:\n  - mlflow\n")
        (folder / "train.py").write_text("import mlflow\n")
        return folder

    def broken_codeset(self, folder):
        (folder / "MLproject").write_text("name: [unclosed\n")
        return folder


TestMlflowBuilder = conformance(MlflowBuilder, samples=Projects(), hosts=["in-process", "subprocess", "asgi", "address"])
