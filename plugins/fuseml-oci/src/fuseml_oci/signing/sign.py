"""Signing manifests in a registry, and attaching statements to them. What is there already is not made again."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from fuseml_oci import media
from fuseml_oci.client import RegistryClient
from fuseml_oci.descriptor import Descriptor, descriptor_of
from fuseml_oci.digests import digest_bytes, split_digest
from fuseml_oci.reference import Reference
from fuseml_oci.retries import Patience, RetryPolicy
from fuseml_oci.signing import bundle, legacy
from fuseml_oci.signing.findings import BUNDLE, LEGACY, Signature
from fuseml_oci.signing.keys import PrivateKey
from fuseml_oci.signing.payloads import PAYLOAD_TYPE, SIGNATURE, make_statement
from fuseml_oci.signing.verify import MAX_ATTESTATION, attestations, verify
from fuseml_oci.sources import RepositorySource
from fuseml_sdk.errors import InvalidInput, Retryable

#: Both layouts: cosign 3 and the Sigstore libraries read the first, every cosign the second.
LAYOUTS = (BUNDLE, LEGACY)
#: Name of an unsigned statement's predicate type, as BuildKit writes it.
IN_TOTO_TYPE = "in-toto.io/predicate-type"
#: Tries to add a signature to a tag that others write at the same time.
_RACE = RetryPolicy(attempts=8, base=0.05, cap=1.0, budget=30.0)
_LOCK = threading.Lock()


def sign(client: RegistryClient, reference: Reference, key: PrivateKey,
         layouts: Sequence[str] = LAYOUTS) -> list[Signature]:
    """Sign a manifest; a layout in which this key has signed it already is left as it is.

    Args:
        client: For the registry of `reference`, allowed to push.
        reference: With digest; a tag could point elsewhere by now.
        key: To sign with.
        layouts: Among `bundle` and `legacy`.

    Returns:
        One good signature for each layout.

    Raises:
        InvalidInput: No digest, an unknown layout, or the older layout for a sha512 digest.
        NotFound: There is no such manifest.
        Retryable: Others kept changing the signatures.
    """
    layouts = _checked(reference, layouts)
    subject = _subject(client, reference)
    there = {entry.layout: entry for entry in
             reversed(verify(RepositorySource(client, reference.repository), reference.digest, [key.public]))}
    makers: dict[str, Callable[[], str]] = {
        BUNDLE: lambda: _push_bundle(client, reference, subject,
                                     bundle.make(make_statement(reference.digest, SIGNATURE, {}), key), SIGNATURE),
        LEGACY: lambda: _push_legacy(client, reference, key)}
    return [there.get(layout) or Signature(key.fingerprint, layout, makers[layout]()) for layout in layouts]


def attest(client: RegistryClient, reference: Reference, predicate_type: str, predicate: Mapping[str, Any],
           key: PrivateKey | None = None) -> str:
    """Attach a statement about a manifest, such as where it comes from or what it is made of.

    Args:
        client: For the registry of `reference`, allowed to push.
        reference: With digest.
        predicate_type: URI that says what the statement means, such as `https://slsa.dev/provenance/v1`.
        predicate: What it says.
        key: To sign it with; without, the statement is attached unsigned and proves nothing.

    Returns:
        Digest of the attached manifest; an equal statement that this key has signed already is not attached again.

    Raises:
        InvalidInput, NotFound: As for :func:`sign`, or the statement is too large to be read by anybody.
    """
    _checked(reference, LAYOUTS)
    subject = _subject(client, reference)
    statement = make_statement(reference.digest, predicate_type, predicate)
    if key is None:
        layer = descriptor_of(statement, PAYLOAD_TYPE, {IN_TOTO_TYPE: predicate_type})
        return attach(client, reference, PAYLOAD_TYPE, statement, layer, {IN_TOTO_TYPE: predicate_type})
    source = RepositorySource(client, reference.repository)
    for entry in attestations(source, reference.digest, [key.public], [predicate_type]):
        if entry.predicate == predicate:
            return entry.digest
    content = bundle.make(statement, key)
    if len(content) > MAX_ATTESTATION:
        raise InvalidInput(f"the attestation has {len(content)} bytes, more than {MAX_ATTESTATION}",
                           hint="Attach the document itself: fuseml bundle attach REFERENCE FILE --artifact-type TYPE")
    return _push_bundle(client, reference, subject, content, predicate_type)


def attach(client: RegistryClient, reference: Reference, artifact_type: str, content: bytes,
           layer: Descriptor | None = None, annotations: Mapping[str, str] | None = None) -> str:
    """Attach any file to a manifest as a referrer; the same file attached again is the same referrer.

    Args:
        client: For the registry of `reference`, allowed to push.
        reference: With digest.
        artifact_type: Media type that says what the file is.
        content: The file.
        layer: How to describe it; by default with `artifact_type` as its media type.
        annotations: Of the referring manifest.

    Returns:
        Digest of the referring manifest.
    """
    _checked(reference, LAYOUTS)
    subject = _subject(client, reference)
    layer = layer or descriptor_of(content, artifact_type)
    repository = reference.repository
    client.push_blob(repository, media.EMPTY_BYTES, media.EMPTY_DIGEST, media.EMPTY)
    client.push_blob(repository, content, layer.digest, layer.media_type)
    return client.push_referrer(repository, bundle.manifest(artifact_type, layer, subject, annotations or {}))


def _checked(reference: Reference, layouts: Sequence[str]) -> Sequence[str]:
    if not reference.digest:
        raise InvalidInput(f"{reference} has no digest; signatures are about digests, because tags move")
    if not layouts or not set(layouts) <= set(LAYOUTS):
        raise InvalidInput(f"the layouts {list(layouts)} are not among {list(LAYOUTS)}")
    if legacy.signature_tag(reference.digest):
        return layouts
    if BUNDLE not in layouts:
        raise InvalidInput(f"{reference.digest[:20]}… cannot be signed in the older layout, which knows sha256 only")
    return (BUNDLE,)


def _subject(client: RegistryClient, reference: Reference) -> Descriptor:
    split_digest(reference.digest)
    data, media_type, digest = client.get_manifest(reference.repository, reference.digest)
    return Descriptor(media_type, digest, len(data))


def _push_bundle(client: RegistryClient, reference: Reference, subject: Descriptor, content: bytes,
                 predicate_type: str) -> str:
    repository = reference.repository
    client.push_blob(repository, media.EMPTY_BYTES, media.EMPTY_DIGEST, media.EMPTY)
    client.push_blob(repository, content, digest_bytes(content), bundle.MEDIA_TYPE)
    return client.push_referrer(repository, bundle.referrer(content, predicate_type, subject, _now()))


def _push_legacy(client: RegistryClient, reference: Reference, key: PrivateKey) -> str:
    """Append a layer to the manifest under the tag; the tag has no lock, so look again whether it is still there."""
    repository, tag = reference.repository, legacy.signature_tag(reference.digest)
    payload, layer = legacy.make(f"{reference.registry}/{repository}", reference.digest, key)
    client.push_blob(repository, payload, layer.digest, layer.media_type)
    source, patience, mine = RepositorySource(client, repository), Patience(_RACE), legacy.layer_of(layer)
    tried = False
    with _LOCK:
        while True:
            before = source.tagged(tag)
            layers = legacy.read_layers(before) if before is not None else []
            if mine in layers:
                return layer.digest
            if tried and not patience.again():
                raise Retryable(f"{reference}: others keep changing its signatures", hint="Try again.")
            if len(layers) >= legacy.MAX_LAYERS:
                raise InvalidInput(f"{reference} has {len(layers)} signatures already, as many as cosign reads")
            config = legacy.config([*layers, mine])
            client.push_blob(repository, config, digest_bytes(config), legacy.CONFIG)
            client.push_manifest(repository, tag, legacy.manifest([*layers, mine], config), media.MANIFEST)
            tried = True


def _now() -> str:
    """The time, or what SOURCE_DATE_EPOCH says, as RFC 3339."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    moment = datetime.fromtimestamp(int(epoch), UTC) if epoch.isdigit() else datetime.now(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
