"""The older layout of cosign: a manifest under the tag `sha256-<hex>.sig`, each layer a signed payload.

Source: cosign `specs/SIGNATURE_SPEC.md` and `pkg/oci/static`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

from fuseml_oci import media
from fuseml_oci.descriptor import Descriptor, descriptor_of, read_object
from fuseml_oci.digests import split_digest
from fuseml_oci.signing.keys import PrivateKey
from fuseml_oci.signing.payloads import go_json, make_legacy_payload
from fuseml_sdk.errors import InvalidInput

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
#: Type of the layers under the tag of attestations, each a DSSE envelope.
ENVELOPE = "application/vnd.dsse.envelope.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"
CERTIFICATE = "dev.sigstore.cosign/certificate"
CONFIG = "application/vnd.oci.image.config.v1+json"
_NEVER = "0001-01-01T00:00:00Z"
#: As many as cosign reads.
MAX_LAYERS = 1000


def signature_tag(digest: str) -> str:
    """The tag that holds the signatures of a manifest; empty for `sha512`, whose tag would be too long to exist."""
    return _tag(digest, "sig")


def attestation_tag(digest: str) -> str:
    """The tag that holds the older attestations of a manifest; empty for `sha512`."""
    return _tag(digest, "att")


def _tag(digest: str, ending: str) -> str:
    algorithm, value = split_digest(digest)
    return f"{algorithm}-{value}.{ending}" if algorithm == "sha256" else ""


def make(place: str, digest: str, key: PrivateKey) -> tuple[bytes, Descriptor]:
    """Sign a manifest.

    Args:
        place: `host/repository`.
        digest: Of the manifest.
        key: To sign with.

    Returns:
        (payload, the layer that describes it and carries the signature).
    """
    payload = make_legacy_payload(place, digest)
    return payload, descriptor_of(payload, SIMPLE_SIGNING,
                                  {SIGNATURE: base64.b64encode(key.sign(payload)).decode()})


def config(layers: Sequence[Mapping[str, Any]]) -> bytes:
    """The config blob that goes with some layers."""
    return go_json({"architecture": "", "created": _NEVER, "history": [{"created": _NEVER} for _ in layers], "os": "",
                    "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]}, "config": {}})


def manifest(layers: Sequence[Mapping[str, Any]], config_bytes: bytes) -> bytes:
    """The manifest that holds some signatures."""
    described = descriptor_of(config_bytes, CONFIG)
    return go_json({"schemaVersion": 2, "mediaType": media.MANIFEST,
                    "config": {"mediaType": CONFIG, "size": described.size, "digest": described.digest},
                    "layers": list(layers)})


def layer_of(entry: Descriptor) -> dict[str, Any]:
    """A layer as an object of the manifest, in cosign's order."""
    return {"mediaType": entry.media_type, "size": entry.size, "digest": entry.digest,
            "annotations": dict(entry.annotations)}


def read_layers(data: bytes) -> list[dict[str, Any]]:
    """The layers of a manifest of signatures, as they are.

    Raises:
        InvalidInput: It is no such manifest, or has more layers than cosign reads.
    """
    layers = read_object(data, "the manifest of signatures").get("layers")
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        raise InvalidInput("the manifest of signatures has no layers")
    if len(layers) > MAX_LAYERS:
        raise InvalidInput(f"{len(layers)} signatures are more than {MAX_LAYERS}")
    return layers


def read_signature(layer: Descriptor) -> bytes:
    """The signature that a layer carries; raises InvalidInput if it carries none."""
    try:
        return base64.b64decode(layer.annotations.get(SIGNATURE, "!"), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput("its signature is not base64") from None
