"""Commands of the registry: below `fuseml registry`, and as `fuseml-registry` where FuseML is not installed."""

from __future__ import annotations

import sys


def main(arguments: list[str] | None = None) -> None:
    """Run `fuseml-registry`; ends the process with 2 when the command line is wrong, 1 when the work failed.

    Args:
        arguments: What was typed; by default that of the process.
    """
    import click

    from fuseml_registry.commands.gc import gc
    from fuseml_registry.commands.serve import serve
    from fuseml_registry.commands.user import user
    from fuseml_sdk.errors import PluginError

    group = click.Group("fuseml-registry", commands=[serve, gc, user], help="A registry of OCI artifacts.")
    try:
        group.main(arguments, prog_name="fuseml-registry")
    except PluginError as error:
        click.echo(f"Error: {error.message}", err=True)
        if error.hint:
            click.echo(f"  {error.hint}", err=True)
        sys.exit(2 if error.type == "invalid-input" else 1)
