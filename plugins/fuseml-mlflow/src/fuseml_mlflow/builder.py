"""From a checked-out MLflow project to the descriptors and files of its trainer and its predictor."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

from fuseml_mlflow import locks
from fuseml_mlflow.environment import ProjectEnvironment, read
from fuseml_mlflow.interface import parameter_spec
from fuseml_mlflow.project import MAIN, EntryPoint, Project, find, parse
from fuseml_mlflow.sources import read_text
from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.types import (
    BuildRequest,
    BuildResult,
    BuiltRunnable,
    EnvironmentSpec,
    InputSpec,
    OutputSpec,
    RunnableDescriptor,
    ServiceSpec,
)

TYPE = "mlflow-project"
LOCK = "requirements.lock"
SERVING_LOCK = "serving.lock"

#: Starts a program beside it. Byte code of our own files is not written, because contents never change.
_START = '''"""Start the program that lies beside this file."""

import sys

before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
from {module} import main

sys.dont_write_bytecode = before
sys.exit(main(sys.argv[1:]))
'''


def build(request: BuildRequest) -> BuildResult:
    """Make the trainer and the predictor of an MLflow project.

    The same codeset, parameters and package index give the same files and descriptors.

    Args:
        request: The checkout and the directory for results; parameter `entry_point` chooses what the trainer runs.

    Raises:
        InvalidInput: The project is broken, or its requirements cannot be satisfied.
    """
    root = Path(request.directory)
    project = load(root)
    entry = project.entry_point(str(request.parameters.get("entry_point") or MAIN))
    environment = read(project, root)
    lock, serving = locks.compile_locks(environment)
    output = Path(request.output)
    trainer = _trainer_files(output / "trainer", project, entry, environment, lock, serving)
    _predictor_files(output / "predictor", serving)
    return BuildResult(
        runnables=[
            BuiltRunnable(output="trainer", descriptor=_trainer(request.name, entry, environment, trainer)),
            BuiltRunnable(output="predictor", descriptor=_predictor(request.name, environment)),
        ],
        warnings=list(environment.warnings),
    )


def load(root: Path) -> Project:
    """Find and parse the MLproject file of a checkout.

    Raises:
        InvalidInput: There is none, or it is broken.
    """
    file = find(path.name for path in root.iterdir() if path.is_file())
    if file is None:
        raise InvalidInput("no MLproject file in the root", hint="Add one: https://mlflow.org/docs/latest/projects")
    return parse(read_text(root, file), file)


def _trainer_files(target: Path, project: Project, entry: EntryPoint, environment: ProjectEnvironment, lock: str,
                   serving: str) -> dict[str, object]:
    """Write the trainer's contents; returns what its descriptor says about them."""
    target.mkdir(parents=True)
    facts: dict[str, object] = {
        "project": project.name,
        "entry_point": entry.name,
        "command": entry.command,
        "parameters": [{"name": p.name, "type": p.type,
                        "default": None if p.default is None else str(p.default)} for p in entry.parameters],
        "python": environment.python,
    }
    (target / "project.json").write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
    (target / LOCK).write_text(lock, "utf-8")
    (target / SERVING_LOCK).write_text(serving, "utf-8")
    _copy_package("fuseml_mlflow.trainer", target / "trainer")
    (target / "trainer.py").write_text(_START.format(module="trainer.main"), "utf-8")
    return facts


def _predictor_files(target: Path, serving: str) -> None:
    target.mkdir(parents=True)
    (target / LOCK).write_text(serving, "utf-8")
    _copy_package("fuseml_kserve", target / "files" / "fuseml_kserve")
    (target / "files" / "server.py").write_text(_START.format(module="fuseml_kserve.main"), "utf-8")


def _copy_package(package: str, target: Path) -> None:
    """Copy the Python files of an installed package (one level: they have no sub-packages)."""
    target.mkdir(parents=True)
    for source in sorted(files(package).iterdir(), key=lambda item: item.name):
        if source.is_file() and source.name.endswith(".py"):
            (target / source.name).write_bytes(source.read_bytes())


def _trainer(codeset: str, entry: EntryPoint, environment: ProjectEnvironment,
             facts: dict[str, object]) -> RunnableDescriptor:
    return RunnableDescriptor(
        kind="trainer",
        name=f"{codeset}-trainer",
        description=f"Trains {codeset} by the entry point {entry.name!r} of its MLflow project.",
        command=["{python}", "{runnable}/trainer.py", "{runnable}"],
        environment=EnvironmentSpec(python=environment.python, lock=LOCK),
        working_directory="code",
        env={"PYTHONUNBUFFERED": "1"},
        inputs=[InputSpec(name="code", kind="codeset", types=[TYPE], description="the project this was built from"),
                InputSpec(name="data", kind="dataset", optional=True,
                          description="given to the entry point's first path or uri parameter that has no value")],
        outputs=[OutputSpec(name="model", kind="model", many=True, description="every model the entry point logs")],
        parameters=[parameter_spec(parameter) for parameter in entry.parameters],
        open_parameters=True,
        metadata={"builder": "mlflow", "codeset": codeset, "entry_point": entry.name, "command": facts["command"],
                  "environment_file": environment.source},
    )


def _predictor(codeset: str, environment: ProjectEnvironment) -> RunnableDescriptor:
    return RunnableDescriptor(
        kind="predictor",
        name=f"{codeset}-predictor",
        description=f"Serves models of {codeset} by the Open Inference protocol, in the environment that trains them.",
        command=["{python}", "{runnable}/files/server.py", "{input.model}"],
        environment=EnvironmentSpec(python=environment.python, lock=LOCK),
        inputs=[InputSpec(name="model", kind="model", description="an MLflow model")],
        outputs=[OutputSpec(name="url", kind="value", description="where predictions are asked for")],
        service=ServiceSpec(),
        metadata={"builder": "mlflow", "codeset": codeset},
    )


