"""Digests: grammar, hashing in pieces, and the check that content is what a digest says (image-spec, descriptor.md)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from fuseml_sdk.errors import InvalidInput

#: Bytes read, hashed or sent at a time. Larger buffers gain nothing measurable, smaller ones cost system calls.
BUFFER = 1 << 20
#: Registered algorithms that FuseML accepts, with the length of their lower-case hexadecimal form.
HEX_LENGTH = {"sha256": 64, "sha512": 128}
_DIGEST = re.compile(r"([a-z0-9]+(?:[.+_-][a-z0-9]+)*):([a-zA-Z0-9=_-]+)")
_HEX = re.compile(r"[0-9a-f]+")


class Hasher(Protocol):
    """What is used of a `hashlib` object."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Add bytes."""

    def hexdigest(self) -> str:
        """Return the digest of all bytes so far in hexadecimal."""


def split_digest(digest: str) -> tuple[str, str]:
    """Take a digest apart into (algorithm, hexadecimal part).

    Raises:
        InvalidInput: It is not `sha256:<64 lower-case hex>` or `sha512:<128 lower-case hex>`.
    """
    match = _DIGEST.fullmatch(digest)
    if not match:
        raise InvalidInput(f"{digest[:200]!r} is not a digest", hint="write it as sha256:<64 hex digits>")
    algorithm, value = match.groups()
    if algorithm not in HEX_LENGTH:
        raise InvalidInput(f"digest algorithm {algorithm[:40]!r} is not supported", hint="use sha256 or sha512")
    if len(value) != HEX_LENGTH[algorithm] or not _HEX.fullmatch(value):
        raise InvalidInput(f"{digest[:200]!r} is not a digest: {algorithm} has "
                           f"{HEX_LENGTH[algorithm]} lower-case hexadecimal digits")
    return algorithm, value


def is_digest(text: str) -> bool:
    """Tell whether a reference is a digest and not a tag: only digests contain a colon."""
    return ":" in text


def new_hasher(algorithm: str) -> Hasher:
    """Return a hash object for `sha256` or `sha512`."""
    factory: Callable[[], Hasher] = {"sha256": hashlib.sha256, "sha512": hashlib.sha512}[algorithm]
    return factory()


def digest_bytes(data: bytes, algorithm: str = "sha256") -> str:
    """Return the digest of some bytes as `algorithm:hex`."""
    hasher = new_hasher(algorithm)
    hasher.update(data)
    return f"{algorithm}:{hasher.hexdigest()}"


def digest_file(path: Path, algorithm: str = "sha256") -> tuple[str, int]:
    """Return (digest, size in bytes) of a file, reading it in pieces."""
    hasher, size, buffer = new_hasher(algorithm), 0, bytearray(BUFFER)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            hasher.update(memoryview(buffer)[:count])
            size += count
    return f"{algorithm}:{hasher.hexdigest()}", size
