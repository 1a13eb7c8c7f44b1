"""Kinds of arguments that click lacks: `NAME=VALUE`, and folders."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


class Pair(click.ParamType[Any]):
    """`NAME=VALUE`; the value may contain `=` and may be empty."""

    name = "NAME=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Split at the first `=`; a value that is a pair already is kept."""
        if isinstance(value, tuple):
            return value
        name, equals, rest = str(value).partition("=")
        if not equals or not _NAME.fullmatch(name):
            self.fail(f"{value!r} is not of the form NAME=VALUE.", param, ctx)
        return name, rest


class Folder(click.Path):
    """The path of a folder; whether it exists is checked where it is read."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: str | os.PathLike[str], param: click.Parameter | None,
                ctx: click.Context | None) -> str | bytes | os.PathLike[str]:
        """Refuse an empty path, which an unset variable of a shell leaves; it would mean the current folder."""
        if not os.fspath(value):
            self.fail("it is empty; write . for the current folder.", param, ctx)
        return super().convert(value, param, ctx)


def binding_options(command: Command) -> Command:
    """Decorator: the options `--input` and `--param`, each repeatable, as arguments `inputs` and `params`."""
    command = click.option("--param", "--parameter", "params", type=Pair(), multiple=True,
                           help="Value of a parameter; its type is the template's. Repeatable.")(command)
    return click.option("--input", "inputs", type=Pair(), multiple=True,
                        help="Artifact, or pattern such as 'code://*', for an input. Repeatable.")(command)


def as_mapping(pairs: Sequence[tuple[str, str]], option: str) -> dict[str, str]:
    """The pairs as a mapping.

    Raises:
        click.UsageError: A name is given twice.
    """
    mapping: dict[str, str] = {}
    for name, value in pairs:
        if name in mapping:
            raise click.UsageError(f"{option} {name} is given twice.")
        mapping[name] = value
    return mapping
