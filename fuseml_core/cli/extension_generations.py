"""`fuseml extension history|rollback|lock`: what was installed when, going back, and writing it down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fuseml_core.cli.cells import moment
from fuseml_core.cli.context import connect
from fuseml_core.cli.extension_changes import carry_out, dry_run_option
from fuseml_core.cli.render import Column, echo, output_option, show_list

_STATES = {"new": "new, watched", "settled": "", "failed": "taken back"}


def _signed(item: dict[str, Any]) -> list[str]:
    lines = []
    for member in item["members"]:
        trust = member["trust"]
        if trust["overridden"]:
            lines.append(f"{member['name']}: not signed, allowed by --allow-unsigned")
        elif trust["signers"]:
            lines.append(f"{member['name']}: signed by {', '.join(s[:19] + '…' for s in trust['signers'])}")
        else:
            lines.append(f"{member['name']}: {trust['reason']}")
    return lines


COLUMNS: list[Column] = [
    ("Generation", lambda item: f"{item['number']}{' *' if item['current'] else ''}"),
    ("When", lambda item: moment(item["created_at"])), ("Cause", "cause"),
    ("Changes", lambda item: item["changes"]),
    ("State", lambda item: [part for part in (_STATES.get(item["state"], item["state"]), item["note"]) if part]),
    ("Trust", _signed),
]


@click.command("history")
@output_option
def history(output: str) -> None:
    """Show the sets of extensions that were active together; the one in force is marked with *."""
    show_list(connect().get("extension-generations"), output, COLUMNS,
              empty="No extension was ever installed. Install one: fuseml extension install REFERENCE")


@click.command("rollback")
@click.argument("generation", type=click.IntRange(min=1), required=False, metavar="[N]")
@click.option("--to", type=click.IntRange(min=1), metavar="N", help="The same as N.")
@click.option("--force", is_flag=True, help="Even if extensions or pipelines use what would be taken away.")
@dry_run_option
@output_option
def rollback(generation: int | None, to: int | None, force: bool, dry_run: bool, output: str) -> None:
    """Put the extensions of generation N in force again, by default of the one before that was different.

    This makes a new generation with the old versions. They are still on the server: nothing is downloaded.
    """
    if generation is not None and to is not None and generation != to:
        raise click.UsageError("Name one generation.")
    body = {"to": to if to is not None else generation, "force": force, "dry_run": dry_run}
    carry_out(("extension-generations", "rollback"), body, output, "rollback")


@click.command("lock")
@click.option("--output", "-o", "path", type=click.Path(dir_okay=False, allow_dash=True), default="fuseml.lock",
              show_default=True, metavar="FILE", help="Where to write it; - is standard output.")
def lock(path: str) -> None:
    """Write down exactly what is installed, with digests and signers, for `install --locked` on any machine."""
    text = connect().get("extension-lock")["lock"]
    if path == "-":
        echo(text.rstrip("\n"))
        return
    from fuseml_sdk.durable import write_durably

    write_durably(Path(path).absolute(), text.encode())
    echo(f"Wrote {path}: {text.count('[[extension]]')} extensions. Install exactly these: "
         f"fuseml extension install --locked {path}")
