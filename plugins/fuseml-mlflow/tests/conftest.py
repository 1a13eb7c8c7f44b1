"""Real builds, real environments and real training runs, as a workload agent does them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from fuseml_mlflow.plugin import plugin
from fuseml_sdk.environments import ensure_environment, find_python
from fuseml_sdk.types import BuildRequest

EXAMPLES = Path(__file__).parents[3] / "examples"
DIGEST = "git:" + "0123456789" * 4


@dataclass
class Trained:
    """What one training run left."""

    code: int
    log: str
    folder: Path
    info: dict
    metrics: list

    @property
    def model(self):
        """Directory of the only model."""
        [name] = self.info
        return self.folder / "model" / name


class Workshop:
    """Builds and trains projects in folders of its own."""

    def __init__(self, folder):
        self.folder = folder
        self.count = 0

    def build(self, code, name="app"):
        """Build a project; returns the folder with `trainer` and `predictor`, and the result."""
        self.count += 1
        output = self.folder / f"build-{self.count}"
        output.mkdir()
        result = plugin.builder_build(BuildRequest(project="p", name=name, digest=DIGEST, directory=str(code),
                                                   output=str(output)))
        return output, result

    def environment(self, lock, python="3.11"):
        """The interpreter of the environment of a lock."""
        interpreter, _ = find_python(python)
        return ensure_environment(self.folder / "envs", lock=lock.read_text(), python=interpreter).python

    def train(self, code, built, config=None, *, variables=None, timeout=240):
        """Run the trainer of a build on a private copy of the code."""
        self.count += 1
        run = self.folder / f"run-{self.count}"
        shutil.copytree(code, run / "code")
        for name in ("model", "scratch", "tmp"):
            (run / name).mkdir()
        (run / "config.json").write_text(json.dumps(config or {}))
        (run / "code.json").write_text(json.dumps({"project": "p", "name": "app", "digest": DIGEST}))
        python = self.environment(built / "trainer" / "requirements.lock")
        env = {"PATH": f"{python.parent}:/usr/local/bin:/usr/bin:/bin", "HOME": str(run / "scratch"),
               "TMPDIR": str(run / "tmp"), "LANG": "C.UTF-8", "FUSEML_PROJECT": "p", "FUSEML_WORKLOAD": "w-1",
               "FUSEML_INPUT_CODE": str(run / "code"), "FUSEML_INPUT_CODE_INFO": str(run / "code.json"),
               "FUSEML_OUTPUT_MODEL": str(run / "model"), "FUSEML_OUTPUT_MODEL_INFO": str(run / "info.json"),
               "FUSEML_METRICS": str(run / "metrics"), "FUSEML_CONFIG": str(run / "config.json"), **(variables or {})}
        trainer = built / "trainer"
        done = subprocess.run([str(python), str(trainer / "trainer.py"), str(trainer)], cwd=run / "code", env=env,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout, check=False)
        info = json.loads((run / "info.json").read_text()) if (run / "info.json").exists() else {}
        lines = (run / "metrics").read_text().splitlines() if (run / "metrics").exists() else []
        return Trained(done.returncode, done.stdout, run, info, [json.loads(line) for line in lines])

    def project(self, requirements, script, parameters="{}", command="python train.py"):
        """Write a project with one script."""
        self.count += 1
        folder = self.folder / f"code-{self.count}"
        folder.mkdir()
        (folder / "MLproject").write_text(
            f"entry_points:\n  main:\n    parameters: {parameters}\n    command: {json.dumps(command)}\n")
        (folder / "python_env.yaml").write_text(json.dumps({"python": "3.11", "dependencies": requirements}))
        (folder / "train.py").write_text(script)
        return folder


@pytest.fixture(scope="session")
def workshop(tmp_path_factory):
    """One place for all builds, so that environments are shared."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    return Workshop(tmp_path_factory.mktemp("workshop"))


@pytest.fixture(scope="session")
def diabetes(workshop):
    """The example, built and trained once."""
    built, result = workshop.build(EXAMPLES / "diabetes")
    return built, result, workshop.train(EXAMPLES / "diabetes", built, {"alpha": 0.25})
