"""`fuseml bundle`: extensions as packages; each command is imported when it is used."""

from __future__ import annotations

import click

from fuseml_core.cli.tables import TableGroup

_HERE = "fuseml_core.cli"
COMMANDS: dict[str, tuple[str, str]] = {
    "new": (f"{_HERE}.bundle_make:new", "Begin the source of a bundle that works at once."),
    "lint": (f"{_HERE}.bundle_make:lint", "Check a source or a bundle by named rules."),
    "build": (f"{_HERE}.bundle_make:build", "Build and check the bundle of a folder."),
    "push": (f"{_HERE}.bundle_move:push", "Push a bundle to a registry, unchanged."),
    "inspect": (f"{_HERE}.bundle_show:inspect", "Show what a bundle contains."),
    "diff": (f"{_HERE}.bundle_show:diff", "Show what changes from one bundle to another."),
    "pull": (f"{_HERE}.bundle_move:pull", "Fetch a bundle into a file or a folder."),
    "copy": (f"{_HERE}.bundle_move:copy", "Copy a bundle with its signatures between registries and files."),
    "sign": (f"{_HERE}.bundle_trust:sign", "Sign a bundle in a registry."),
    "verify": (f"{_HERE}.bundle_verify:verify", "Verify the signatures of a bundle."),
    "attach": (f"{_HERE}.bundle_attach:attach", "Attach an attestation or any file to a bundle."),
    "schema": (f"{_HERE}.bundle_make:schema", "Print the JSON Schema of extension.toml, for editors."),
}


@click.group(cls=TableGroup, table=COMMANDS)
def bundle() -> None:
    """Bundles: extensions packaged as OCI artifacts. Make, check, move, compare and sign them."""
