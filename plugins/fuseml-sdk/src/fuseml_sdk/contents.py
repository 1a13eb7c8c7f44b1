"""The identity of contents: from a directory to files, manifest and digest, the same everywhere.

Models are described as CNCF ModelPack artifacts (github.com/modelpack/model-spec), data sets in the same shape;
both are image-spec 1.1 manifests with one layer per file, so an identity digest is also an address in a registry.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.trees import scan_tree
from fuseml_sdk.types.artifacts import MODEL, FileEntry

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
MODEL_TYPE = "application/vnd.cncf.model.manifest.v1+json"
MODEL_CONFIG_TYPE = "application/vnd.cncf.model.config.v1+json"
MODEL_LAYER_TYPE = "application/vnd.cncf.model.weight.v1.raw"
DATASET_TYPE = "application/vnd.fuseml.dataset.v1+json"
DATASET_LAYER_TYPE = "application/vnd.cncf.model.dataset.v1.raw"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
FILE_PATH = "org.cncf.model.filepath"
#: Our own annotation; only on files that may be executed.
EXECUTABLE = "io.fuseml.executable"
_EMPTY = b"{}"


class Identity(NamedTuple):
    """What :func:`identify` computes: bytes of the manifest, bytes of its config, `sha256:<hex>` of the manifest."""

    manifest: bytes
    config: bytes
    digest: str


def scan(directory: Path) -> list[FileEntry]:
    """Read every file below a directory, sorted by path, with its size and sha256.

    Raises:
        InvalidInput: Something there cannot be stored; see :func:`fuseml_sdk.trees.scan_tree`.
    """
    return [FileEntry(path=f.path, size=f.size, digest=f.digest, executable=f.executable)
            for f in scan_tree(directory)]


def identify(kind: str, files: Iterable[FileEntry]) -> Identity:
    """Compute the deterministic manifest of contents and its digest, which is their identity.

    Args:
        kind: `model`, `dataset` or a kind that an extension adds.
        files: All files, in any order.

    Raises:
        InvalidInput: There are no files, or two with one path.
    """
    ordered = sorted(files, key=lambda entry: entry.path.encode())
    if not ordered:
        raise InvalidInput(f"an empty {kind} cannot be stored", hint="Put at least one file in it.")
    twice = [a.path for a, b in pairwise(ordered) if a.path == b.path]
    if twice:
        raise InvalidInput(f"the path {twice[0]} occurs twice")
    model = kind == MODEL
    config = canonical_json(_model_config(ordered)) if model else _EMPTY
    manifest = canonical_json({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": MODEL_TYPE if model else f"application/vnd.fuseml.{kind}.v1+json",
        "config": {"mediaType": MODEL_CONFIG_TYPE if model else EMPTY_TYPE, "digest": digest_of(config),
                   "size": len(config)},
        "layers": [_layer(entry, MODEL_LAYER_TYPE if model else DATASET_LAYER_TYPE) for entry in ordered],
    })
    return Identity(manifest, config, digest_of(manifest))


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys, no white space, as UTF-8: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest_of(data: bytes) -> str:
    """`sha256:<hex>` of bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _model_config(files: list[FileEntry]) -> dict[str, Any]:
    """The ModelPack config without anything that differs between two equal models, such as a time."""
    return {"descriptor": {}, "config": {},
            "modelfs": {"type": "layers", "diffIds": [entry.digest for entry in files]}}


def _layer(entry: FileEntry, media_type: str) -> dict[str, Any]:
    annotations = {FILE_PATH: entry.path} | ({EXECUTABLE: "true"} if entry.executable else {})
    return {"mediaType": media_type, "digest": entry.digest, "size": entry.size, "annotations": annotations}
