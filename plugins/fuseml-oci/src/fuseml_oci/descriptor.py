"""Content descriptors (image-spec, descriptor.md): media type, digest and size of a blob or manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fuseml_oci.digests import digest_bytes, split_digest
from fuseml_sdk.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What identifies some content. Its digest has been checked for form; `size` is in bytes."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    artifact_type: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the descriptor as the object that manifests contain."""
        result: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.artifact_type:
            result["artifactType"] = self.artifact_type
        if self.annotations:
            result["annotations"] = dict(sorted(self.annotations.items()))
        return result


def descriptor_of(data: bytes, media_type: str, annotations: Mapping[str, str] | None = None) -> Descriptor:
    """Describe some bytes."""
    return Descriptor(media_type, digest_bytes(data), len(data), annotations or {})


def read_descriptor(value: Any, where: str) -> Descriptor:
    """Read a descriptor from JSON of unknown origin.

    Args:
        value: The JSON value.
        where: What to call it in errors, such as `layers[0] of oci://…`.

    Raises:
        InvalidInput: It is not an object, or media type, digest or size are missing or wrong.
    """
    if not isinstance(value, dict):
        raise InvalidInput(f"{where} is not a descriptor: it is not an object")
    media_type, digest, size = value.get("mediaType"), value.get("digest"), value.get("size")
    if not isinstance(media_type, str) or not isinstance(digest, str):
        raise InvalidInput(f"{where} is not a descriptor: mediaType and digest must be strings")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise InvalidInput(f"{where} has the size {size!r}: it must be a whole number, zero or more")
    split_digest(digest)
    annotations = value.get("annotations") or {}
    if not isinstance(annotations, dict) or not all(isinstance(v, str) for v in annotations.values()):
        raise InvalidInput(f"{where} has annotations that are not strings")
    artifact_type = value.get("artifactType") or ""
    return Descriptor(media_type, digest, size, annotations, artifact_type if isinstance(artifact_type, str) else "")


def canonical_json(value: Any) -> bytes:
    """Serialise JSON so that equal values give equal bytes: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def read_object(data: bytes, where: str) -> dict[str, Any]:
    """Read a JSON object of unknown origin.

    Raises:
        InvalidInput: It is not JSON, not an object, or has a key twice: programs differ in which one they see.
    """
    try:
        value = json.loads(data, object_pairs_hook=_once, parse_constant=_refuse_constant)
    except _Duplicate as error:
        raise InvalidInput(f"{where} has the key {str(error)[:60]!r} twice in one object") from None
    except (ValueError, RecursionError):
        raise InvalidInput(f"{where} is not JSON") from None
    if not isinstance(value, dict):
        raise InvalidInput(f"{where} is not a JSON object")
    return value


class _Duplicate(Exception):
    """A key occurs twice in an object."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        raise _Duplicate(next(key for key, _ in pairs if key in seen or seen.add(key)))  # type: ignore[func-returns-value]
    return value


def _refuse_constant(name: str) -> Any:
    """NaN and Infinity are no JSON (RFC 8259, 6)."""
    raise ValueError(name)
