"""`fuseml registry gc`: remove what nothing refers to."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from fuseml_registry import quantities
from fuseml_registry.collection.ownership import Ownership, ask
from fuseml_registry.collection.sweep import Collector
from fuseml_registry.commands.options import output_option, place_options, read_configuration, show
from fuseml_registry.configuration import Collection, Configuration
from fuseml_registry.manifests import Manifests
from fuseml_registry.referrers import Referrers
from fuseml_registry.storage import Storage
from fuseml_registry.tags import Tags
from fuseml_registry.uploads import Uploads
from fuseml_sdk.errors import InvalidInput

_DECISION = click.Choice(["keep", "remove"])
_LABELS = {"manifests": "manifests", "blobs": "blobs of repositories", "referrers": "entries of referrers",
           "contents": "contents", "uploads": "unfinished uploads"}


@click.command()
@place_options
@click.option("--dry-run", is_flag=True, help="Remove nothing; show what would go.")
@click.option("--age", help="Only what was not used for this long, such as 24h; by default as configured.")
@click.option("--untagged", type=_DECISION, help="What to do with manifests that no tag leads to.")
@click.option("--referrers", type=_DECISION, help="What to do with signatures and the like whose subject is gone.")
@click.option("--timeout", default="1h", show_default=True, help="How long to wait for a running server.")
@output_option
def gc(config: Path | None, root: Path | None, dry_run: bool, age: str | None, untagged: str | None,
       referrers: str | None, timeout: str, output: str) -> None:
    """Collect garbage: remove blobs, manifests and uploads that nothing refers to and that are old.

    A server that runs on the same directory does the work itself, so that no push is disturbed; without one, this
    command does. Without --root and --config it is the registry of the local FuseML server.
    """
    settings = read_configuration(config.absolute() if config else None,
                                  {"root": str(root.absolute()) if root else None if config else _embedded()})
    if not settings.root.is_dir():
        raise InvalidInput(f"{settings.root} is not there", hint="give the directory of the registry with --root")
    changes: dict[str, Any] = {"untagged": untagged, "referrers": referrers,
                               "age": None if age is None else _seconds(age)}
    changes = {key: value for key, value in changes.items() if value is not None}
    report = _collect(settings, dry_run, changes, _seconds(timeout))
    if output != "table":
        show(report, output)
        return
    for item in report["items"] if dry_run else []:
        click.echo(f"would remove {item}")
    counts = ", ".join(f"{count} {_LABELS[kind]}" for kind, count in report["removed"].items() if count)
    verb = "Would remove" if dry_run else "Removed"
    click.echo(f"{verb} {counts or 'nothing'}; {report['freed']:,} bytes. {report['contents']} contents with "
               f"{report['stored']:,} bytes stay.")


def _collect(settings: Configuration, dry_run: bool, changes: dict[str, Any], timeout: float) -> dict[str, Any]:
    """Let the server do it, or do it."""
    ownership = Ownership(settings.root)
    if not ownership.take():
        click.echo("The running server collects.", err=True)
        return ask(settings.root, {"work": "collect", "dry_run": dry_run, "policy": changes}, timeout)
    try:
        policy = Collection(**{**settings.collection.model_dump(), **changes})
        storage = Storage(settings.root)
        storage.clear_leftovers()
        tags, uploads = Tags(storage, settings.immutable_tags), Uploads(storage, settings.upload_expiry)
        manifests = Manifests(storage, tags, Referrers(storage))
        return Collector(storage, manifests, uploads, policy).collect(dry_run=dry_run, progress=_progress).to_json()
    finally:
        ownership.release()


def _progress(line: str) -> None:
    """Show on a terminal what is being done, on one line."""
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{line[:78]}", nl=False, err=True)


def _embedded() -> str:
    """The registry of the local FuseML server."""
    home = os.environ.get("FUSEML_HOME") or Path.home() / ".fuseml"
    return str(Path(home).expanduser().absolute() / "registry")


def _seconds(text: str) -> float:
    try:
        return quantities.seconds(text)
    except ValueError as error:
        raise InvalidInput(str(error)) from None
