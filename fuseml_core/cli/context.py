"""What the CLI remembers between commands: the current project, one for each server it talks to."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fuseml_core.domain.errors import Conflict, Invalid, NotFound

if TYPE_CHECKING:
    from fuseml_core.cli.client import Client
    from fuseml_core.settings import Settings

Command = TypeVar("Command", bound=Callable[..., Any])
#: Project used when none was chosen; made on first use.
DEFAULT_PROJECT = "default"
#: Key for the local server; remote ones are kept under their URL.
LOCAL = "local"


def project_option(command: Command) -> Command:
    """Decorator: give a command the option `--project/-p` as its argument `project` (None: the current one)."""
    return click.option("--project", "-p", envvar="FUSEML_PROJECT", metavar="NAME",
                        help="Project; by default the one chosen by `fuseml project set`, else `default`.")(command)


def connect() -> Client:
    """A client for the server; its module is imported here, so that help does not pay for it."""
    from fuseml_core.cli.client import connect as connect_now

    return connect_now()


def enter(option: str | None) -> tuple[Client, str]:
    """A client, and the project that a command with `--project OPTION` works in (see `resolve_project`)."""
    client = connect()
    return client, resolve_project(client, option)


def current_project(settings: Settings) -> str | None:
    """The project chosen by `fuseml project set` for this server, if any.

    Raises:
        Invalid: The file that holds it cannot be read.
    """
    name = _read(settings).get(settings.url or LOCAL)
    return name if isinstance(name, str) and name else None


def choose_project(settings: Settings, name: str | None) -> None:
    """Remember a project as the current one for this server; None forgets it. The file is replaced at once."""
    from fuseml_sdk.durable import write_durably

    projects = _read(settings)
    projects.pop(settings.url or LOCAL, None)
    if name is not None:
        projects[settings.url or LOCAL] = name
    settings.home.mkdir(parents=True, exist_ok=True)
    path = settings.path("context.json")
    write_durably(path, json.dumps({"projects": projects}).encode())


def resolve_project(client: Client, option: str | None) -> str:
    """The project that a command works in.

    Args:
        client: To look up and, for `default`, make the project.
        option: What `--project` says.

    Returns:
        Its name: the option's, else the current project's, else `default`, which is made on first use.

    Raises:
        NotFound: The current project is gone.
    """
    if option:
        return option
    chosen = current_project(client.settings)
    name = chosen or DEFAULT_PROJECT
    try:
        client.get("projects", name)
    except NotFound:
        if chosen is not None:
            raise NotFound(f"The current project {chosen} does not exist any more.",
                           hint="Choose another: fuseml project set NAME (fuseml project list shows all).") from None
        _make_default(client)
    return name


def _make_default(client: Client) -> None:
    """Make the project `default`; somebody else may do so at the same time."""
    try:
        client.post("projects", body={"name": DEFAULT_PROJECT, "description": "Used when no project is chosen."})
    except Conflict:
        return
    click.echo(f"No project is chosen; using a new one named {DEFAULT_PROJECT}.", err=True)


def _read(settings: Settings) -> dict[str, Any]:
    path = settings.path("context.json")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise Invalid(f"{path} cannot be read: {error}", hint="Remove it and choose the project again.") from None
    projects = data.get("projects") if isinstance(data, dict) else None
    return dict(projects) if isinstance(projects, dict) else {}
