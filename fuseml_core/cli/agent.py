"""`fuseml agent`: the components of extensions, where they run and what they are doing."""

from __future__ import annotations

import click

from fuseml_core.cli.cells import moment
from fuseml_core.cli.context import connect
from fuseml_core.cli.render import Column, output_option, show_list


def _extension(item: dict[str, object]) -> str:
    return " ".join(str(item[key]) for key in ("extension", "version") if item.get(key)) or "built in"


COLUMNS: list[Column] = [
    ("Name", "name"), ("Family", "family"), ("Extension", _extension), ("Hosting", "hosting"),
    ("State", "state"), ("PID", "pid"), ("Kinds", lambda item: ", ".join(item.get("kinds") or [])),
    ("Restarts", "restarts"), ("Last crash", lambda item: _crash(item.get("last_crash"))),
]


@click.group()
def agent() -> None:
    """Look at the components of extensions: workload agents, artifact stores, builders."""


@agent.command("list")
@output_option
def list_(output: str) -> None:
    """List components with their state, process and last crash."""
    show_list(connect().get("agents"), output, COLUMNS, empty="There are no components.")


def _crash(crash: object) -> str:
    if isinstance(crash, dict):
        parts = [moment(crash.get("at")), str(crash.get("reason") or crash.get("message") or "")]
        return " ".join(part for part in parts if part)
    return str(crash or "")
