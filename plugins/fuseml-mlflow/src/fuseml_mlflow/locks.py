"""Hashed locks of a project: the one it trains with, and the one its models are served with."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from fuseml_mlflow.environment import MLFLOW, ProjectEnvironment
from fuseml_sdk.environments import compile_lock
from fuseml_sdk.errors import InvalidInput

#: The trainer reads MLflow's files, which are YAML.
TRAINER_NEEDS = ("pyyaml",)
#: What mlflow.pyfunc imports but mlflow-skinny does not require.
SERVING_NEEDS = ("pandas",)
#: Older MLflow imports pkg_resources without requiring what has it; setuptools 82 has it no longer.
WITHOUT_PKG_RESOURCES = Version("2.16")
PKG_RESOURCES = "setuptools<81"
_PINNED = re.compile(r"^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)", re.MULTILINE)


def compile_locks(environment: ProjectEnvironment) -> tuple[str, str]:
    """Compile the trainer's and the predictor's lock; they are the same text where that is possible.

    Raises:
        InvalidInput: The requirements cannot be satisfied together.
    """
    training = _compile(environment, TRAINER_NEEDS)
    if needs_pkg_resources(pinned(training)):
        environment = _with_pkg_resources(environment)
        training = _compile(environment, TRAINER_NEEDS)
    names = pinned(training).keys()
    if names & MLFLOW and not set(SERVING_NEEDS) <= names:
        return training, _compile(environment, TRAINER_NEEDS + SERVING_NEEDS, pins=training)
    return training, training


def pinned(lock: str) -> dict[str, str]:
    """Canonical names of the packages in a lock, with their versions."""
    return {canonicalize_name(name): version for name, version in _PINNED.findall(lock)}


def needs_pkg_resources(versions: dict[str, str]) -> bool:
    """Whether an MLflow is locked that would not start with the setuptools that is locked beside it, or without."""
    old = any(Version(versions[name]) < WITHOUT_PKG_RESOURCES for name in MLFLOW & versions.keys())
    return old and Version(versions.get("setuptools", "82")) >= Version("81")


def _with_pkg_resources(environment: ProjectEnvironment) -> ProjectEnvironment:
    """Ask for the last setuptools that has the module, unless the project itself says which one it wants."""
    named = [Requirement(line) for line in (*environment.requirements, *environment.constraints)]
    if any(canonicalize_name(item.name) == "setuptools" and item.specifier for item in named):
        return environment
    return replace(environment, requirements=(*environment.requirements, PKG_RESOURCES))


def _compile(environment: ProjectEnvironment, extra: tuple[str, ...], pins: str = "") -> str:
    known = {canonicalize_name(Requirement(line).name) for line in environment.requirements}
    lines = [*environment.requirements, *(name for name in extra if name not in known)]
    constraints = [*environment.constraints, *_pins(pins)]
    with TemporaryDirectory() as directory:
        file = Path(directory) / "constraints.txt"
        file.write_text("\n".join(constraints) + "\n", "utf-8")
        return _resolve(lines, file if constraints else None, environment.python)


def _resolve(lines: list[str], constraints: Path | None, python: str | None) -> str:
    """A universal lock where there is one; old pins often have a solution for the wanted Python only."""
    try:
        return compile_lock(lines, Path(sys.executable), constraints=constraints, python_version=python)
    except InvalidInput as error:
        try:
            return compile_lock(lines, Path(sys.executable), constraints=constraints, python_version=python,
                                universal=False)
        except InvalidInput:
            raise error from None


def _pins(lock: str) -> list[str]:
    """What a lock pins, as constraints, so that serving differs from training only by what it adds."""
    return [line.split(" \\")[0].strip() for line in lock.splitlines() if _PINNED.match(line)]
