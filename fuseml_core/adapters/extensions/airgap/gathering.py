"""Fetching a bundle with everything that hangs on it: config, layers, signatures, attestations, other referrers."""

from __future__ import annotations

from dataclasses import replace

from fuseml_core.adapters.extensions.airgap.blobs import Blobs
from fuseml_oci import media
from fuseml_oci.client import RegistryClient
from fuseml_oci.copy_sources import CopySource, Found
from fuseml_oci.copy_targets import Outcome
from fuseml_oci.copying import copy
from fuseml_oci.descriptor import Descriptor
from fuseml_oci.progress import Watch
from fuseml_oci.reference import Reference


class _Folder:
    """Where a copy puts everything; implements `CopyTarget`. What is there is verified again instead of fetched."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self.manifests: dict[str, Descriptor] = {}
        self.names: dict[str, Descriptor] = {}

    def take_blob(self, descriptor: Descriptor, source: CopySource, watch: Watch) -> Outcome:
        """Fetch a blob unless it is here."""
        fetched = self._blobs.fetch(descriptor, lambda path: source.save(descriptor, path, watch))
        return "sent" if fetched else "present"

    def take_manifest(self, found: Found) -> None:
        """Keep a manifest."""
        self._blobs.put(found.data, found.descriptor.digest)
        self.manifests[found.descriptor.digest] = replace(found.descriptor, annotations={})

    def name(self, found: Found, tag: str) -> None:
        """Write down the name of a manifest, such as cosign's."""
        self.names[tag] = replace(found.descriptor, annotations={media.REF_NAME: tag})

    def finish(self) -> None:
        """Nothing is left to do."""

    def __str__(self) -> str:
        return str(self._blobs.folder)


def gather(reference: Reference, name: str, client: RegistryClient, blobs: Blobs) -> list[Descriptor]:
    """Fetch an artifact and all that refers to it, exact bytes only, and say how index.json lists them.

    Args:
        reference: With digest.
        name: Its `org.opencontainers.image.ref.name`.
        client: For its registry.
        blobs: Where everything goes.

    Raises:
        NotFound, InvalidInput, Permanent, Retryable: As `copy`; trying again goes on.
    """
    folder = _Folder(blobs)
    root = copy(Reference(reference.registry, reference.repository, digest=reference.digest), folder,
                connect=lambda _reference: client).root
    named = {root.digest: name, **{entry.digest: tag for tag, entry in folder.names.items()}}
    return [replace(entry, annotations={media.REF_NAME: named[digest]} if digest in named else {})
            for digest, entry in sorted(folder.manifests.items())]
