"""`fuseml extension install|upgrade|uninstall`: changes of what is installed, planned first with `--dry-run`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from fuseml_core.cli.context import connect
from fuseml_core.cli.extension import ask
from fuseml_core.cli.extension_plan import permission_line, show_plan
from fuseml_core.cli.pairs import Pair
from fuseml_core.cli.render import echo, output_option, show_data

Command = TypeVar("Command", bound=Callable[..., Any])
#: Seconds that may pass between two lines of progress; building an environment downloads a lot silently.
PATIENCE = 3600.0
_MAX_LOCK = 4 << 20


def dry_run_option(command: Command) -> Command:
    """Decorator: the option `--dry-run` as argument `dry_run`."""
    return click.option("--dry-run", is_flag=True, help="Show what would be done, and change nothing.")(command)


def choice_options(command: Command) -> Command:
    """Decorator: which versions may be chosen, and from whom; as the keyword arguments of :func:`choice`."""
    for option in reversed((
            click.option("--channel", default="", metavar="NAME",
                         help="Channel of the marketplaces' catalogs; by default the one they prefer, mostly stable."),
            click.option("--pre", is_flag=True, help="Take pre-releases also where there are releases."),
            click.option("--offline", is_flag=True, help="Ask nothing but the server's own registry and what was "
                                                         "fetched before."),
            click.option("--allow-unsigned", is_flag=True, help="Install also what is not signed by anybody whom the "
                                                                "trust policy knows. It is written down."),
            click.option("--set", "settings", multiple=True, type=Pair(), metavar="NAME.KEY=VALUE",
                         help="Set a setting of the extension NAME together with the change. Repeatable."),
            click.option("--secret", "secrets", multiple=True, metavar="NAME.KEY",
                         help="The same for a secret, which is asked for, or read from standard input."))):
        command = option(command)
    return command


def choice(*, channel: str, pre: bool, offline: bool, allow_unsigned: bool,
           settings: tuple[tuple[str, str], ...], secrets: tuple[str, ...]) -> dict[str, Any]:
    """The options of :func:`choice_options` as members of a request."""
    values: dict[str, dict[str, str]] = {}
    for where, value in (*settings, *((where, ask(where)) for where in secrets)):
        name, dot, key = where.partition(".")
        if not dot or not name or not key:
            raise click.UsageError(f"--set {where}: write NAME.KEY, such as mlflow.port.")
        values.setdefault(name, {})[key] = value
    return {"channel": channel, "prereleases": pre, "offline": offline, "allow_unsigned": allow_unsigned,
            "settings": values}


@click.command("install")
@click.argument("references", nargs=-1)
@click.option("--locked", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
              help="Install exactly what this fuseml.lock says; REFERENCES are names in it, by default all.")
@choice_options
@dry_run_option
@output_option
def install(references: tuple[str, ...], locked: Path | None, dry_run: bool, output: str, **options: Any) -> None:
    """Install extensions, or other versions of them, while the server runs.

    REFERENCES are names (mlflow, mlflow:0.1.0), looked for in the server's own registry and then in the marketplaces,
    or oci://host/namespace/name:tag. What they depend on is installed, too. If anything fails, nothing has changed.
    """
    if not references and locked is None:
        raise click.UsageError("Name extensions to install, or a lock: --locked FILE.")
    body: dict[str, Any] = {"references": list(references), "dry_run": dry_run, **choice(**options)}
    if locked is not None:
        body["locked"] = _read(locked)
    carry_out(("extensions",), body, output, "install")


@click.command("upgrade")
@click.argument("names", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Everything that is installed.")
@choice_options
@dry_run_option
@output_option
def upgrade(names: tuple[str, ...], everything: bool, dry_run: bool, output: str, **options: Any) -> None:
    """Upgrade the extensions NAMES to the best versions that everything installed can live with."""
    if bool(names) == everything:
        raise click.UsageError("Name extensions to upgrade, or write --all.")
    for name in names:
        if ":" in name:
            raise click.UsageError(f"`upgrade` takes names, and chooses the versions. For the one of {name}: "
                                   f"fuseml extension install {name}")
    body = {"names": list(names), "all": everything, "dry_run": dry_run, **choice(**options)}
    carry_out(("extension-generations", "upgrade"), body, output, "upgrade")


@click.command("uninstall")
@click.argument("names", nargs=-1, required=True)
@click.option("--force", is_flag=True, help="Even if other extensions or pipelines use them.")
@click.option("--prune", is_flag=True, help="Also dependencies that nobody asked for and nothing else needs.")
@click.option("--drain", type=click.FloatRange(min=0, max=86_400), default=0.0, metavar="SECONDS",
              help="Give them nothing new and wait so long for what goes on with them.")
@dry_run_option
@output_option
def uninstall(*, names: tuple[str, ...], force: bool, prune: bool, drain: float, dry_run: bool, output: str) -> None:
    """Uninstall the extensions NAMES while the server runs. Their settings are dropped."""
    if drain and not dry_run:
        echo(f"waiting at most {drain:g} s for the end of what goes on with {', '.join(names)}", err=True)
    done = connect().delete("extensions", ",".join(names), timeout=PATIENCE + drain,
                            query={"force": force, "prune": prune, "dry_run": dry_run, "drain": drain})
    if output != "table" or dry_run:
        show_plan(done, output)
        return
    for warning in done["plan"]["warnings"]:
        echo(f"note: {warning}", err=True)
    for change in done["plan"]["changes"]:
        echo(f"Extension {change['name']} is uninstalled.")


def carry_out(path: tuple[str, ...], body: dict[str, Any], output: str, what: str) -> None:
    """Ask the server for a change, show its progress, then what has come of it.

    Args:
        path: Segments of the URL.
        body: The request.
        output: `table`, `json` or `yaml`.
        what: Word for messages, such as `upgrade`.
    """
    result: dict[str, Any] = {}
    for event in connect().stream(*path, body=body, timeout=PATIENCE):
        if event.get("event") == "progress":
            echo(str(event.get("text", "")), err=True)
        elif event.get("event") == "result":
            result = {name: event[name] for name in ("plan", "generation", "extensions")}
    if not result:
        from fuseml_core.domain.errors import Unavailable

        raise Unavailable(f"The server ended the {what} without a result.",
                          hint="See: fuseml extension history, fuseml server logs")
    if body.get("dry_run"):
        show_plan(result, output)
    elif output != "table":
        show_data(result, output)
    else:
        _show_result(result)


def _show_result(result: dict[str, Any]) -> None:
    installed = {item["name"]: item for item in result["extensions"]}
    for change in result["plan"]["changes"]:
        item = installed.get(change["name"])
        if item is None:
            echo(f"Extension {change['name']} {change['from']} is not installed any more.")
            continue
        echo(f"Extension {item['name']} {item['version']} is {_standing(item['state'])}.")
        for permission in change["permissions"]["added"]:
            echo(permission_line(permission))
        if item.get("templates"):
            echo("Templates: " + ", ".join(item["templates"]))
    if not result["plan"]["changes"]:
        echo(f"Nothing changed: generation {result['generation']} has all of it.")


def _standing(state: str) -> str:
    """What an extension is after a change, for a sentence: one in safe mode is installed and not loaded."""
    return state if state in ("active", "disabled") else f"installed and not loaded ({state})"


def _read(path: Path) -> str:
    if path.stat().st_size > _MAX_LOCK:
        raise click.UsageError(f"{path} is too large for a lock.")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{path} cannot be read: {error}") from None
