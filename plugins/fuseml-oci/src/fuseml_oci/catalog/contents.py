"""From what a catalog contains to the artifact that holds it: documents, manifests, image index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fuseml_oci import media
from fuseml_oci.catalog.format import API_VERSION, History, Namespaces, Package, Root, encode, packed
from fuseml_oci.catalog.tree import blob_of, build_tree
from fuseml_oci.descriptor import canonical_json
from fuseml_oci.digests import digest_bytes

#: Layers that one manifest of contents has at most on average; a manifest may have 4 MiB, a layer takes 180 bytes.
_LAYERS = 2048


@dataclass(frozen=True, slots=True)
class Contents:
    """What a catalog says, apart from its own version and expiry.

    Attributes:
        packages: By name; their `history` is set when the artifact is made.
        namespaces: Who may publish where.
        histories: Decisions by package.
    """

    packages: Mapping[str, Package]
    namespaces: Namespaces = field(default_factory=lambda: Namespaces(api_version=API_VERSION))
    histories: Mapping[str, History] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CatalogArtifact:
    """A catalog as an OCI artifact.

    Attributes:
        root: What is published.
        index: Bytes of the image index.
        manifests: Bytes of the manifests in it, by digest.
        blobs: Bytes of all documents, by digest.
    """

    root: Root
    index: bytes
    manifests: Mapping[str, bytes]
    blobs: Mapping[str, bytes]

    @property
    def digest(self) -> str:
        """Of the image index: what is signed."""
        return digest_bytes(self.index)


def assemble(contents: Contents, *, name: str, version: int, issued: str, expires: str,
             summary: str = "") -> CatalogArtifact:
    """Make the artifact of a catalog. Equal arguments, equal bytes.

    Args:
        contents: What it says.
        name: Of the catalog.
        version: Higher than that of the last publication.
        issued: Now, as documents write times.
        expires: When subscribers shall stop believing it.
        summary: One line about the catalog.
    """
    blobs: dict[str, bytes] = {}

    def add(data: bytes) -> str:
        digest = digest_bytes(data)
        blobs[digest] = data
        return digest

    packages = {}
    for key, package in contents.packages.items():
        history = contents.histories.get(key)
        link = blob_of(blobs[add(packed(encode(history)))]) if history is not None and history.decisions else None
        packages[key] = blob_of(blobs[add(packed(encode(package.model_copy(update={"history": link}))))])
    tree, nodes = build_tree(packages)
    blobs |= nodes
    namespaces = blob_of(blobs[add(encode(contents.namespaces))])
    root = Root(api_version=API_VERSION, name=name, summary=summary, version=version, issued=issued, expires=expires,
                tree=tree, count=len(packages), namespaces=namespaces)
    manifests = [_root_manifest(root), *_contents_manifests(blobs)]
    add(encode(root))
    index = {"schemaVersion": 2, "mediaType": media.INDEX, "artifactType": media.CATALOG,
             "manifests": [_entry(data, kind) for data, kind in manifests],
             "annotations": {media.TITLE: name, media.CATALOG_VERSION: str(version)}}
    return CatalogArtifact(root, canonical_json(index), {digest_bytes(data): data for data, _ in manifests}, blobs)


def _root_manifest(root: Root) -> tuple[bytes, str]:
    config = encode(root)
    empty = {"mediaType": media.EMPTY, "digest": media.EMPTY_DIGEST, "size": len(media.EMPTY_BYTES)}
    manifest = {"schemaVersion": 2, "mediaType": media.MANIFEST, "artifactType": media.CATALOG_ROOT,
                "config": {"mediaType": media.CATALOG_ROOT, "digest": digest_bytes(config), "size": len(config)},
                "layers": [empty]}
    return canonical_json(manifest), media.CATALOG_ROOT


def _contents_manifests(blobs: Mapping[str, bytes]) -> list[tuple[bytes, str]]:
    """Manifests that list all documents; by the first byte of the digest, so that few of them change each time."""
    parts = 1
    while parts < 256 and len(blobs) > parts * _LAYERS:
        parts *= 2
    groups: dict[int, list[str]] = {}
    for digest in sorted(blobs):
        groups.setdefault(int(digest[7:9], 16) * parts // 256, []).append(digest)
    return [(_contents_manifest(groups[part], blobs), media.CATALOG_CONTENTS) for part in sorted(groups)]


def _contents_manifest(digests: list[str], blobs: Mapping[str, bytes]) -> bytes:
    layers = [{"mediaType": media.CATALOG_DOCUMENT, "digest": digest, "size": len(blobs[digest])}
              for digest in digests]
    empty = {"mediaType": media.EMPTY, "digest": media.EMPTY_DIGEST, "size": len(media.EMPTY_BYTES)}
    return canonical_json({"schemaVersion": 2, "mediaType": media.MANIFEST, "artifactType": media.CATALOG_CONTENTS,
                           "config": empty, "layers": layers})


def _entry(data: bytes, kind: str) -> dict[str, Any]:
    return {"mediaType": media.MANIFEST, "digest": digest_bytes(data), "size": len(data), "artifactType": kind}
