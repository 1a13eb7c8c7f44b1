"""Which Python environment an MLflow project asks for; precedence as in MLflow 3.17."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fuseml_mlflow import conda
from fuseml_mlflow.project import Project, load_mapping
from fuseml_mlflow.requirements import expand
from fuseml_mlflow.sources import read_text
from fuseml_sdk.errors import InvalidInput

PYTHON_ENV_FILE = "python_env.yaml"
CONDA_FILE = "conda.yaml"
REQUIREMENTS_FILE = "requirements.txt"
#: Distributions that are MLflow.
MLFLOW = frozenset(("mlflow", "mlflow-skinny"))
_VERSION = re.compile(r"(\d+)\.(\d+)")


@dataclass(frozen=True)
class ProjectEnvironment:
    """What to install for a project.

    Attributes:
        source: File it was read from; empty if the project has none.
        python: Minor version such as `3.11`; None leaves it open.
        requirements: PEP 508 lines.
        constraints: PEP 508 lines that limit, but do not add.
        warnings: What was left out, for people.
    """

    source: str = ""
    python: str | None = None
    requirements: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    warnings: tuple[str, ...] = field(default=())


def read(project: Project, root: Path) -> ProjectEnvironment:
    """Find and read the environment of a project.

    Named by the MLproject file, else `python_env.yaml`, else `conda.yaml`; where MLflow finds no more,
    `requirements.txt` with mlflow, else mlflow alone.

    Raises:
        InvalidInput: The file does not exist or is broken; the message names it and the place.
    """
    if project.python_env:
        return _python_env(root, _existing(root, project.python_env, project.file))
    if project.conda_env:
        return _conda_env(root, _existing(root, project.conda_env, project.file))
    if (root / PYTHON_ENV_FILE).is_file():
        return _python_env(root, PYTHON_ENV_FILE)
    if (root / CONDA_FILE).is_file():
        return _conda_env(root, CONDA_FILE)
    if (root / REQUIREMENTS_FILE).is_file():
        return _requirements(root)
    return ProjectEnvironment(requirements=("mlflow",), warnings=(
        "the project has no python_env.yaml or conda.yaml; its environment is the newest mlflow alone",))


def _requirements(root: Path) -> ProjectEnvironment:
    """The file that most projects have beside MLflow's own; mlflow itself is added unless it is listed."""
    found = _environment(root, REQUIREMENTS_FILE, None, [f"-r {REQUIREMENTS_FILE}"])
    names = {canonicalize_name(Requirement(line).name) for line in found.requirements}
    added = () if names & MLFLOW else ("mlflow",)
    note = f"the project has no python_env.yaml or conda.yaml; {REQUIREMENTS_FILE} is its environment"
    return replace(found, requirements=(*found.requirements, *added), warnings=(
        f"{note}, with the newest mlflow added" if added else note, *found.warnings))


def _existing(root: Path, name: str, project_file: str) -> str:
    path = (root / name).resolve()
    if not path.is_relative_to(root.resolve()):
        raise InvalidInput(f"{project_file}: the environment file {name!r} lies outside the codeset")
    if not path.is_file():
        raise InvalidInput(f"{project_file}: it names the environment file {name!r}, which does not exist")
    return path.relative_to(root.resolve()).as_posix()


def _python_env(root: Path, file: str) -> ProjectEnvironment:
    data = load_mapping(read_text(root, file), file)
    unknown = sorted(str(key) for key in data.keys() - {"python", "build_dependencies", "dependencies"})
    if unknown:
        raise InvalidInput(f"{file}: {unknown[0]!r} is not a key of it",
                           hint="Known keys: python, build_dependencies, dependencies.")
    lines = _lines(data, "build_dependencies", file) + _lines(data, "dependencies", file)
    return _environment(root, file, python_version(data.get("python"), file), lines)


def _conda_env(root: Path, file: str) -> ProjectEnvironment:
    python, requirements, pip = conda.split(load_mapping(read_text(root, file), file), file)
    return _environment(root, file, python_version(python, file), requirements + pip)


def _environment(root: Path, file: str, python: str | None, lines: list[str]) -> ProjectEnvironment:
    found = expand(lines, root, file)
    return ProjectEnvironment(file, python, tuple(found.requirements), tuple(found.constraints), tuple(found.warnings))


def _lines(data: dict[str, Any], key: str, file: str) -> list[str]:
    value = data.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidInput(f"{file}: {key} must be a list of requirements")
    return value


def python_version(value: Any, file: str) -> str | None:
    """Minor version out of `3.11`, `3.11.7`, `==3.11.*` or `>=3.8`; None if there is none.

    Raises:
        InvalidInput: It is a YAML number (3.10 would read as 3.1) or no version.
    """
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise InvalidInput(f"{file}: the Python version {value!r} is a number to YAML, where 3.10 equals 3.1",
                           hint='Write it in quotes: python: "3.11".')
    match = _VERSION.search(value)
    if not match or (value.lstrip().startswith(("<", "!")) and not value.lstrip().startswith("<=")):
        raise InvalidInput(f"{file}: {value!r} is not a Python version", hint='Write it as python: "3.11".')
    return f"{match[1]}.{match[2]}"
