"""`fuseml plugin list`: the plugins of the server, where they run and what they are doing."""

from __future__ import annotations

import click

from fuseml_core.cli.agent import COLUMNS
from fuseml_core.cli.context import connect
from fuseml_core.cli.render import output_option, show_list


@click.command("list")
@output_option
def list_(output: str) -> None:
    """List plugins with their state, process and last crash; starts none of them."""
    show_list(connect().get("agents"), output, COLUMNS, empty="There are no plugins.")
