"""Canonical JSON and the digests made of it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from typing import Any


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no white space: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(errors="surrogatepass")


def digest(value: Any) -> str:
    """`sha256:<hex>` of the canonical JSON of `value`."""
    return "sha256:" + hashlib.sha256(canonical(value)).hexdigest()


def tree_digest(files: Iterable[tuple[str, str, bool]]) -> str:
    """Digest of a set of files given as (path, digest, executable), whatever their order."""
    return digest(sorted([path, content, executable] for path, content, executable in files))


def workload_name(step_uid: str, attempt: int) -> str:
    """Name of a workload, the same whenever it is computed, so that submitting twice is one submission (G3)."""
    raw = hashlib.sha256(f"{step_uid}/{attempt}".encode()).digest()
    return "fz-" + base64.b32encode(raw).decode().lower()[:20]
