"""MLproject files, read as MLflow 3.17 reads them (mlflow/projects/_project_spec.py)."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from string import Formatter
from typing import Any

from fuseml_mlflow.sources import load_yaml
from fuseml_sdk.errors import InvalidInput

#: The file's name in lower case; MLflow finds it whatever its case.
FILE_NAME = "mlproject"
#: Keys that name an environment; a project may have one of them.
ENVIRONMENT_KEYS = ("python_env", "conda_env", "docker_env")
MAIN = "main"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of an entry point.

    Attributes:
        name: As the command's placeholder has it.
        type: As written: string, float, int, path, uri, or anything else (which MLflow treats as string).
        default: The YAML value; None makes the parameter required.
    """

    name: str
    type: str = "string"
    default: Any = None


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """What a project can be asked to do."""

    name: str
    command: str
    parameters: tuple[Parameter, ...] = ()


@dataclass(frozen=True, slots=True)
class Project:
    """A parsed MLproject file; `file` is its name as it is spelled in the codeset."""

    file: str
    name: str = ""
    entry_points: dict[str, EntryPoint] = field(default_factory=dict)
    python_env: str = ""
    conda_env: str = ""

    def entry_point(self, name: str) -> EntryPoint:
        """Return an entry point: a declared one, else a script of the codeset, as MLflow does.

        Raises:
            InvalidInput: There is no such entry point and the name is not that of a script.
        """
        if name in self.entry_points:
            return self.entry_points[name]
        runners = {".py": "python", ".sh": "bash"}
        runner = runners.get(PurePosixPath(name).suffix)
        if runner:
            return EntryPoint(name, f"{runner} {shlex.quote(name)}")
        known = ", ".join(sorted(self.entry_points)) or "none"
        raise InvalidInput(
            f"{self.file}: there is no entry point {name!r}; declared: {known}",
            hint="Name one of them by the parameter `entry_point`, or add the entry point to the file.")


def find(paths: Iterable[str]) -> str | None:
    """The MLproject file among the paths of a codeset (first in order of code points), or None."""
    found = sorted(path for path in paths if "/" not in path and path.lower() == FILE_NAME)
    return found[0] if found else None


def parse(text: str, file: str) -> Project:
    """Read an MLproject file.

    Args:
        text: Its contents.
        file: Its name, for messages.

    Raises:
        InvalidInput: It is not YAML, not a mapping, or says something MLflow would refuse, or needs what FuseML
            cannot give (Databricks, Docker); the message names file, place and remedy.
    """
    data = load_mapping(text, file)
    environments = [key for key in ENVIRONMENT_KEYS if key in data]
    if len(environments) > 1:
        raise InvalidInput(f"{file}: it names several environments: {', '.join(environments)}",
                           hint="Keep at most one of them.")
    if data.get("databricks_spark_job") is not None:
        raise InvalidInput(f"{file}: databricks_spark_job is not supported, it runs on Databricks only",
                           hint="Describe the job by entry_points and python_env instead.")
    if data.get("docker_env"):
        raise InvalidInput(f"{file}: docker_env is not supported, FuseML builds a Python environment",
                           hint="Replace docker_env by python_env and list the packages of the image there.")
    entries = _mapping(data.get("entry_points"), file, "entry_points")
    return Project(
        file=file,
        name=str(data.get("name") or ""),
        entry_points={str(name): _entry_point(str(name), value, file) for name, value in entries.items()},
        python_env=_text(data.get("python_env"), file, "python_env"),
        conda_env=_text(data.get("conda_env"), file, "conda_env"),
    )


def load_mapping(text: str, file: str) -> dict[str, Any]:
    """Read a YAML file that must be a mapping; an empty file is an empty one.

    Raises:
        InvalidInput: It is not YAML (with line and column) or not a mapping.
    """
    return _mapping(load_yaml(text, file), file, "the file")


def _mapping(value: Any, file: str, what: str) -> dict[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInput(f"{file}: {what} must be a mapping (name: value), not {_kind(value)}")
    return value


def _text(value: Any, file: str, what: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidInput(f"{file}: {what} must be the path of a file, not {_kind(value)}")
    return value


def _entry_point(name: str, value: Any, file: str) -> EntryPoint:
    where = f"entry_points.{name}"
    spec = _mapping(value, file, where)
    command = spec.get("command")
    if not isinstance(command, str) or not command.strip():
        raise InvalidInput(f"{file}: {where} has no command",
                           hint='Add one, such as `command: "python train.py --alpha {alpha}"`.')
    parameters = _mapping(spec.get("parameters"), file, f"{where}.parameters")
    declared = tuple(_parameter(str(key), item, file, where) for key, item in parameters.items())
    entry = EntryPoint(name, command, declared)
    _check_placeholders(entry, file)
    return entry


def _parameter(name: str, value: Any, file: str, where: str) -> Parameter:
    """The long form is a mapping; the short one is the type alone, as in `data: path`."""
    if isinstance(value, str):
        return Parameter(name, value)
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{file}: {where}.parameters.{name} must be a type or a mapping with type and default, "
                           f"not {_kind(value)}")
    return Parameter(name, str(value.get("type") or "string"), value.get("default"))


def _check_placeholders(entry: EntryPoint, file: str) -> None:
    """The command is a format string: every field must be a declared parameter, or the run would fail at once."""
    where = f"{file}: entry_points.{entry.name}.command"
    try:
        fields = [name for _, name, _, _ in Formatter().parse(entry.command) if name is not None]
    except ValueError as error:
        raise InvalidInput(f"{where}: {error}", hint="Write literal braces twice: {{ and }}.") from None
    known = {parameter.name for parameter in entry.parameters}
    for name in fields:
        if name not in known:
            raise InvalidInput(f"{where} uses {{{name}}}, which is not among its parameters",
                               hint="Declare it under parameters, or write literal braces twice: {{ and }}.")


def _kind(value: Any) -> str:
    return {list: "a list", dict: "a mapping", str: "a text", bool: "true or false", int: "a number",
            float: "a number"}.get(type(value), type(value).__name__)
