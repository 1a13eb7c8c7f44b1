"""`fuseml catalog`: for authors who submit, and for the curators of a catalog."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fuseml_core.cli.catalog_people import namespaces, owner, patch, signers
from fuseml_core.cli.curation import (
    CHANNELS,
    TRIALS,
    bundle_at,
    by_option,
    catalog_at,
    curation,
    desk,
    folder_option,
    how_to_publish,
    is_published,
    person,
    public_keys,
    reason_option,
    signer,
    surroundings,
)
from fuseml_core.cli.key_files import password_option
from fuseml_core.cli.render import Column, echo, output_option, show_data, show_item, show_list

_OK = {"passed": "ok", "warned": "LOOK", "failed": "FAILED", "skipped": "-"}

PACKAGES: list[Column] = [
    ("Name", "name"), ("Namespace", "namespace"), ("Stable", "channels.stable"), ("Candidate", "channels.candidate"),
    ("Edge", "channels.edge"), ("Summary", "summary"), ("Deprecated", "deprecated"),
]
PACKAGE: list[Column] = [
    ("Name", "name"), ("Namespace", "namespace"), ("Summary", "summary"), ("Repository", "repository"),
    ("Versions", lambda item: [_version(entry) for entry in item["versions"]]),
    ("Channels", lambda item: [f"{channel}: {', '.join(entry['version'] for entry in entries)}"
                               for channel, entries in item["channels"].items()]),
    ("Deprecations", lambda item: [f"{entry.get('version') or entry.get('channel') or 'all'}: {entry['message']}"
                                   for entry in item["deprecations"]]),
    ("Signers", lambda item: [f"{key['fingerprint']} {key['name']}".strip() for key in item["signers"]["keys"]]
     if item.get("signers") else []),
    ("History", lambda item: [_decision(entry) for entry in item["history"]]),
]
SUBMISSIONS: list[Column] = [
    ("Submission", "id"), ("State", "state"), ("Name", "name"), ("Version", "version"), ("Namespace", "namespace"),
    ("Channel", "channel"), ("By", "by"), ("At", "at"), ("Message", "message"), ("Reason", "why"),
]
REVIEW: list[Column] = [
    ("Name", "name"), ("Version", "version"), ("Summary", "summary"), ("Namespace", "namespace"),
    ("Bundle", "reference"), ("Submitted by", "submitted_by"), ("At", "submitted_at"), ("Message", "message"),
    ("Signed by", "signed_by"),
]


def _version(entry: dict[str, Any]) -> str:
    yanked = f", yanked: {entry['yanked']['reason']}" if entry.get("yanked") else ""
    patched = f", patched: {', '.join(entry['patched'])}" if entry.get("patched") else ""
    return f"{entry['version']} by {entry['published_by']} at {entry['published_at']}{patched}{yanked}"


def _decision(entry: dict[str, Any]) -> str:
    what = " ".join(part for part in (entry["action"], entry["version"], entry["channel"]) if part)
    failed = [check["name"] for check in entry["checks"] if check["outcome"] == "failed"]
    return f"{entry['at']} {entry['by']}: {what}" + (f" ({entry['why']})" if entry["why"] else "") + (
        f"; failed checks: {', '.join(failed)}" if failed else "")


@click.group()
def catalog() -> None:
    """Catalogs: submit to one, or curate your own in a folder of readable files and publish it to a registry."""


@catalog.command("init")
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--reference", required=True, help="Where it is published: oci://host/namespace/catalog.")
@click.option("--name", help="Of the catalog; by default that of the folder.")
@click.option("--summary", default="", help="One line about it.")
@click.option("--namespace", "namespaces", multiple=True, metavar="NAME", help="A namespace to begin with. Repeatable.")
@click.option("--bundles", default="", metavar="REFERENCE", help="Copy accepted bundles to oci://host/namespace; by "
              "default they stay where their authors put them.")
@click.option("--valid-days", type=click.IntRange(1, 3650), default=30, show_default=True,
              help="How long a publication is good.")
@click.option("--take-over", is_flag=True, help="Begin with what is published there; needs --key.")
@click.option("--key", "keys", multiple=True, metavar="NAME|FILE", help="Public key of its curators. Repeatable.")
@by_option
def init(folder: Path, reference: str, name: str | None, summary: str, namespaces: tuple[str, ...], bundles: str,
         valid_days: int, take_over: bool, keys: tuple[str, ...], by: str | None) -> None:
    """Make DIR the folder of a new catalog. Keep it in git: its files are meant to be read and reviewed."""
    place = catalog_at(reference)
    if take_over:
        curation().Desk.take_over(folder, by or person(), surroundings(), place, public_keys(keys))
    else:
        curation().Desk.create(
            folder, by or person(), surroundings(), namespaces=namespaces, name=name or folder.resolve().name,
            summary=summary, reference=str(place), bundles=str(catalog_at(bundles)) if bundles else "",
            valid_days=valid_days)
    echo(f"The catalog is in {folder}. Add a bundle: fuseml catalog add -C {folder} REFERENCE")


@catalog.command("list")
@folder_option
@output_option
def list_(folder: Path, output: str) -> None:
    """List the packages of the catalog."""
    show_list(desk(folder, None).packages(), output, PACKAGES,
              empty="No packages. Add one: fuseml catalog add REFERENCE")


@catalog.command("get")
@click.argument("name")
@folder_option
@output_option
def get(name: str, folder: Path, output: str) -> None:
    """Show the package NAME and what was decided about it."""
    show_item(desk(folder, None).package(name), output, PACKAGE)


@catalog.command("add")
@click.argument("reference")
@click.option("--channel", type=CHANNELS, default="edge", show_default=True, help="Its first channel.")
@click.option("--namespace", default="", metavar="NAME", help="For a new package; by default the only one.")
@click.option("--tests", "trials", type=TRIALS, default="never", show_default=True, help="Run the bundle's own tests.")
@click.option("--despite-failures", is_flag=True, help="Even if checks fail; needs --reason.")
@reason_option
@by_option
@folder_option
@output_option
def add(reference: str, channel: str, namespace: str, trials: str, despite_failures: bool, reason: str,
        by: str | None, folder: Path, output: str) -> None:
    """Check the bundle at REFERENCE and take it into the catalog."""
    done = desk(folder, by).add(bundle_at(reference), channel=channel, namespace=namespace, why=reason,
                                despite=despite_failures, trials=trials)
    if output != "table":
        show_data(done, output)
        return
    _show_checks(done)
    echo(f"{done['name']} {done['version']} is in the channel {channel}. {how_to_publish(folder)}")


@catalog.command("submit")
@click.argument("reference")
@click.argument("to", metavar="CATALOG")
@click.option("--namespace", required=True, metavar="NAME", help="Where it shall go.")
@click.option("--channel", type=CHANNELS, default="edge", show_default=True, help="Which channel it is meant for.")
@click.option("--message", "-m", default="", help="To the curators.")
@click.option("--key", metavar="NAME|FILE", help="Private key of an owner of the namespace; without it, the "
              "curators do not know that it was you.")
@password_option
@by_option
@output_option
def submit(reference: str, to: str, namespace: str, channel: str, message: str, key: str | None,
           password_stdin: bool, by: str | None, output: str) -> None:
    """Ask the curators of CATALOG (oci://host/namespace/catalog) to take in the bundle at REFERENCE."""
    sign, place = signer(key, password_stdin=password_stdin) if key else None, catalog_at(to)
    done = curation().submit(bundle_at(reference), by or person(), surroundings(), namespace=namespace,
                             channel=channel, message=message, catalog=place, sign=sign)
    if not is_published(place):
        echo(f"note: no catalog is published at {place} yet; its curators see the submission if the address is right",
             err=True)
    if output != "table":
        show_data(done, output)
        return
    echo(f"Submitted {done['name']} {done['version']} to {done['catalog']} as {done['id']}"
         + ("." if key else ", unsigned."))


@catalog.command("review")
@click.argument("submission", required=False)
@click.option("--accept", is_flag=True, help="Take it into the catalog.")
@click.option("--reject", is_flag=True, help="Turn it down; needs --reason.")
@click.option("--channel", type=CHANNELS, help="Its first channel; by default the one that its author wants.")
@click.option("--tests", "trials", type=TRIALS, default="auto", show_default=True,
              help="Run the bundle's own tests; auto: if an owner of the namespace signed the submission.")
@click.option("--despite-failures", is_flag=True, help="Accept even if checks fail; needs --reason.")
@click.option("--all", "every", is_flag=True, help="List also what was decided.")
@reason_option
@by_option
@folder_option
@output_option
def review(submission: str | None, accept: bool, reject: bool, channel: str | None, trials: str,
           despite_failures: bool, every: bool, reason: str, by: str | None, folder: Path, output: str) -> int:
    """List submissions; or check SUBMISSION (its id, NAME or NAME:VERSION), and accept or reject it.

    Tests of a bundle are somebody's program. They run as you: limited in time and memory and without your environment
    variables, but nothing keeps them from your files and the network. Review strangers' bundles with --tests never, or
    in a container that holds nothing else.
    Without a decision, the exit code is 5 when a check failed.
    """
    if accept and reject:
        raise click.UsageError("--accept and --reject exclude each other.")
    if submission is None:
        if accept or reject:
            raise click.UsageError("Say which submission: fuseml catalog review SUBMISSION --accept")
        show_list(desk(folder, by).pending(every=every), output, SUBMISSIONS, empty="No submission waits.")
        return 0
    if accept or reject:
        done = desk(folder, by).decide(submission, "accept" if accept else "reject", why=reason,
                                       channel=channel or "", despite=despite_failures, trials=trials)
    else:
        done = desk(folder, by).review(submission, trials)
    failed = not (accept or reject) and any(check["outcome"] == "failed" for check in done["checks"])
    if output != "table":
        show_data(done, output)
        return 5 if failed else 0
    show_item(done, output, REVIEW)
    _show_checks(done)
    if accept or reject:
        echo(f"{done['name']} {done['version']} is {'accepted' if accept else 'rejected'}."
             + (f" {how_to_publish(folder)}" if accept else ""))
    return 5 if failed else 0


@catalog.command("promote")
@click.argument("name")
@click.argument("version")
@click.option("--to", "channel", type=CHANNELS, required=True, help="The channel.")
@click.option("--undo", is_flag=True, help="Take it out of the channel instead.")
@reason_option
@by_option
@folder_option
def promote(name: str, version: str, channel: str, undo: bool, reason: str, by: str | None, folder: Path) -> None:
    """Put VERSION of the package NAME into a channel."""
    where = desk(folder, by)
    (where.demote if undo else where.promote)(name, version, channel, reason)
    echo(f"{name} {version} is {'no longer ' if undo else ''}in the channel {channel}.")


@catalog.command("deprecate")
@click.argument("name")
@click.option("--message", "-m", default="", help="Why, and what to do; shown to everybody who installs it.")
@click.option("--replacement", default="", metavar="NAME", help="What to use instead.")
@click.option("--version", default="", help="Only this version.")
@click.option("--channel", type=CHANNELS, help="Only this channel.")
@click.option("--undo", is_flag=True, help="Withdraw the advice.")
@by_option
@folder_option
def deprecate(name: str, message: str, replacement: str, version: str, channel: str | None, undo: bool,
              by: str | None, folder: Path) -> None:
    """Advise against the package NAME, a version or a channel of it."""
    desk(folder, by).deprecate(name, message, replacement=replacement, version=version, channel=channel or "",
                               undo=undo)
    echo(f"{name} {version}".rstrip() + f" is {'no longer ' if undo else ''}deprecated.")


@catalog.command("yank")
@click.argument("name")
@click.argument("version")
@click.option("--undo", is_flag=True, help="Give it back.")
@reason_option
@by_option
@folder_option
def yank(name: str, version: str, undo: bool, reason: str, by: str | None, folder: Path) -> None:
    """Take VERSION of NAME back: it is not chosen any more, and who pins it is warned. Needs --reason."""
    desk(folder, by).yank(name, version, reason, undo=undo)
    echo(f"{name} {version} is {'no longer ' if undo else ''}yanked.")


@catalog.command("diff")
@folder_option
@output_option
def diff(folder: Path, output: str) -> None:
    """Show what publishing would change."""
    found = desk(folder, None).diff()
    if output != "table":
        show_data(found, output)
        return
    for change in found["changes"]:
        echo(f"{change['package'] or 'catalog'}: {change['text']}")
    if not found["changes"]:
        echo("Nothing would change." if found["published"] else "Nothing is published, and nothing would be.")
    if found["published"] > found["known"]:
        echo(f"Another curator published version {found['published']}; this folder knows of {found['known']}.",
             err=True)


@catalog.command("publish")
@click.option("--key", required=True, metavar="NAME|FILE", help="Private key of the curators.")
@password_option
@by_option
@folder_option
@output_option
def publish(key: str, password_stdin: bool, by: str | None, folder: Path, output: str) -> None:
    """Publish the catalog, signed; also to renew it before it expires."""
    done = desk(folder, by).publish(signer(key, password_stdin=password_stdin))
    if output != "table":
        show_data(done, output)
        return
    echo(f"Published version {done['version']} with {done['packages']} package{'' if done['packages'] == 1 else 's'}.")
    echo(done["reference"])


@catalog.command("mirror")
@click.argument("source")
@click.argument("target")
@click.option("--key", "keys", multiple=True, required=True, metavar="NAME|FILE",
              help="Public key of the catalog's curators. Repeatable.")
@click.option("--bundles", metavar="REFERENCE",
              help="Where bundles go: oci://host/namespace; beside TARGET by default.")
@click.option("--package", "packages", multiple=True, metavar="NAME", help="Only these bundles. Repeatable.")
@click.option("--sign-key", metavar="NAME|FILE", help="Private key of the mirror, for subscribers who trust that.")
@password_option
@output_option
def mirror(source: str, target: str, keys: tuple[str, ...], bundles: str | None, packages: tuple[str, ...],
           sign_key: str | None, password_stdin: bool, output: str) -> None:
    """Copy the catalog SOURCE with its bundles to TARGET, byte for byte; run it again to bring the copy up to date.

    Who follows TARGET gets the bundles from there, with the signatures that their authors made.
    """
    place = catalog_at(target)
    beside = f"oci://{place.registry}/{place.repository.rpartition('/')[0] or 'extensions'}"
    module = curation()
    wanted = module.Mirror(catalog_at(source), place, catalog_at(bundles or beside), public_keys(keys), packages,
                           signer(sign_key, password_stdin=password_stdin) if sign_key else None)
    done = module.mirrored(wanted, surroundings())
    if output != "table":
        show_data(done, output)
        return
    echo(f"Version {done['version']}: {done['copied']} bundle{'s' * (done['copied'] != 1)} copied, "
         f"{done['present']} there already.")
    echo(done["reference"])


def _show_checks(done: dict[str, Any]) -> None:
    for check in done["checks"]:
        first, *rest = check["text"].splitlines() or [""]
        echo(f"{_OK[check['outcome']]:<7} {check['name']}: {first}")
        for line in rest:
            echo(f"        {line}")


for _command in (namespaces, owner, patch, signers):
    catalog.add_command(_command)
