"""The root command: a click group that imports a command's module only when that command is used."""

from __future__ import annotations

from typing import Any

import click

from fuseml_core.cli.commands import COMMANDS, SECTIONS

EPILOG = """\b
Environment:
  FUSEML_URL    server to talk to; without it the local one, started on first need
  FUSEML_HOME   state of the local server (default ~/.fuseml)
  FUSEML_DEBUG  1 shows the traceback of every error
\b
Shell completion (put the line into the shell's start-up file):
  bash:  eval "$(_FUSEML_COMPLETE=bash_source fuseml)"
  zsh:   eval "$(_FUSEML_COMPLETE=zsh_source fuseml)"
  fish:  _FUSEML_COMPLETE=fish_source fuseml | source
"""


class LazyGroup(click.Group):
    """A group whose commands come from the table `COMMANDS`; help is rendered from the table alone."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Names of all commands, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command named; None if the table has no such name."""
        entry = COMMANDS.get(cmd_name)
        return None if entry is None else _load(entry[0])

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write one list of commands for each section of the table."""
        for section, commands in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name, short) for name, (_, short) in commands.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Complete command names from the table, options as click does."""
        from click.shell_completion import CompletionItem

        names = [CompletionItem(n, help=short) for n, (_, short) in COMMANDS.items() if n.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)


def _load(target: str) -> click.Command:
    """The object at `module:attribute`."""
    from importlib import import_module

    module, _, attribute = target.partition(":")
    command = getattr(import_module(module), attribute)
    assert isinstance(command, click.Command)
    return command


def _version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    """Print the version and stop; `main` answers the plain form before click is imported."""
    if value and not ctx.resilient_parsing:
        from fuseml_core import __version__

        click.echo(f"fuseml {__version__}")
        ctx.exit()


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, callback=_version, expose_value=False, is_eager=True,
              help="Show the version and exit.")
def fuseml() -> None:
    """Turn machine-learning tools into exchangeable parts.

    Push code; everything that depends on it is built, trained, registered and served by itself.
    """
