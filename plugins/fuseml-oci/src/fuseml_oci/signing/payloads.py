"""What is signed: DSSE envelopes around in-toto statements, and cosign's older "simple signing" payload.

Sources: in-toto attestation framework 1.0 (Statement v1), DSSE 1.0 protocol, cosign `SIGNATURE_SPEC.md`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fuseml_oci.digests import split_digest
from fuseml_oci.signing.strict_json import read_strictly
from fuseml_sdk.errors import InvalidInput

STATEMENT = "https://in-toto.io/Statement/v1"
#: Older statements that attestations in the wild still have.
STATEMENTS = frozenset({STATEMENT, "https://in-toto.io/Statement/v0.1"})
PAYLOAD_TYPE = "application/vnd.in-toto+json"
#: Predicate type of a statement that says no more than "I sign this".
SIGNATURE = "https://sigstore.dev/cosign/sign/v1"
#: What cosign calls its older payload.
LEGACY_TYPE = "cosign container image signature"
#: Go escapes these in JSON so that it can stand in HTML.
_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_MAX_SUBJECTS = 1000


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement about some artifacts.

    Attributes:
        digests: Those of its subjects.
        predicate_type: URI.
        predicate: What it says.
    """

    digests: frozenset[str]
    predicate_type: str
    predicate: Mapping[str, Any]


def pae(payload_type: str, payload: bytes) -> bytes:
    """The pre-authentication encoding of DSSE: the bytes that are signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def make_statement(digest: str, predicate_type: str, predicate: Mapping[str, Any]) -> bytes:
    """Write a statement about one manifest."""
    algorithm, value = split_digest(digest)
    return go_json({"_type": STATEMENT, "subject": [{"digest": {algorithm: value}}], "predicateType": predicate_type,
                    "predicate": predicate})


def read_statement(data: bytes) -> Statement:
    """Read a statement of unknown origin.

    Raises:
        InvalidInput: It is none.
    """
    document = read_strictly(data, "the statement")
    subjects, kind = document.get("subject"), document.get("predicateType")
    if document.get("_type") not in STATEMENTS or not isinstance(kind, str):
        raise InvalidInput("it is not an in-toto statement of version 1")
    if not isinstance(subjects, list) or not 0 < len(subjects) <= _MAX_SUBJECTS:
        raise InvalidInput(f"the statement has no subjects, or more than {_MAX_SUBJECTS}")
    predicate = document.get("predicate")
    return Statement(frozenset(digest for subject in subjects for digest in _digests(subject)), kind,
                     predicate if isinstance(predicate, dict) else {})


def make_legacy_payload(place: str, digest: str) -> bytes:
    """Write the older payload, byte for byte as cosign does.

    Args:
        place: `host/repository`; verifiers do not rely on it.
        digest: Of the manifest.
    """
    split_digest(digest)
    return go_json({"critical": {"identity": {"docker-reference": place}, "image": {"docker-manifest-digest": digest},
                                 "type": LEGACY_TYPE}, "optional": None})


def read_legacy_payload(data: bytes) -> str:
    """Return the digest that an older payload vouches for; everything else in it means nothing to us.

    Raises:
        InvalidInput: It is no such payload.
    """
    critical = read_strictly(data, "the payload").get("critical")
    image = critical.get("image") if isinstance(critical, dict) else None
    digest = image.get("docker-manifest-digest") if isinstance(image, dict) else None
    if not isinstance(critical, dict) or critical.get("type") != LEGACY_TYPE or not isinstance(digest, str):
        raise InvalidInput("it is not a payload of cosign: critical.type or critical.image.docker-manifest-digest is "
                           "missing or wrong")
    split_digest(digest)
    return digest


def go_json(value: Any) -> bytes:
    """Serialise as Go's `json.Marshal` does: compact, in the given order, safe within HTML."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return "".join(_ESCAPES.get(char, char) for char in text).encode()


def _digests(subject: Any) -> list[str]:
    found = subject.get("digest") if isinstance(subject, dict) else None
    if not isinstance(found, dict):
        raise InvalidInput("a subject of the statement has no digest")
    return [f"{algorithm}:{value}" for algorithm, value in found.items() if isinstance(value, str)]
