"""`fuseml bundle sign|verify|attach`: signatures of bundles and what else is attached to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fuseml_core.cli.key_files import key_store, open_private, password_option
from fuseml_core.cli.policy import DECISION, REFUSED
from fuseml_core.cli.render import Column, echo, output_option, show_data, show_item
from fuseml_core.domain.errors import Invalid, Refused

if TYPE_CHECKING:
    from fuseml_oci.client import RegistryClient
    from fuseml_oci.reference import Reference
    from fuseml_oci.signing.keys import PublicKey
    from fuseml_oci.sources import ManifestSource

#: What cosign calls predicate types that are used often.
TYPES = {
    "cyclonedx": "https://cyclonedx.org/bom", "spdxjson": "https://spdx.dev/Document",
    "slsaprovenance": "https://slsa.dev/provenance/v0.2", "slsaprovenance1": "https://slsa.dev/provenance/v1",
    "vuln": "https://cosign.sigstore.dev/attestation/vuln/v1", "openvex": "https://openvex.dev/ns",
    "custom": "https://cosign.sigstore.dev/attestation/v1",
}
LAYOUTS = ("bundle", "legacy")
VERIFIED: list[Column] = [
    ("Reference", "reference"), ("Verified", "verified"),
    ("Signatures", lambda item: [f"{s['key']} {s['name']} ({s['layout']})" for s in item["signatures"]]),
    ("Missing", "missing"),
    ("Attestations", lambda item: [f"{a['type']} by {a['key']}" for a in item["attestations"]]),
    ("Passed over", lambda item: [f"{f['layout']} {f['digest'][:19]}: {f['reason']}" for f in item["faults"]]),
]


@click.command("sign")
@click.argument("reference")
@click.option("--key", metavar="NAME|FILE", help="Private key; a name means one of `fuseml key list`. Without it, the "
              "server signs what lies in its own registry.")
@click.option("--layout", "layouts", type=click.Choice(LAYOUTS), multiple=True,
              help="Sigstore bundle, or the older layout of cosign; both by default. Repeatable.")
@password_option
@output_option
def sign(reference: str, key: str | None, layouts: Sequence[str], password_stdin: bool, output: str) -> None:
    """Sign the bundle at REFERENCE, in both layouts of cosign, so that cosign and FuseML verify it.

    REFERENCE is a name in the server's registry, or oci://host/namespace/name:tag@digest. What this key has signed
    already is not signed again.
    """
    from fuseml_oci.signing.sign import sign as sign_manifest

    if key is None:
        show_signed(_sign_by_server(reference, layouts), output)
        return
    place, client = locate(reference)
    private = open_private(key, password_stdin=password_stdin)
    made = sign_manifest(client, place, private, layouts or LAYOUTS)
    show_signed({"reference": str(place), "key": private.fingerprint,
                 "signatures": [signature.to_dict() for signature in made]}, output)


@click.command("verify")
@click.argument("subject", metavar="REFERENCE|FILE|DIR")
@click.option("--key", "keys", metavar="NAME|FILE", multiple=True,
              help="Public key that must have signed. Repeatable. Without it, the server's trust policy decides.")
@output_option
def verify(subject: str, keys: Sequence[str], output: str) -> int:
    """Verify the signatures of a bundle: in a registry, or in an .oci.tar file or image layout.

    Exit code 5 means that a key has not signed, or that the policy refuses.
    """
    if not keys:
        if _is_file(subject):
            raise Invalid(f"{subject} is a file, and the trust policy is about registries.",
                          hint="Say whose signature it must bear: --key FILE")
        from fuseml_core.cli.context import connect

        found = connect().get("policy", "decision", query={"reference": subject}, timeout=120.0)
        show_item(found, output, DECISION)
        return 0 if found["allowed"] else REFUSED
    from fuseml_oci.signing.keys import load_public

    wanted = [load_public(key_store().public(key)) for key in keys]
    source, name, digest = _source(subject)
    item = _verified(source, name, digest, wanted)
    show_item(item, output, VERIFIED)
    return 0 if item["verified"] else REFUSED


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
    from fuseml_oci.signing.sign import attach as attach_file
    from fuseml_oci.signing.sign import attest

    if artifact_type and (predicate_type or key):
        raise click.UsageError("--artifact-type attaches a file as it is; it goes with neither --type nor --key.")
    place, client = locate(reference)
    content = _read(file)
    if artifact_type:
        digest = attach_file(client, place, _media_type(artifact_type), content)
    else:
        kind, predicate = _predicate(content, file, place.digest, predicate_type)
        private = open_private(key, password_stdin=password_stdin) if key else None
        digest = attest(client, place, kind, predicate, private)
        if private is None:
            echo("Attached unsigned: no policy counts it. To sign it: --key NAME", err=True)
    item = {"reference": str(place), "digest": digest, "type": artifact_type or kind}
    show_item(item, output, [("Attached to", "reference"), ("Type", "type"), ("Referrer", "digest")])


def show_signed(made: dict[str, Any], output: str) -> None:
    """Print what was signed, with which key."""
    if output != "table":
        show_data(made, output)
        return
    echo(f"Signed {made['reference']}\nKey    {made['key']}")


def sign_pushed(place: Reference) -> str:
    """Have the server sign what was pushed to its own registry; nothing happens for another registry.

    Args:
        place: With digest.

    Returns:
        Fingerprint of the key; empty if the server did not sign, of which a server without a key has been told.
    """
    if place.registry not in _own_registry():
        return ""
    from fuseml_core.cli.context import connect

    try:
        made = connect().post("registry", "signatures", body={"reference": f"{place.repository}@{place.digest}"},
                              timeout=120.0, repeatable=True)
    except Refused as error:
        echo(f"Pushed, and not signed: {error.message}\n{error.hint}", err=True)
        return ""
    return str(made["key"])


def locate(text: str) -> tuple[Reference, RegistryClient]:
    """The place that a reference or bare name means, with the digest of now, and a client for its registry."""
    from urllib.parse import urlsplit

    from fuseml_oci.bundles.references import is_local, newest, read_reference
    from fuseml_oci.client import RegistryClient

    if is_local(text):
        from fuseml_core.cli.context import connect

        base = connect().base_url()
        place, client = read_reference(text, urlsplit(base).netloc), RegistryClient.for_url(base)
    else:
        from fuseml_core.settings import from_environment

        settings, place = from_environment(), read_reference(text, "")
        client = RegistryClient(place.registry, proxy=settings.proxy, ca_bundle=settings.ca_bundle)
    if not place.locator:
        place = newest(client.tags(place.repository), place)
    if not place.digest:
        place = place.with_digest(client.resolve(place.repository, place.tag).digest)
    return place, client


def _sign_by_server(reference: str, layouts: Sequence[str]) -> dict[str, Any]:
    """Ask the server to sign; it does so for its own registry only."""
    from fuseml_core.cli.context import connect

    if layouts:
        raise click.UsageError("--layout goes with --key; the server makes both layouts.")
    place, _ = locate(reference)
    if place.registry not in _own_registry():
        raise Invalid(f"{place.registry} is not the server's own registry; the server signs only what lies there.",
                      hint=f"Sign with a key of yours: fuseml bundle sign {place} --key NAME\n"
                           "Make one: fuseml key generate NAME")
    made: dict[str, Any] = connect().post("registry", "signatures", body={
        "reference": f"{place.repository}@{place.digest}"}, timeout=120.0, repeatable=True)
    return made


def _own_registry() -> set[str]:
    """How the registry of the server is addressed: the one that FUSEML_URL names, else the local one, if it runs."""
    from urllib.parse import urlsplit

    from fuseml_core.launcher.state import read_state
    from fuseml_core.settings import from_environment

    settings = from_environment()
    if settings.url:
        return {urlsplit(settings.url).netloc.lower()}
    state = read_state(settings.state_file)
    return {f"127.0.0.1:{state.port}", f"localhost:{state.port}"} if state else set()


def _is_file(subject: str) -> bool:
    """Whether this means a file or image layout; a folder that happens to be called like a bundle is none."""
    path = Path(subject)
    return path.is_file() or (path / "oci-layout").is_file() or (path.is_dir() and "/" in subject)


def _source(subject: str) -> tuple[ManifestSource, str, str]:
    """Where the signatures lie, how to call the bundle, and its digest."""
    from fuseml_oci.sources import LayoutSource, RepositorySource

    if not _is_file(subject):
        place, client = locate(subject)
        return RepositorySource(client, place.repository), str(place), place.digest
    from fuseml_oci.layout import ImageLayout

    layout = ImageLayout(Path(subject))
    return (source := LayoutSource(layout)), subject, source.only_subject()


def _verified(source: ManifestSource, name: str, digest: str, wanted: Sequence[PublicKey]) -> dict[str, Any]:
    """What the keys have signed; all of them must have signed the bundle itself."""
    from fuseml_oci.signing.verify import Fault, attestations
    from fuseml_oci.signing.verify import verify as verify_manifest

    faults: list[Fault] = []
    found = verify_manifest(source, digest, wanted, faults.append)
    attested = attestations(source, digest, wanted)
    signers, names = {signature.key for signature in found}, _names()
    missing = [key.fingerprint for key in wanted if key.fingerprint not in signers]
    return {"reference": name, "digest": digest, "verified": not missing, "missing": missing,
            "signatures": [{**signature.to_dict(), "name": names.get(signature.key, "")} for signature in found],
            "attestations": [{"type": a.predicate_type, "key": a.key, "digest": a.digest} for a in attested],
            "faults": [{"layout": f.layout, "digest": f.digest, "reason": f.reason} for f in faults]}


def _names() -> dict[str, str]:
    """How the keys in `<home>/keys` are called, by fingerprint."""
    return {stored.fingerprint: stored.name for stored in key_store().list() if stored.fingerprint}


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
    import re

    if not re.fullmatch(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}", text, re.IGNORECASE):
        raise Invalid(f"{text!r} is no media type.", hint="Write one such as application/vnd.example.report+json.")
    return text


def _read(file: Path) -> bytes:
    from fuseml_oci.sources import MAX_BYTES

    if file.stat().st_size > MAX_BYTES:
        raise Invalid(f"{file} has {file.stat().st_size} bytes; at most {MAX_BYTES} can be attached.")
    return file.read_bytes()
