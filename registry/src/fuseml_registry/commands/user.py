"""`fuseml registry user`: who may log in to a registry."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from fuseml_registry.access.accounts import Accounts
from fuseml_registry.commands.options import option, output_option, show
from fuseml_registry.configuration import read_file
from fuseml_sdk.errors import InvalidInput


@click.group()
def user() -> None:
    """Users of a registry of its own: add, remove, list."""


def _file_options(command: click.decorators.FC) -> click.decorators.FC:
    command = option("--users", type=click.Path(path_type=Path, dir_okay=False), help="The file with users.")(command)
    return option("--config", type=click.Path(path_type=Path, dir_okay=False),
                  help="TOML file that names the file with users.")(command)


@user.command()
@click.argument("name")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input, even on a terminal.")
@_file_options
def add(name: str, password_stdin: bool, config: Path | None, users: Path | None) -> None:
    """Add the user NAME, or give NAME a new password.

    The password is asked for on a terminal, else read from the first line of standard input. Running servers notice.
    """
    accounts = _accounts(config, users)
    new = accounts.add(name, _password(name, ask=not password_stdin))
    click.echo(f"{'Added' if new else 'Changed the password of'} {name} in {accounts.path}")


@user.command()
@click.argument("name")
@_file_options
def remove(name: str, config: Path | None, users: Path | None) -> None:
    """Remove the user NAME. Tokens that NAME holds are good until they expire, five minutes by default."""
    accounts = _accounts(config, users)
    accounts.remove(name)
    click.echo(f"Removed {name} from {accounts.path}")


@user.command("list")
@_file_options
@output_option
def list_users(config: Path | None, users: Path | None, output: str) -> None:
    """List the users."""
    accounts = _accounts(config, users)
    names = accounts.names()
    if output != "table":
        show([{"name": name} for name in names], output)
    elif names:
        click.echo("\n".join(["NAME", "----", *names]))
    else:
        missing = "" if accounts.path.is_file() else f"; there is no file {accounts.path}"
        click.echo(f"There are no users{missing}.", err=True)


def _accounts(config: Path | None, users: Path | None) -> Accounts:
    if users is None and config is not None:
        auth = read_file(config.absolute()).get("auth", {})
        users = Path(auth["users"]) if isinstance(auth, dict) and isinstance(auth.get("users"), str) else None
    if users is None:
        raise InvalidInput("which file holds the users?", hint="give --users FILE, or --config with [auth] users")
    return Accounts(users.absolute())


def _password(name: str, *, ask: bool) -> str:
    """Never an argument: those can be seen by everybody on the machine."""
    if ask and sys.stdin.isatty():
        return str(click.prompt(f"Password of {name}", hide_input=True, confirmation_prompt=True, err=True))
    return sys.stdin.readline().rstrip("\r\n")
