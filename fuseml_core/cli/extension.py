"""`fuseml extension`: what is installed on the server, and its settings."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from fuseml_core.cli.cells import moment
from fuseml_core.cli.context import connect
from fuseml_core.cli.extension_plan import enforcement, limit_line
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


def _schema(schema: dict[str, Any]) -> list[str]:
    """The settings that an extension declares, one line each."""
    lines = []
    for key, rule in (schema.get("properties") or {}).items():
        facts = [str(rule.get("type") or "")] if isinstance(rule, dict) else []
        if isinstance(rule, dict):
            facts += ["secret"] if rule.get("writeOnly") else []
            facts += [f"default {json.dumps(rule['default'])}"] if "default" in rule else []
        facts += ["required"] if key in (schema.get("required") or []) else []
        about = f": {rule['description']}" if isinstance(rule, dict) and rule.get("description") else ""
        lines.append(f"{key} ({', '.join(filter(None, facts)) or 'any'}){about}")
    return lines


def _scorecard(item: dict[str, Any]) -> list[str]:
    from fuseml_core.cli.extension_scorecard import lines

    return lines(item)


def _generation(item: dict[str, Any]) -> str:
    asked = "asked for" if item.get("requested") else f"needed by {', '.join(item.get('dependents') or [])}"
    return f"{item.get('generation')}; this version since {item.get('since')}, {asked}"


COLUMNS: list[Column] = [
    ("Name", "name"), ("Version", "version"), ("State", "state"), ("Components", _components),
    ("Templates", "templates"), ("Summary", "summary"),
]
ITEM: list[Column] = [
    ("Name", "name"), ("Version", "version"), ("Summary", "summary"), ("State", "state"),
    ("Disabled since", lambda item: moment(item["disabled_since"]) if item.get("disabled_since") else ""),
    ("Installed", lambda item: moment(item.get("installed_at"))), ("Source", "source"), ("Digest", "digest"),
    ("Depends on", lambda item: [f"{d['name']} {d.get('range') or '*'}" for d in item.get("dependencies") or []]),
    ("Components", _components), ("Runnables", "runnables"), ("Templates", "templates"),
    ("Settings", _settings), ("Settings there are", lambda item: _schema(item.get("config_schema") or {})),
    ("Permissions", lambda item: [f"{p['name']} ({enforcement(p)}): {p['reason']}"
                                  for p in item.get("permissions") or []]),
    ("Limits", lambda item: [limit_line(limit) for limit in item.get("limits") or []]),
    ("Trusted because", lambda item: (item.get("trust") or {}).get("reason")),
    ("Signed by", lambda item: (item.get("trust") or {}).get("signers")),
    ("Scorecard", _scorecard),
    ("Channel", "channel"), ("Generation", _generation),
    ("Needed by", "dependents"), ("Versions here", "versions"), ("Advice", "advice"), ("Trouble", "trouble"),
]


#: Commands in other modules: imported only when they are used.
ELSEWHERE: dict[str, tuple[str, str]] = {
    "search": ("fuseml_core.cli.marketplace:search", "Search for extensions to install."),
    "install": ("fuseml_core.cli.extension_changes:install", "Install extensions, or other versions of them."),
    "upgrade": ("fuseml_core.cli.extension_changes:upgrade", "Upgrade extensions."),
    "uninstall": ("fuseml_core.cli.extension_changes:uninstall", "Uninstall extensions."),
    "disable": ("fuseml_core.cli.extension_switch:disable", "Load and offer nothing of an extension any more."),
    "enable": ("fuseml_core.cli.extension_switch:enable", "Load and offer a disabled extension again."),
    "rollback": ("fuseml_core.cli.extension_generations:rollback", "Go back to an earlier generation."),
    "history": ("fuseml_core.cli.extension_generations:history", "Show the generations that are kept."),
    "lock": ("fuseml_core.cli.extension_generations:lock", "Write down exactly what is installed."),
    "diff": ("fuseml_core.cli.extension_care:diff", "Compare versions, generations or references."),
    "verify": ("fuseml_core.cli.extension_care:verify", "Check that what is installed is what was installed."),
    "doctor": ("fuseml_core.cli.extension_care:doctor", "Check this machine, the server and what is installed."),
    "gc": ("fuseml_core.cli.extension_care:gc", "Remove what nothing needs any more."),
    "export": ("fuseml_core.cli.extension_archives:export", "Put extensions into a file for another machine."),
    "import": ("fuseml_core.cli.extension_archives:import_", "Install extensions from such a file."),
}


class _Group(click.Group):
    """A group that shows commands of other modules without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands."""
        return sorted({*super().list_commands(ctx), *ELSEWHERE})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command named; None if there is none."""
        if cmd_name not in ELSEWHERE:
            return super().get_command(ctx, cmd_name)
        from importlib import import_module

        module, _, attribute = ELSEWHERE[cmd_name][0].partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands."""
        here = {name: command.get_short_help_str(70) for name, command in self.commands.items()}
        with formatter.section("Commands"):
            formatter.write_dl(sorted((here | {name: short for name, (_, short) in ELSEWHERE.items()}).items()))


@click.group(cls=_Group)
def extension() -> None:
    """Install, upgrade, roll back, list, inspect, configure and uninstall extensions."""


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
    """Show the extension NAME: components, runnables, templates, settings, where it came from.

    Of an extension that is not installed, what this server's registry or a marketplace says about it.
    """
    from fuseml_core.cli.extension_scorecard import scorecards
    from fuseml_core.domain.errors import NotFound

    client = connect()
    try:
        found = client.get("extensions", name)
        show_item({**found, "scorecards": scorecards(client, found)}, output, ITEM)
    except NotFound as missing:
        from fuseml_core.cli.marketplace import OFFER

        try:
            offer = client.get("offers", name)
        except NotFound:
            raise missing from None
        show_item(offer, output, OFFER)


@extension.command("configure")
@click.argument("name")
@click.argument("settings", nargs=-1, type=Pair(), metavar="[KEY=VALUE]...")
@click.option("--secret", "secrets", multiple=True, metavar="KEY",
              help="Set KEY to a line that is asked for, or read from standard input. Repeatable.")
@click.option("--unset", "unset", multiple=True, metavar="KEY", help="Drop the value of KEY. Repeatable.")
@click.option("--limit", "limits", multiple=True, type=Pair(), metavar="LIMIT=VALUE",
              help="Limit each of its components to so much memory (512Mi), open_files, processes or file_size; an "
                   "empty VALUE leaves it to the manifest again. Repeatable.")
@output_option
def configure(*, name: str, settings: tuple[tuple[str, str], ...], secrets: tuple[str, ...], unset: tuple[str, ...],
              limits: tuple[tuple[str, str], ...], output: str) -> None:
    """Change settings and limits of the extension NAME while the server runs; without any, show them.

    Secrets are not taken as KEY=VALUE, because everybody on the machine can read the arguments of a process.
    """
    client = connect()
    known = client.get("extensions", name, "config")
    values = as_mapping(settings, "The setting")
    for key in values:
        if key in known["secrets"]:
            raise click.UsageError(f"{key} is a secret: write --secret {key} and give its value when asked.")
    values |= {key: ask(key) for key in secrets}
    bounds = as_mapping(limits, "The limit")
    if values or unset or bounds:
        body = {"set": values, "unset": list(unset), "limits": bounds}
        known = client.put("extensions", name, "config", body=body, timeout=_PATIENCE)
    if output != "table":
        show_data(known, output)
        return
    declared = known["schema"].get("properties") or {}
    for line in _settings(known) or [f"No setting of {name} has a value." if declared else f"{name} has no settings."]:
        echo(line)
    free = sorted(set(declared) - set(known["settings"]))
    if free:
        echo(f"Not set: {', '.join(free)}")
    for limit, value in known["limits"].items():
        echo(f"limit {limit}: {value}")
    for warning in known["warnings"]:
        echo(f"note: {warning}", err=True)


def ask(key: str) -> str:
    """A secret, typed unseen or read from standard input, one line each."""
    if sys.stdin.isatty():
        return str(click.prompt(key, hide_input=True, err=True))
    line = sys.stdin.readline()
    if not line.strip():
        raise click.UsageError(f"Standard input has no line for the secret {key}.")
    return line.rstrip("\r\n")


