"""What is attached to a bundle when it is built or pushed: its bill of materials and where it comes from."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuseml_oci import media
from fuseml_oci.bundles import provenance, sbom
from fuseml_oci.bundles.build import BuiltBundle
from fuseml_oci.bundles.descriptor import ExtensionDescriptor
from fuseml_oci.bundles.layout import Layout
from fuseml_oci.bundles.transfer import descriptor_of_layer
from fuseml_oci.client import RegistryClient
from fuseml_oci.descriptor import Descriptor, canonical_json, descriptor_of
from fuseml_oci.layout import write_layout
from fuseml_oci.reference import Reference
from fuseml_oci.signing import bundle as signed_bundle
from fuseml_oci.signing.sign import IN_TOTO_TYPE, attest
from fuseml_sdk import archives

if TYPE_CHECKING:
    from fuseml_oci.signing.keys import PrivateKey


@dataclass(frozen=True, slots=True)
class Documents:
    """What is said about a bundle.

    Attributes:
        sbom: A CycloneDX document.
        provenance: A SLSA predicate; empty if nobody knows, because the bundle was built elsewhere.
    """

    sbom: Mapping[str, Any]
    provenance: Mapping[str, Any]


def documents(descriptor: ExtensionDescriptor, digest: str, lock: str, source: Path | None = None) -> Documents:
    """Make the documents of a bundle.

    Args:
        descriptor: What its config blob says.
        digest: Of its manifest.
        lock: Text of its lock.
        source: Folder that it was built from just now; None: it was built elsewhere.
    """
    made = provenance.predicate(descriptor, source=source, finished=_now()) if source else {}
    return Documents(sbom.document(descriptor, digest, lock), made)


def lock_of(bundle: BuiltBundle | Layout) -> str:
    """The text of a bundle's lock; empty if it has none."""
    for layer in bundle.descriptor.layers:
        if layer.kind == "agents":
            data = bundle.blobs[layer.digest] if isinstance(bundle, BuiltBundle) else bundle.blob(
                descriptor_of_layer(layer))
            return read_lock_layer(data.read_bytes() if isinstance(data, Path) else data)
    return ""


def read_lock_layer(layer: bytes) -> str:
    """The text of the lock in the bytes of its layer.

    Raises:
        InvalidInput: The layer is no archive of plain files.
    """
    for _name, blocks in archives.read_files(io.BytesIO(layer)):
        return b"".join(blocks).decode(errors="replace")
    return ""


def push_documents(client: RegistryClient, reference: Reference, made: Documents,
                   key: PrivateKey | None = None) -> list[str]:
    """Attach the documents to a bundle in a registry, as statements that cosign reads.

    Args:
        client: For the registry, allowed to push.
        reference: With digest.
        made: The documents.
        key: Signs the statements; unsigned, they inform and prove nothing.

    Returns:
        Digests of the attached manifests.
    """
    said = [(sbom.PREDICATE, made.sbom), *([(provenance.PREDICATE, made.provenance)] if made.provenance else [])]
    return [attest(client, reference, kind, content, key) for kind, content in said]


def write_with(built: BuiltBundle, path: Path, made: Documents) -> None:
    """Write a bundle as a layout that also holds its documents, unsigned, as referrers.

    Args:
        built: The bundle.
        path: As for :func:`fuseml_oci.bundles.layout.write`.
        made: The documents.
    """
    subject = Descriptor(media.MANIFEST, built.digest, len(built.manifest))
    blobs: dict[str, bytes | Path] = {**built.blobs, built.digest: built.manifest,
                                      media.EMPTY_DIGEST: media.EMPTY_BYTES}
    entries = [Descriptor(media.MANIFEST, built.digest, len(built.manifest),
                          {media.REF_NAME: built.descriptor.version}, media.EXTENSION)]
    for kind, content in ((sbom.PREDICATE, made.sbom), (provenance.PREDICATE, made.provenance)):
        if not content:
            continue
        text = canonical_json(provenance.statement(built.descriptor.name, built.digest, content, kind))
        layer = descriptor_of(text, media.STATEMENT, {IN_TOTO_TYPE: kind})
        manifest = signed_bundle.manifest(media.STATEMENT, layer, subject, {IN_TOTO_TYPE: kind})
        described = descriptor_of(manifest, media.MANIFEST)
        blobs |= {layer.digest: text, described.digest: manifest}
        entries.append(Descriptor(media.MANIFEST, described.digest, described.size, {IN_TOTO_TYPE: kind},
                                  media.STATEMENT))
    write_layout(path, entries, blobs)


def _now() -> datetime:
    """The time, or what SOURCE_DATE_EPOCH says it is. https://reproducible-builds.org/specs/source-date-epoch/."""
    wanted = os.environ.get("SOURCE_DATE_EPOCH", "")
    return datetime.fromtimestamp(int(wanted), UTC) if wanted.isdigit() else datetime.now(UTC)
