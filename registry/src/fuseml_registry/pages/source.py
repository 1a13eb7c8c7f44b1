"""One repository of the registry's own storage as a source of manifests, for signatures and catalogs."""

from __future__ import annotations

from fuseml_oci.descriptor import Descriptor, read_descriptor
from fuseml_oci.digests import split_digest
from fuseml_oci.sources import MAX_BYTES
from fuseml_registry.pages.holdings import Holdings
from fuseml_registry.referrers import Referrers
from fuseml_sdk.errors import InvalidInput, NotFound

#: Referrers of one manifest that are looked at; whoever may push can add as many as they like.
MAX_REFERRERS = 200


class StorageSource:
    """What `fuseml_oci.sources.ManifestSource` asks for, read from files; every byte is verified.

    Args:
        holdings: Of the registry.
        repository: Name of a repository.
    """

    def __init__(self, holdings: Holdings, repository: str) -> None:
        self._holdings, self._repository = holdings, repository

    def referrers(self, digest: str) -> list[Descriptor]:
        """Manifests whose subject is `digest`, the first 200 of them."""
        found: list[Descriptor] = []
        last = ""
        while len(found) < MAX_REFERRERS:
            page, last = Referrers(self._holdings.storage).listed(self._repository, digest, "", last)
            for entry in page["manifests"]:
                try:
                    found.append(read_descriptor(entry, "a referrer"))
                except InvalidInput:
                    continue
            if not last:
                break
        return found[:MAX_REFERRERS]

    def manifest(self, digest: str) -> bytes:
        """The exact bytes of a manifest."""
        split_digest(digest)
        return self._holdings.manifest(self._repository, digest)[0]

    def blob(self, descriptor: Descriptor) -> bytes:
        """The bytes of a small blob."""
        if descriptor.size > MAX_BYTES:
            raise InvalidInput(f"{descriptor.digest}: {descriptor.size} bytes are too many to be held in memory")
        return self._holdings.blob(self._repository, descriptor.digest, descriptor.size)

    def tagged(self, tag: str) -> bytes | None:
        """The manifest that a tag points to now."""
        try:
            return self.manifest(self._holdings.tagged(self._repository, tag).digest)
        except NotFound:
            return None
