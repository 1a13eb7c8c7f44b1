"""`fuseml catalog owner|signers|patch`: who may submit, whose signatures count, and corrections after publication."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fuseml_core.cli.curation import by_option, desk, folder_option, public_keys, reason_option
from fuseml_core.cli.render import Column, echo, output_option, show_data, show_list

NAMESPACES: list[Column] = [
    ("Namespace", "name"), ("Summary", "summary"),
    ("Owners", lambda item: [f"{owner['name']} (keys: {len(owner['keys'])})" for owner in item["owners"]]),
]


@click.command("namespaces")
@folder_option
@output_option
def namespaces(folder: Path, output: str) -> None:
    """List namespaces and their owners."""
    show_list(desk(folder, None).namespaces(), output, NAMESPACES,
              empty="No namespace. Make one: fuseml catalog owner NAMESPACE NAME --key FILE")


@click.command("owner")
@click.argument("namespace")
@click.argument("name")
@click.option("--key", "keys", multiple=True, metavar="NAME|FILE", help="Public key for their submissions. Repeatable.")
@click.option("--remove", is_flag=True, help="Remove the owner instead.")
@by_option
@folder_option
def owner(namespace: str, name: str, keys: tuple[str, ...], remove: bool, by: str | None, folder: Path) -> None:
    """Make NAME an owner of NAMESPACE, which is made if it is not there."""
    desk(folder, by).owner(namespace, name, public_keys(keys), remove=remove)
    echo(f"{name} {'no longer owns' if remove else 'owns'} the namespace {namespace}.")


@click.command("signers")
@click.argument("name")
@click.option("--key", "keys", multiple=True, metavar="NAME|FILE", help="Public key that signs bundles. Repeatable.")
@click.option("--threshold", type=click.IntRange(1), default=1, show_default=True, help="How many must have signed.")
@reason_option
@by_option
@folder_option
def signers(name: str, keys: tuple[str, ...], threshold: int, reason: str, by: str | None, folder: Path) -> None:
    """Say whose signatures the bundles of the package NAME must have; without --key, nobody's."""
    desk(folder, by).signers(name, public_keys(keys), threshold, reason)
    echo(f"The bundles of {name} need {threshold} of {len(keys)} keys." if keys else
         f"The catalog names no signers for {name} any more.")


@click.command("patch")
@click.argument("name")
@click.option("--version", default="", help="Correct this version; without it, the package.")
@click.option("--requires-fuseml", metavar="RANGE", help="Versions of FuseML that the version works with.")
@click.option("--dependency", "dependencies", multiple=True, metavar="NAME=RANGE",
              help="All it depends on. Repeatable.")
@click.option("--conflict", "conflicts", multiple=True, metavar="NAME=RANGE", help="All it conflicts with. Repeatable.")
@click.option("--summary", help="Of the package.")
@click.option("--keyword", "keywords", multiple=True, help="All keywords of the package. Repeatable.")
@click.option("--default-channel", type=click.Choice(["stable", "candidate", "edge"]), help="Of the package.")
@reason_option
@by_option
@folder_option
@output_option
def patch(name: str, version: str, reason: str, by: str | None, folder: Path, output: str, **given: Any) -> None:
    """Correct what the catalog says of the package NAME or a version of it; the bundle stays what it is."""
    values = {key: value for key, value in given.items() if value not in (None, ())}
    for key in ("dependencies", "conflicts"):
        if key in values:
            values[key] = [_need(text) for text in values[key]]
    done = desk(folder, by).patch(name, version, values, reason)
    if output != "table":
        show_data(done, output)
        return
    echo(f"{name} {version}".rstrip() + f": {', '.join(sorted(values))} {'is' if len(values) == 1 else 'are'} patched.")


def _need(text: str) -> dict[str, str]:
    name, _, wanted = text.partition("=")
    return {"name": name.strip(), "range": wanted.strip() or "*"}
