"""`fuseml registry`: commands for registries, those of the registry's own distribution among them."""

from __future__ import annotations

import click
import importlib_metadata

from fuseml_core.cli.render import echo, output_option, show_data

#: Entry points of further commands: the name is the command's, the value a click command.
ENTRY_POINT_GROUP = "fuseml.commands.registry"


class OpenGroup(click.Group):
    """A group that other distributions add commands to; the core imports none of them before it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of own commands and those of entry points."""
        return sorted({*super().list_commands(ctx), *(point.name for point in _points())})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """An own command, else the entry point of that name."""
        found = super().get_command(ctx, cmd_name)
        if found is None:
            for point in _points():
                if point.name == cmd_name:
                    loaded = point.load()
                    assert isinstance(loaded, click.Command)
                    return loaded
        return found


@click.group(cls=OpenGroup)
def registry() -> None:
    """Registries: run one, look after it, log in to one."""


def _points() -> list[importlib_metadata.EntryPoint]:
    return list(importlib_metadata.entry_points(group=ENTRY_POINT_GROUP))


@registry.command("login")
@click.argument("host", metavar="HOST[:PORT]")
@click.option("--username", "-u", help="User name; asked for without this option.")
@click.option("--password-stdin", is_flag=True, help="Read the password or access token from standard input.")
@output_option
def login(host: str, username: str | None, password_stdin: bool, output: str) -> None:
    """Check a user name and password with a registry and keep them for this user of this machine.

    They are kept where Docker keeps them: in $DOCKER_CONFIG/config.json (by default ~/.docker/config.json), readable
    by you only, or in the credential program that this file names. Docker, Podman, Skopeo and ORAS then use them too.
    """
    from fuseml_core.settings import from_environment
    from fuseml_oci.client import RegistryClient
    from fuseml_oci.credentials import Credentials
    from fuseml_oci.login import log_in

    settings = from_environment()
    if not username and password_stdin:
        raise click.UsageError("--password-stdin needs --username: both cannot be read from standard input.")
    name = username or str(click.prompt("Username", err=True))
    password = _first_line() if password_stdin else str(click.prompt("Password", hide_input=True, err=True))
    done = log_in(host, Credentials(name, password), lambda registry, credentials: RegistryClient(
        registry, credentials=credentials, proxy=settings.proxy, ca_bundle=settings.ca_bundle))
    if output != "table":
        show_data({"registry": host, "username": name, "place": done.place, "checked": done.checked}, output)
        return
    echo(f"Logged in to {host} as {name}; kept in {done.place}")
    if not done.checked:
        click.echo(f"{host} lets everybody in without asking, so that the password was not checked.", err=True)


@registry.command("logout")
@click.argument("host", metavar="HOST[:PORT]")
@output_option
def logout(host: str, output: str) -> None:
    """Forget the user name and password of a registry."""
    from fuseml_oci.login import log_out

    forgotten = log_out(host)
    if output != "table":
        show_data({"registry": host, "forgotten": forgotten}, output)
    else:
        echo(f"Logged out of {host}" if forgotten else f"You were not logged in to {host}")


def _first_line() -> str:
    """The password: the first line of standard input, without its end."""
    import sys

    password = sys.stdin.readline(1 << 16).rstrip("\r\n")
    if not password:
        raise click.UsageError("Standard input holds no password.")
    return password
