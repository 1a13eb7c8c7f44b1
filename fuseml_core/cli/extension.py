"""`fuseml extension`: what is installed on the server."""

from __future__ import annotations

from typing import Any

import click

from fuseml_core.cli.cells import moment
from fuseml_core.cli.context import connect
from fuseml_core.cli.render import Column, echo, output_option, show_data, show_item, show_list

#: Seconds that may pass between two lines of progress; building an environment downloads a lot silently.
_PATIENCE = 3600.0


def _components(item: dict[str, Any]) -> list[str]:
    lines = []
    for component in item.get("components") or []:
        process = f", process {component['pid']}" if component.get("pid") else ""
        restarts = f", restarted {component['restarts']} times" if component.get("restarts") else ""
        lines.append(f"{component['family']} {component['name']}: {component['state']}{process}{restarts}")
        if component.get("last_crash"):
            lines.append(f"  last crash: {component['last_crash']}")
    return lines


COLUMNS: list[Column] = [
    ("Name", "name"), ("Version", "version"), ("State", "state"), ("Components", _components),
    ("Templates", "templates"), ("Summary", "summary"),
]
ITEM: list[Column] = [
    ("Name", "name"), ("Version", "version"), ("Summary", "summary"), ("State", "state"),
    ("Installed", lambda item: moment(item.get("installed_at"))), ("Source", "source"), ("Digest", "digest"),
    ("Depends on", lambda item: [f"{d['name']} {d.get('range') or '*'}" for d in item.get("dependencies") or []]),
    ("Components", _components), ("Runnables", "runnables"), ("Templates", "templates"),
    ("Permissions", lambda item: [f"{p['name']}: {p['reason']}" for p in item.get("permissions") or []]),
]


@click.group()
def extension() -> None:
    """Install, list, inspect and uninstall extensions."""


@extension.command("install")
@click.argument("reference")
@click.option("--allow-unsigned", is_flag=True, help="Install from a registry that the server does not trust.")
@output_option
def install(reference: str, allow_unsigned: bool, output: str) -> None:
    """Install an extension, or upgrade to another version of it, while the server runs.

    REFERENCE is a name in the server's own registry (mlflow, mlflow:0.1.0) or oci://host/namespace/name:tag.
    """
    body = {"reference": reference, "allow_unsigned": allow_unsigned}
    result: dict[str, Any] = {}
    for event in connect().stream("extensions", body=body, timeout=_PATIENCE):
        if event.get("event") == "progress":
            echo(str(event.get("text", "")), err=True)
        elif event.get("event") == "result":
            result = event["extension"]
    if not result:
        from fuseml_core.domain.errors import Unavailable

        raise Unavailable("The server ended the installation without a result.",
                          hint="See: fuseml extension list, fuseml server logs")
    if output != "table":
        show_data(result, output)
        return
    echo(f"Extension {result['name']} {result['version']} is {result['state']}.")
    for permission in result.get("permissions") or []:
        echo(f"It may use {permission['name']}: {permission['reason']}")
    if result.get("templates"):
        echo("Templates: " + ", ".join(result["templates"]))


@extension.command("list")
@output_option
def list_(output: str) -> None:
    """List installed extensions."""
    show_list(connect().get("extensions"), output, COLUMNS,
              empty="No extension is installed. Install one: fuseml extension install REFERENCE")


@extension.command("info")
@click.argument("name")
@output_option
def info(name: str, output: str) -> None:
    """Show the extension NAME: components, runnables, templates, where it came from."""
    show_item(connect().get("extensions", name), output, ITEM)


@extension.command("uninstall")
@click.argument("name")
@click.option("--force", is_flag=True, help="Even if other extensions or pipelines use it.")
def uninstall(name: str, force: bool) -> None:
    """Uninstall the extension NAME while the server runs."""
    connect().delete("extensions", name, query={"force": force}, timeout=120.0)
    echo(f"Extension {name} is uninstalled.")
