"""`fuseml bundle push|pull|copy`: bundles between folders, files and registries, byte for byte."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fuseml_core.cli.bars import transfer
from fuseml_core.cli.bundle_places import (
    Wheels,
    check_name,
    is_path,
    locate,
    newest_of,
    open_for_push,
    wheel_options,
)
from fuseml_core.cli.cells import size
from fuseml_core.cli.render import echo, output_option, show_data
from fuseml_core.domain.errors import Invalid

if TYPE_CHECKING:
    from fuseml_oci.bundles import BuiltBundle, Layout
    from fuseml_oci.client import RegistryClient
    from fuseml_oci.copying import LayoutEntry
    from fuseml_oci.reference import Reference


@click.command("push")
@click.argument("source", metavar="DIR|FILE", type=click.Path(exists=True, path_type=Path))
@click.argument("reference", required=False)
@click.option("--dev", is_flag=True, help="With the folder of a source: build a development version.")
@click.option("--attest", is_flag=True, help="Attach a bill of materials and, from a source, where it comes from.")
@click.option("--key", metavar="NAME|FILE", help="With --attest: private key that signs what is attached.")
@wheel_options
@output_option
def push(source: Path, reference: str | None, dev: bool, attest: bool, key: str | None, wheels: Wheels,
         output: str) -> None:
    """Push a bundle unchanged: a folder with extension.toml (built first), an .oci.tar file or an image layout.

    REFERENCE is oci://host/namespace/name, or a bare name in the registry of the FuseML server, which is the
    default and signs what is pushed; the tag is the version.
    """
    from fuseml_core.cli.bundle_trust import sign_pushed
    from fuseml_oci.bundles import push as push_bundle

    if key and not attest and not (source / "scorecard.json").is_file():
        raise click.UsageError("--key signs what --attest attaches. To sign the bundle: fuseml bundle sign")
    opened = open_for_push(source, dev=dev, wheels=wheels)
    card = _scorecard(source, opened)
    place, client = locate(reference or opened.descriptor.name)
    check_name(place, opened.descriptor)
    with transfer("uploading") as report:
        pushed = push_bundle(opened, place, client, report=report)
    attached = _attach(opened, source, pushed, client, key) if attest else []
    attached += _attach_scorecard(card, pushed, client, key) if card else []
    signer = sign_pushed(pushed)
    item = {"reference": str(pushed), "name": opened.descriptor.name, "version": opened.descriptor.version,
            "digest": pushed.digest, "signer": signer, "attached": attached}
    if output != "table":
        show_data(item, output)
        return
    echo(f"Pushed {item['name']} {item['version']}\n{pushed}")
    echo(f"Signed by the server's key {signer}" if signer else f"Sign it:    fuseml bundle sign {pushed} --key NAME")
    short = reference is None or place.registry not in reference
    wanted = f"{item['name']}:{pushed.tag}" if short else str(pushed.with_tag(pushed.tag))
    echo(f"Install it: fuseml extension install {wanted}")


@click.command("pull")
@click.argument("reference")
@click.option("--to", "-t", "target", type=click.Path(path_type=Path),
              help="An .oci.tar file or a folder for an image layout; by default NAME-VERSION.oci.tar.")
@click.option("--unpack", type=click.Path(path_type=Path), metavar="DIR",
              help="Unpack it into DIR as a source that builds to the same digest again.")
@output_option
def pull(reference: str, target: Path | None, unpack: Path | None, output: str) -> None:
    """Fetch the bundle at REFERENCE with its signatures and attachments; every byte is verified."""
    from fuseml_oci.bundles.transfer import look_up
    from fuseml_oci.copying import LayoutEntry, copy

    if target and unpack:
        raise click.UsageError("--to keeps the bundle as it is and --unpack takes it apart; choose one.")
    place, client = locate(reference)
    found = look_up(newest_of(place, client, reference), client)
    if unpack:
        where = _unpack(found.reference, client, unpack)
    else:
        where = target or Path(f"{found.descriptor.name}-{found.descriptor.version}.oci.tar")
        _refuse_other(where, found.digest)
        with transfer("downloading") as progress:
            copy(found.reference, LayoutEntry(where, found.reference.tag or found.descriptor.version),
                 progress=progress, connect=lambda _reference: client)
    item = {"reference": str(found.reference), "name": found.descriptor.name, "version": found.descriptor.version,
            "digest": found.digest, "path": str(where)}
    if output != "table":
        show_data(item, output)
        return
    echo(f"Pulled {item['name']} {item['version']}")
    echo(f"{where}  {found.digest}")


@click.command("copy")
@click.argument("source", metavar="REFERENCE|FILE|DIR")
@click.argument("target", metavar="REFERENCE|FILE|DIR")
@click.option("--tag", default="", help="Tag at the target; by default the one that it has.")
@click.option("--no-referrers", is_flag=True, help="Leave signatures and attachments behind.")
@output_option
def copy(source: str, target: str, tag: str, no_referrers: bool, output: str) -> None:
    """Copy a bundle from a registry, .oci.tar file or image layout to another one, byte for byte.

    Signatures, attestations and whatever else refers to it travel with it. A target without a name in it, such as
    oci://host/namespace/, gets the name of the bundle.
    """
    from fuseml_oci.bundles import open_layout
    from fuseml_oci.bundles.transfer import look_up
    from fuseml_oci.copying import LayoutEntry
    from fuseml_oci.copying import copy as copy_artifact

    origin: Reference | LayoutEntry
    clients: dict[str, RegistryClient] = {}
    if Path(source).exists():
        layout = open_layout(Path(source))
        origin, descriptor, digest = LayoutEntry(Path(source), layout.digest), layout.descriptor, layout.digest
    else:
        place, client = locate(source)
        clients[place.registry] = client
        found = look_up(newest_of(place, client), client)
        origin, descriptor, digest = found.reference, found.descriptor, found.digest
    name = tag or (origin.tag if not isinstance(origin, LayoutEntry) else "") or descriptor.version
    goal = _target(target, descriptor.name, clients)
    if not isinstance(goal, LayoutEntry):
        check_name(goal, descriptor)
    with transfer("copying") as progress:
        report = copy_artifact(origin, goal, tag=name, referrers=not no_referrers, progress=progress,
                               connect=lambda reference: clients[reference.registry])
    item: dict[str, Any] = {"source": source, "target": str(goal), "digest": digest, "tag": name,
                            "referrers": report.referrers, "sent": report.sent, "mounted": report.mounted,
                            "present": report.present, "size": report.size}
    if output != "table":
        show_data(item, output)
        return
    echo(f"Copied {descriptor.name} {descriptor.version} to {goal} ({size(report.size)} sent, "
         f"{report.mounted + report.present} of {report.sent + report.mounted + report.present} parts were there, "
         f"{report.referrers} signatures and attachments)")
    echo(digest)


def _attach(opened: BuiltBundle | Layout, source: Path, pushed: Reference, client: RegistryClient,
            key: str | None) -> list[str]:
    from fuseml_core.cli.key_files import open_private
    from fuseml_oci.bundles.attachments import documents, lock_of, push_documents

    built_here = source if (source / "extension.toml").is_file() else None
    made = documents(opened.descriptor, opened.digest, lock_of(opened), built_here)
    return push_documents(client, pushed, made, open_private(key, password_stdin=False) if key else None)


def _scorecard(source: Path, opened: BuiltBundle | Layout) -> dict[str, Any] | None:
    """The scorecard beside a source; one of other wheels is left out, for a push must not need the tests."""
    from fuseml_oci.bundles.scorecards import FILE, check_scorecard, read_scorecard
    from fuseml_sdk.errors import InvalidInput

    if not (source / "extension.toml").is_file() or not (source / FILE).is_file():
        return None
    try:
        document = read_scorecard(source / FILE)
        check_scorecard(document, opened.descriptor)
    except InvalidInput as error:
        echo(f"Without {FILE}: {error}", err=True)
        return None
    return document


def _attach_scorecard(document: dict[str, Any], pushed: Reference, client: RegistryClient,
                      key: str | None) -> list[str]:
    from fuseml_core.cli.key_files import open_private
    from fuseml_oci.bundles.scorecards import PREDICATE
    from fuseml_oci.signing.sign import attest

    private = open_private(key, password_stdin=False) if key else None
    return [attest(client, pushed, PREDICATE, document, private)]


def _refuse_other(where: Path, digest: str) -> None:
    """A place with another bundle in it would hold two afterwards, and nobody could say which one is meant."""
    from fuseml_oci.bundles import open_layout

    if where.exists() and not (where.is_dir() and not any(where.iterdir())) and open_layout(where).digest != digest:
        raise Invalid(f"{where} holds another bundle.", hint="Choose another place, or delete it.")


def _unpack(reference: Reference, client: RegistryClient, folder: Path) -> Path:
    from fuseml_oci.bundles import pull as pull_bundle
    from fuseml_oci.bundles.sources import unpack_source

    if folder.exists():
        raise Invalid(f"{folder} is there already.", hint="Choose another folder; nothing is overwritten.")
    with tempfile.TemporaryDirectory(prefix="fuseml-pull-") as content:
        with transfer("downloading") as report:
            pulled = pull_bundle(reference, client, Path(content), report=report)
        return unpack_source(pulled, folder)


def _target(text: str, name: str, clients: dict[str, RegistryClient]) -> Reference | LayoutEntry:
    from fuseml_oci.copying import LayoutEntry

    if is_path(text):
        return LayoutEntry(Path(text))
    place, client = locate(f"{text}{name}" if text.endswith("/") else text)
    clients.setdefault(place.registry, client)
    return place
