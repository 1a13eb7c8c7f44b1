"""Commands of the registry: below `fuseml registry`, and as `fuseml-registry` where FuseML is not installed."""

from __future__ import annotations

import sys


def main() -> None:
    """Run `fuseml-registry`."""
    import click

    from fuseml_registry.commands.gc import gc
    from fuseml_registry.commands.serve import serve
    from fuseml_registry.commands.user import user
    from fuseml_sdk.errors import PluginError

    group = click.Group("fuseml-registry", commands=[serve, gc, user], help="A registry of OCI artifacts.")
    try:
        group(standalone_mode=True)
    except PluginError as error:
        click.echo(f"Error: {error.message}", err=True)
        if error.hint:
            click.echo(f"  {error.hint}", err=True)
        sys.exit(2 if error.type == "invalid-input" else 1)
