"""Options that the registry's commands share, and the configuration that comes of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
import yaml

from fuseml_registry.configuration import Configuration, configure, read_file
from fuseml_sdk.errors import InvalidInput

Command = TypeVar("Command", bound=Callable[..., Any])
#: Prefix of the environment variables; `FUSEML_REGISTRY_SERVE_ROOT` is the option `--root`.
PREFIX = "FUSEML_REGISTRY_SERVE"


def option(name: str, **more: Any) -> Callable[[Command], Command]:
    """An option that an environment variable can give too."""
    variable = f"{PREFIX}_{name.removeprefix('--').upper().replace('-', '_')}"
    return click.option(name, envvar=variable, show_envvar=True, default=None, **more)


def place_options(command: Command) -> Command:
    """Decorator: `--config` and `--root`."""
    command = option("--root", type=click.Path(path_type=Path, file_okay=False),
                     help="Directory of everything the registry keeps.")(command)
    return option("--config", type=click.Path(path_type=Path, dir_okay=False),
                  help="TOML file with the configuration.")(command)


def output_option(command: Command) -> Command:
    """Decorator: `--output table|json|yaml`."""
    return click.option("--output", "-o", type=click.Choice(["table", "json", "yaml"]), default="table",
                        show_default=True, help="How to print.")(command)


def read_configuration(file: Path | None, given: Mapping[str, Any]) -> Configuration:
    """Put the file's values and those of options together; options win.

    Args:
        file: TOML file.
        given: Values by their dotted name, such as `listen.port`; None leaves the file's.

    Raises:
        InvalidInput: Something is wrong or missing.
    """
    values = read_file(file) if file else {}
    for name, value in given.items():
        if value is None:
            continue
        table, _, key = name.rpartition(".")
        part = values.setdefault(table, {}) if table else values
        if not isinstance(part, dict):
            raise InvalidInput(f"{file}: {table} must be a table")
        part[key] = value
    if "root" not in values:
        raise InvalidInput("the registry needs a directory",
                           hint=f"give --root DIR, {PREFIX}_ROOT, or root in the file of --config")
    return configure(values, source=str(file) if file else "options")


def show(data: Any, output: str) -> None:
    """Print data as JSON or YAML."""
    click.echo(yaml.safe_dump(data, sort_keys=False).rstrip("\n") if output == "yaml" else json.dumps(data, indent=2))
