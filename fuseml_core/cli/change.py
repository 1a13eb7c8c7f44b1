"""`fuseml change`: everything that follows from one root event, such as a push."""

from __future__ import annotations

import click

from fuseml_core.cli.cells import duration
from fuseml_core.cli.context import connect
from fuseml_core.cli.follow import follow, say_decisions, timeout_option
from fuseml_core.cli.render import echo, output_option, show_data, table


@click.group()
def change() -> None:
    """Look at everything that follows from one push or other root event."""


@change.command("watch")
@click.argument("identifier", metavar="ID")
@timeout_option
def watch(identifier: str, timeout: float | None) -> None:
    """Print the steps of the change ID as they happen until all its runs have ended."""
    follow(connect(), identifier, timeout=timeout)


@change.command("get")
@click.argument("identifier", metavar="ID")
@output_option
def get(identifier: str, output: str) -> None:
    """Show the runs and decisions of the change ID."""
    found = connect().get("changes", identifier, query={"after": 0})
    if output != "table":
        show_data(found, output)
        return
    echo(f"Change {found['id']} is {found['state']}.")
    say_decisions(found.get("decisions") or [])
    if found.get("runs"):
        echo("\n" + table(["Run", "State", "Duration"],
                          [[run["name"], run["state"], duration(run) or "-"] for run in found["runs"]]))
