"""`fuseml project`: the spaces in which codesets, pipelines and services live."""

from __future__ import annotations

import click

from fuseml_core.cli.cells import moment
from fuseml_core.cli.context import choose_project, connect, current_project, enter, project_option, resolve_project
from fuseml_core.cli.render import Column, output_option, show_item, show_list

COLUMNS: list[Column] = [
    ("Name", "name"),
    ("Codesets", "codesets"),
    ("Pipelines", "pipelines"),
    ("Services", "services"),
    ("Created", lambda item: moment(item.get("created_at"))),
    ("Stores", lambda item: [f"{kind}: {store}" for kind, store in item.get("stores", {}).items()]),
    ("Description", "description"),
]


@click.group()
def project() -> None:
    """Create, choose, list and delete projects."""


@project.command("create")
@click.argument("name")
@click.option("--description", default="", help="What the project is for.")
@output_option
def create(name: str, description: str, output: str) -> None:
    """Create the project NAME. Choose it with `fuseml project set NAME`."""
    made = connect().post("projects", body={"name": name, "description": description})
    if output == "table":
        click.echo(f"Project {name} created.")
    else:
        show_item(made, output, COLUMNS)


@project.command("set")
@click.argument("name")
def set_(name: str) -> None:
    """Make NAME the project that the following commands work in."""
    client = connect()
    client.get("projects", name)
    choose_project(client.settings, name)
    click.echo(f"Commands now work in project {name}.")


@project.command("list")
@output_option
def list_(output: str) -> None:
    """List the projects; the current one is marked with `*`."""
    client = connect()
    current = current_project(client.settings)
    mark: Column = ("Name", lambda item: item["name"] + (" *" if item["name"] == current else ""))
    show_list(client.get("projects"), output, [mark, *COLUMNS[1:]],
              empty="There are no projects. Make one: fuseml project create NAME")


@project.command("get")
@click.argument("name", required=False)
@output_option
def get(name: str | None, output: str) -> None:
    """Show the project NAME, by default the current one."""
    client = connect()
    show_item(client.get("projects", name or resolve_project(client, None)), output, COLUMNS)


@project.command("store")
@click.argument("kind")
@click.argument("store", required=False)
@click.option("--built-in", is_flag=True, help="Go back to the store that the server has by itself.")
@project_option
@output_option
def store_(kind: str, store: str | None, built_in: bool, project: str | None, output: str) -> None:
    """Keep new artifacts of KIND (model, dataset, …) in STORE, a store of an extension such as shelf/shelf.

    What the project has already stays where it lies, and is found there.
    """
    if built_in == bool(store):
        raise click.UsageError("Name a store, or say --built-in.")
    client, name = enter(project)
    changed = client.put("projects", name, "stores", kind, body={"store": store or ""}, timeout=150.0)
    if output != "table":
        show_item(changed, output, COLUMNS)
    elif store:
        click.echo(f"New {kind}s of project {name} are kept in {store}.")
    else:
        click.echo(f"New {kind}s of project {name} are kept in the built-in store.")


@project.command("delete")
@click.argument("name")
@click.option("--force", is_flag=True, help="Delete what is in it too: codesets, pipelines, services, artifacts.")
def delete(name: str, force: bool) -> None:
    """Delete the project NAME. Refused while there is something in it, unless forced."""
    client = connect()
    client.delete("projects", name, query={"force": force}, timeout=120.0)
    if current_project(client.settings) == name:
        choose_project(client.settings, None)
    click.echo(f"Project {name} deleted.")
