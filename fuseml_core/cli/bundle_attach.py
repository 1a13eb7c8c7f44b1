"""`fuseml bundle attach`: attestations and any other file that shall hang on a bundle."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from fuseml_core.cli.bundle_trust import pinned
from fuseml_core.cli.key_files import open_private, password_option
from fuseml_core.cli.render import echo, output_option, show_item
from fuseml_core.domain.errors import Invalid

#: What cosign calls predicate types that are used often.
TYPES = {
    "cyclonedx": "https://cyclonedx.org/bom", "spdxjson": "https://spdx.dev/Document",
    "slsaprovenance": "https://slsa.dev/provenance/v0.2", "slsaprovenance1": "https://slsa.dev/provenance/v1",
    "vuln": "https://cosign.sigstore.dev/attestation/vuln/v1", "openvex": "https://openvex.dev/ns",
    "scorecard": "https://fuseml.io/scorecard/v1", "custom": "https://cosign.sigstore.dev/attestation/v1",
}


@click.command("attach")
@click.argument("reference")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--type", "predicate_type", metavar="TYPE",
              help=f"FILE is JSON that says this about the bundle: a URI, or one of {', '.join(TYPES)}.")
@click.option("--artifact-type", metavar="MEDIATYPE", help="Attach FILE as it is, under this media type.")
@click.option("--key", metavar="NAME|FILE", help="Private key that signs the statement; unsigned, it proves nothing.")
@password_option
@output_option
def attach(reference: str, file: Path, predicate_type: str | None, artifact_type: str | None, key: str | None,
           password_stdin: bool, output: str) -> None:
    """Attach FILE to the bundle at REFERENCE: an attestation, a bill of materials, or any file.

    An in-toto statement says itself what it is about and needs no --type.
    """
    from fuseml_oci.bundles import inspect
    from fuseml_oci.bundles.scorecards import check_scorecard
    from fuseml_oci.signing.sign import attach as attach_file
    from fuseml_oci.signing.sign import attest

    if artifact_type and (predicate_type or key):
        raise click.UsageError("--artifact-type attaches a file as it is; it goes with neither --type nor --key.")
    place, client = pinned(reference)
    content = _read(file)
    if artifact_type:
        digest = attach_file(client, place, _media_type(artifact_type), content)
    else:
        kind, predicate = _predicate(content, file, place.digest, predicate_type)
        if kind == TYPES["scorecard"]:
            check_scorecard(predicate, inspect(place, client))
        private = open_private(key, password_stdin=password_stdin) if key else None
        digest = attest(client, place, kind, predicate, private)
        if private is None:
            echo("Attached unsigned: no policy counts it. To sign it: --key NAME", err=True)
    item = {"reference": str(place), "digest": digest, "type": artifact_type or kind}
    show_item(item, output, [("Attached to", "reference"), ("Type", "type"), ("Referrer", "digest")])


def _predicate(content: bytes, file: Path, digest: str, named: str | None) -> tuple[str, dict[str, Any]]:
    """Type and predicate of a JSON file, which may be a whole statement."""
    from fuseml_oci.signing.payloads import STATEMENTS, read_statement
    from fuseml_oci.signing.strict_json import read_strictly

    document = read_strictly(content, str(file))
    if document.get("_type") not in STATEMENTS:
        if named is None:
            raise click.UsageError("--type or --artifact-type is needed: what does the file say about the bundle?")
        return _predicate_type(named), document
    statement = read_statement(content)
    if digest not in statement.digests:
        raise Invalid(f"{file} is a statement about {', '.join(sorted(statement.digests)) or 'nothing'}, not {digest}")
    if named is not None and _predicate_type(named) != statement.predicate_type:
        raise Invalid(f"{file} is a statement of the type {statement.predicate_type}", hint="Leave --type out.")
    return statement.predicate_type, dict(statement.predicate)


def _predicate_type(text: str) -> str:
    if text in TYPES:
        return TYPES[text]
    if "://" not in text:
        raise Invalid(f"{text!r} is no predicate type.", hint=f"Write a URI or one of {', '.join(TYPES)}.")
    return text


def _media_type(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}", text, re.IGNORECASE):
        raise Invalid(f"{text!r} is no media type.", hint="Write one such as application/vnd.example.report+json.")
    return text


def _read(file: Path) -> bytes:
    from fuseml_oci.sources import MAX_BYTES

    if file.stat().st_size > MAX_BYTES:
        raise Invalid(f"{file} has {file.stat().st_size} bytes; at most {MAX_BYTES} can be attached.")
    return file.read_bytes()
