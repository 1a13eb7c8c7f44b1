"""`fuseml agent`: the agents that extensions bring, which are plugins; see `fuseml plugin` for more about them."""

from __future__ import annotations

import click

from fuseml_core.cli.plugin_show import list_


@click.group()
def agent() -> None:
    """Look at the components of extensions: workload agents, artifact stores, builders."""


agent.add_command(list_, "list")
