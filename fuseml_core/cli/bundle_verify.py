"""`fuseml bundle verify`: whose signatures a bundle bears, in a registry or in a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fuseml_core.cli.key_files import key_store
from fuseml_core.cli.policy import DECISION, REFUSED
from fuseml_core.cli.render import Column, output_option, show_item
from fuseml_core.domain.errors import Invalid

if TYPE_CHECKING:
    from fuseml_oci.signing.keys import PublicKey
    from fuseml_oci.sources import ManifestSource

VERIFIED: list[Column] = [
    ("Reference", "reference"), ("Verified", "verified"),
    ("Signatures", lambda item: [f"{s['key']} {s['name']} ({s['layout']})" for s in item["signatures"]]),
    ("Missing", "missing"),
    ("Attestations", lambda item: [f"{a['type']} by {a['key']}" for a in item["attestations"]]),
    ("Passed over", lambda item: [f"{f['layout']} {f['digest'][:19]}: {f['reason']}" for f in item["faults"]]),
]


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


def _is_file(subject: str) -> bool:
    """Whether this means a file or image layout; a folder that happens to be called like a bundle is none."""
    path = Path(subject)
    return path.is_file() or (path / "oci-layout").is_file() or (path.is_dir() and "/" in subject)


def _source(subject: str) -> tuple[ManifestSource, str, str]:
    """Where the signatures lie, how to call the bundle, and its digest."""
    from fuseml_core.cli.bundle_trust import pinned
    from fuseml_oci.sources import LayoutSource, RepositorySource

    if not _is_file(subject):
        place, client = pinned(subject)
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
