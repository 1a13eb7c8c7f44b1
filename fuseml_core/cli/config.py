"""`fuseml config`: the settings in force."""

from __future__ import annotations

import os
import re
from typing import Any

import click

from fuseml_core.cli.render import output_option, show_data, show_list

#: Settings that follow from others and have no variable of their own.
DERIVED = ("runtime_dir",)
_CREDENTIALS = re.compile(r"://[^/@\s]+@")


@click.group()
def config() -> None:
    """Look at the settings in force."""


@config.command("show")
@output_option
def show(output: str) -> None:
    """Show every setting, its value and the environment variable that sets it; starts no server."""
    import dataclasses

    from fuseml_core.cli.context import current_project
    from fuseml_core.settings import from_environment

    settings = from_environment()
    values = {field.name: plain(getattr(settings, field.name)) for field in dataclasses.fields(settings)}
    values["current_project"] = current_project(settings) or ""
    if output != "table":
        show_data(values, output)
        return
    show_list([_row(name, value) for name, value in values.items()], output,
              [("Setting", "name"), ("Value", "value"), ("From", "source")])


def plain(value: Any) -> Any:
    """A value for people and JSON: paths as text, credentials in URLs left out."""
    if isinstance(value, tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, bool | int | float) or value is None:
        return value
    return _CREDENTIALS.sub("://***@", str(value))


def _row(name: str, value: Any) -> dict[str, Any]:
    variable = f"FUSEML_{name.upper()}"
    if name == "current_project":
        source = "fuseml project set"
    elif name in DERIVED:
        source = "follows from home"
    else:
        source = variable if os.environ.get(variable) else f"default ({variable})"
    return {"name": name, "value": str(value) if not isinstance(value, list) else value, "source": source}
