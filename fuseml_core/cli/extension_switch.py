"""`fuseml extension disable|enable`: take an extension out of use without uninstalling it."""

from __future__ import annotations

import click

from fuseml_core.cli.context import connect
from fuseml_core.cli.render import echo, output_option, show_data

#: Seconds that calls in flight may take to end, or components to start.
_PATIENCE = 600.0


@click.command("disable")
@click.argument("name")
@output_option
def disable(name: str, output: str) -> None:
    """Load and offer nothing of the extension NAME any more, until it is enabled.

    Its processes end; its templates and runnables cannot be used for new pipelines. Pipelines that are there go on with
    the version they were added with, and its agents look after the workloads that they run, but take no new ones.
    """
    done = connect().post("extensions", name, "disable", timeout=_PATIENCE, repeatable=True)
    if output != "table":
        show_data(done, output)
        return
    for note in done["notes"]:
        echo(f"note: {note}", err=True)
    echo(f"Extension {name} {done['version']} is disabled. Enable it: fuseml extension enable {name}")


@click.command("enable")
@click.argument("name")
@output_option
def enable(name: str, output: str) -> None:
    """Load and offer the extension NAME again, once its components work."""
    done = connect().post("extensions", name, "enable", timeout=_PATIENCE, repeatable=True)
    if output != "table":
        show_data(done, output)
        return
    echo(f"Extension {name} {done['version']} is active.")
