"""`fuseml extension`: what is installed on the server, and its settings."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from fuseml_core.cli.cells import moment
from fuseml_core.cli.context import connect
from fuseml_core.cli.pairs import Pair, as_mapping
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


def _settings(item: dict[str, Any]) -> list[str]:
    values = item.get("settings") or {}
    ignored = item.get("ignored") or {}
    return [f"{key}: {value if isinstance(value, str) else json.dumps(value)}" for key, value in values.items()] + [
        f"{key}: ignored: {why}" for key, why in ignored.items()]


COLUMNS: list[Column] = [
    ("Name", "name"), ("Version", "version"), ("State", "state"), ("Components", _components),
    ("Templates", "templates"), ("Summary", "summary"),
]
ITEM: list[Column] = [
    ("Name", "name"), ("Version", "version"), ("Summary", "summary"), ("State", "state"),
    ("Installed", lambda item: moment(item.get("installed_at"))), ("Source", "source"), ("Digest", "digest"),
    ("Depends on", lambda item: [f"{d['name']} {d.get('range') or '*'}" for d in item.get("dependencies") or []]),
    ("Components", _components), ("Runnables", "runnables"), ("Templates", "templates"),
    ("Settings", _settings),
    ("Permissions", lambda item: [f"{p['name']}: {p['reason']}" for p in item.get("permissions") or []]),
]


@click.group()
def extension() -> None:
    """Install, list, inspect, configure and uninstall extensions."""


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
    """Show the extension NAME: components, runnables, templates, settings, where it came from."""
    show_item(connect().get("extensions", name), output, ITEM)


@extension.command("configure")
@click.argument("name")
@click.argument("settings", nargs=-1, type=Pair(), metavar="[KEY=VALUE]...")
@click.option("--secret", "secrets", multiple=True, metavar="KEY",
              help="Set KEY to a line that is asked for, or read from standard input. Repeatable.")
@click.option("--unset", "unset", multiple=True, metavar="KEY", help="Drop the value of KEY. Repeatable.")
@output_option
def configure(name: str, settings: tuple[tuple[str, str], ...], secrets: tuple[str, ...], unset: tuple[str, ...],
              output: str) -> None:
    """Change settings of the extension NAME while the server runs; without any, show them.

    Secrets are not taken as KEY=VALUE, because everybody on the machine can read the arguments of a process.
    """
    client = connect()
    known = client.get("extensions", name, "config")
    values = as_mapping(settings, "The setting")
    for key in values:
        if key in known["secrets"]:
            raise click.UsageError(f"{key} is a secret: write --secret {key} and give its value when asked.")
    values |= {key: _ask(key) for key in secrets}
    if values or unset:
        body = {"set": values, "unset": list(unset)}
        known = client.put("extensions", name, "config", body=body, timeout=_PATIENCE)
    if output != "table":
        show_data(known, output)
        return
    for line in _settings(known) or [f"No setting of {name} has a value."]:
        echo(line)
    free = sorted(set(known["schema"].get("properties") or {}) - set(known["settings"]))
    if free:
        echo(f"Not set: {', '.join(free)}")


def _ask(key: str) -> str:
    """A secret, typed unseen or read from standard input, one line each."""
    if sys.stdin.isatty():
        return str(click.prompt(key, hide_input=True, err=True))
    line = sys.stdin.readline()
    if not line.strip():
        raise click.UsageError(f"Standard input has no line for the secret {key}.")
    return line.rstrip("\r\n")


@extension.command("uninstall")
@click.argument("name")
@click.option("--force", is_flag=True, help="Even if other extensions or pipelines use it.")
def uninstall(name: str, force: bool) -> None:
    """Uninstall the extension NAME while the server runs."""
    connect().delete("extensions", name, query={"force": force}, timeout=120.0)
    echo(f"Extension {name} is uninstalled.")
