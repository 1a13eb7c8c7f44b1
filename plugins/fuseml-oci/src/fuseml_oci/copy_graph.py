"""Everything that belongs to an artifact: what it names, what refers to it, and what cosign attached by tags."""

from __future__ import annotations

from dataclasses import dataclass, field

from fuseml_oci import media
from fuseml_oci.copy_sources import CopySource, Found
from fuseml_oci.descriptor import Descriptor, read_descriptor, read_object
from fuseml_oci.referring import fallback_tag
from fuseml_sdk.errors import InvalidInput, Permanent

#: Bounds of one artifact with everything that belongs to it; a hostile index could go on for ever.
MAX_MANIFESTS, MAX_DEPTH, MAX_BYTES = 10_000, 16, 32 << 20
#: What cosign appends to the fallback tag of an artifact: signatures, attestations, SBOMs.
COSIGN_SUFFIXES = (".sig", ".att", ".sbom")


@dataclass
class Graph:
    """An artifact with all that belongs to it.

    Attributes:
        source: Where it is read from.
        with_referrers: Whether what refers to it belongs to it.
        manifests: By digest, each after what it names.
        blobs: By digest, configs and layers.
        names: Manifests by the tags that cosign gives them.
        extra: How many of the manifests only refer to it.
        size: Of all manifests, in bytes.
    """

    source: CopySource
    with_referrers: bool
    manifests: dict[str, Found] = field(default_factory=dict)
    blobs: dict[str, Descriptor] = field(default_factory=dict)
    names: dict[str, Found] = field(default_factory=dict)
    extra: int = 0
    size: int = 0

    def read(self) -> Found:
        """Read all of it; returns the root."""
        root = self.source.root()
        self._add(root, 0)
        own = len(self.manifests)
        if self.with_referrers:
            self._add_referrers()
        self.extra = len(self.manifests) - own
        return root

    def _add(self, found: Found, depth: int) -> None:
        digest = found.descriptor.digest
        if digest in self.manifests:
            return
        self.size += len(found.data)
        if depth > MAX_DEPTH or len(self.manifests) >= MAX_MANIFESTS or self.size > MAX_BYTES:
            raise InvalidInput(f"{digest} belongs to more than {MAX_MANIFESTS} manifests, {MAX_BYTES} bytes of them or "
                               f"{MAX_DEPTH} levels")
        document = read_object(found.data, digest)
        if found.descriptor.media_type in media.INDEXES:
            for child in _descriptors(document.get("manifests"), f"manifests of {digest}"):
                self._add(self.source.manifest(child), depth + 1)
        elif found.descriptor.media_type in media.MANIFESTS:
            config = [] if document.get("config") is None else [document["config"]]
            for blob in [*_descriptors(config, f"config of {digest}"),
                         *_descriptors(document.get("layers"), f"layers of {digest}")]:
                self._add_blob(blob, digest)
        else:
            raise InvalidInput(f"{digest} is a {found.descriptor.media_type[:100]!r}, neither manifest nor index")
        self.manifests[digest] = found

    def _add_blob(self, blob: Descriptor, digest: str) -> None:
        known = self.blobs.setdefault(blob.digest, blob)
        if known.size != blob.size:
            raise Permanent(f"{digest}: the blob {blob.digest} cannot have both {known.size} and {blob.size} bytes")

    def _add_referrers(self) -> None:
        pending = list(self.manifests)
        while pending:
            digest = pending.pop()
            for descriptor in self.source.referrers(digest):
                if descriptor.digest not in self.manifests:
                    before = set(self.manifests)
                    self._add(self.source.manifest(descriptor), 0)
                    pending += [d for d in self.manifests if d not in before]
            for suffix in COSIGN_SUFFIXES:
                name = fallback_tag(digest) + suffix
                found = self.source.tagged(name)
                if found is not None:
                    self._add(found, 0)
                    self.names[name] = found


def _descriptors(values: object, where: str) -> list[Descriptor]:
    if values is None:
        return []
    if not isinstance(values, list):
        raise InvalidInput(f"{where}: not a list")
    return [read_descriptor(value, f"{where}, number {number},") for number, value in enumerate(values)]
