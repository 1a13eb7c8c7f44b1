"""`fuseml plugin new`: the project of a plugin that works at once, without a server and without a network."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from fuseml_core.cli.render import echo, output_option, show_data


@click.command("new")
@click.argument("family", type=click.Choice(["store", "agent", "builder"]))
@click.argument("name")
@click.option("--directory", "-d", type=click.Path(path_type=Path), help="Where to; by default a folder NAME.")
@output_option
def new(family: str, name: str, directory: Path | None, output: str) -> None:
    """Begin the plugin NAME: an artifact store, a workload agent or a builder.

    What is made can be tested, linted, built, pushed and installed as it is. A folder in which there is something is
    left alone.
    """
    from fuseml_oci.bundles.scaffold import create

    folder = directory or Path(name)
    made = [path.relative_to(folder).as_posix() for path in create(folder, name, family)]
    if output != "table":
        show_data({"folder": str(folder), "family": family, "files": made}, output)
        return
    module, typed = name.replace("-", "_"), shlex.quote(str(folder))
    echo(f"Made {folder}; what you change is src/{module}/__init__.py:")
    echo("\n".join(f"  {path}" for path in made))
    echo(f"\nRun it while you write:  fuseml plugin dev {typed}")
    echo(f"Test it:                 fuseml plugin test {typed}")
    echo(f"Try it at the server:    fuseml bundle push {typed} --dev")
