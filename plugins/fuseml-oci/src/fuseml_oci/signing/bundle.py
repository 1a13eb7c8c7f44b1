"""The Sigstore bundle v0.3 with a public key, as cosign 3 makes it and attaches it as a referrer.

Sources: sigstore `protobuf-specs` (bundle.proto), cosign `pkg/oci/remote/write.go`. Transparency-log entries and time
stamps in a bundle are not used: local keys need neither.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fuseml_oci import media
from fuseml_oci.descriptor import Descriptor
from fuseml_oci.signing.keys import PrivateKey, PublicKey
from fuseml_oci.signing.payloads import PAYLOAD_TYPE, Statement, go_json, pae, read_statement
from fuseml_oci.signing.strict_json import read_strictly
from fuseml_sdk.errors import InvalidInput

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PREFIX = "application/vnd.dev.sigstore.bundle"
CONTENT, PREDICATE_TYPE = "dev.sigstore.bundle.content", "dev.sigstore.bundle.predicateType"
CREATED = "org.opencontainers.image.created"
_VERSION = re.compile(r"application/vnd\.dev\.sigstore\.bundle(?:\.v0\.(\d+)\+json|\+json;version=0\.(\d+))")


@dataclass(frozen=True, slots=True)
class Envelope:
    """The part of a bundle that matters here: one signature over one payload."""

    payload: bytes
    signature: bytes
    is_keyless: bool

    def signer(self, keys: Mapping[str, PublicKey]) -> str:
        """The fingerprint of the key that made the signature, empty if it is none of these.

        The bundle's own hint is not asked: whoever wrote the bundle chose it.
        """
        message = pae(PAYLOAD_TYPE, self.payload)
        return next((name for name, key in keys.items() if key.verifies(message, self.signature)), "")

    def statement(self) -> Statement:
        """What was signed; raises InvalidInput if it is no statement."""
        return read_statement(self.payload)


def make(statement: bytes, key: PrivateKey) -> bytes:
    """Sign a statement and put it into a bundle."""
    signature = key.sign(pae(PAYLOAD_TYPE, statement))
    return go_json({
        "mediaType": MEDIA_TYPE, "verificationMaterial": {"publicKey": {"hint": key.public.hint}},
        "dsseEnvelope": {"payload": _text(statement), "payloadType": PAYLOAD_TYPE,
                         "signatures": [{"sig": _text(signature)}]}})


def read(data: bytes) -> Envelope:
    """Read a bundle of unknown origin.

    Raises:
        InvalidInput: It is no bundle of version 0.3, or its content is not one signed statement.
    """
    document = read_strictly(data, "the bundle")
    version = _VERSION.fullmatch(str(document.get("mediaType", ""))[:100])
    if version is None or int(version[1] or version[2]) != 3:
        raise InvalidInput("it is not a Sigstore bundle of version 0.3")
    envelope = document.get("dsseEnvelope")
    if not isinstance(envelope, dict):
        raise InvalidInput("the bundle holds no DSSE envelope")
    return _envelope(envelope, is_keyless=_is_keyless(document.get("verificationMaterial")))


def read_envelope(data: bytes, *, is_keyless: bool) -> Envelope:
    """Read a bare DSSE envelope of unknown origin, as cosign's older attestations have it.

    Args:
        data: The document.
        is_keyless: Whether a certificate came with it.

    Raises:
        InvalidInput: It is no envelope around one signed statement.
    """
    return _envelope(read_strictly(data, "the envelope"), is_keyless=is_keyless)


def _envelope(envelope: Mapping[str, Any], *, is_keyless: bool) -> Envelope:
    if envelope.get("payloadType") != PAYLOAD_TYPE:
        raise InvalidInput(f"the payload has the type {str(envelope.get('payloadType'))[:100]!r} instead of "
                           f"{PAYLOAD_TYPE!r}")
    signatures = envelope.get("signatures")
    if not isinstance(signatures, list) or len(signatures) != 1 or not isinstance(signatures[0], dict):
        raise InvalidInput("it does not hold exactly one signature")
    return Envelope(_bytes(envelope.get("payload"), "payload"), _bytes(signatures[0].get("sig"), "signature"),
                    is_keyless)


def referrer(content: bytes, predicate_type: str, subject: Descriptor, created: str) -> bytes:
    """The manifest that attaches a bundle to its subject.

    Args:
        content: The bundle.
        predicate_type: Of the statement in it.
        subject: What is signed.
        created: RFC 3339 time.
    """
    from fuseml_oci.descriptor import descriptor_of

    return manifest(MEDIA_TYPE, descriptor_of(content, MEDIA_TYPE), subject, {
        CONTENT: "dsse-envelope", PREDICATE_TYPE: predicate_type, CREATED: created})


def manifest(artifact_type: str, layer: Descriptor, subject: Descriptor, annotations: Mapping[str, str]) -> bytes:
    """The manifest of a referrer with one layer and no config."""
    return go_json({
        "schemaVersion": 2, "mediaType": media.MANIFEST,
        "config": {"mediaType": media.EMPTY, "size": len(media.EMPTY_BYTES), "digest": media.EMPTY_DIGEST,
                   "artifactType": artifact_type},
        "layers": [{"mediaType": layer.media_type, "size": layer.size, "digest": layer.digest,
                    **({"annotations": dict(layer.annotations)} if layer.annotations else {})}],
        **({"annotations": dict(annotations)} if annotations else {}),
        "subject": {"mediaType": subject.media_type, "size": subject.size, "digest": subject.digest},
        "artifactType": artifact_type})


def _is_keyless(material: Any) -> bool:
    return isinstance(material, dict) and ("certificate" in material or "x509CertificateChain" in material)


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _bytes(value: Any, what: str) -> bytes:
    try:
        return base64.b64decode(value if isinstance(value, str) else "!", validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput(f"its {what} is not base64") from None
