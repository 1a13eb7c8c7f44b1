"""`fuseml registry`: commands for registries, those of the registry's own distribution among them."""

from __future__ import annotations

import click
import importlib_metadata

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
