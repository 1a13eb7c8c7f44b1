"""Where a copy goes: what every target offers, and repositories of registries. Layouts: `layout_target`."""

from __future__ import annotations

from typing import Literal, Protocol

from fuseml_oci.client import RegistryClient
from fuseml_oci.copy_sources import CopySource, Found
from fuseml_oci.descriptor import Descriptor
from fuseml_oci.progress import Watch
from fuseml_oci.reference import Reference
from fuseml_oci.referring import subject_of

#: What became of a blob.
Outcome = Literal["present", "mounted", "sent"]


class CopyTarget(Protocol):
    """What is written while something is copied: blobs from several threads, then manifests, then their names."""

    def take_blob(self, descriptor: Descriptor, source: CopySource, watch: Watch) -> Outcome:
        """Fetch a blob from the source unless it is there."""

    def take_manifest(self, found: Found) -> None:
        """Store a manifest or index, so that the referrers of its subject list it. All it names is there."""

    def name(self, found: Found, tag: str) -> None:
        """Make a tag point to a manifest that was taken."""

    def finish(self) -> None:
        """Make everything visible."""

    def __str__(self) -> str:
        """The place, for messages."""


class RepositoryTarget:
    """A repository.

    Args:
        client: For the registry.
        reference: Only its registry and repository count.
    """

    def __init__(self, client: RegistryClient, reference: Reference) -> None:
        self._client, self._reference = client, reference

    def take_blob(self, descriptor: Descriptor, source: CopySource, watch: Watch) -> Outcome:
        """See `CopyTarget`. Mounts what another repository of the registry has."""
        client, repository = self._client, self._reference.repository
        if client.has_blob(repository, descriptor.digest):
            return "present"
        origin, other = source.repository or (None, "")
        if origin == client.origin and other != repository and client.mount_blob(repository, descriptor.digest, other):
            return "mounted"
        with source.content(descriptor) as content:
            client.send_blob(repository, content, descriptor.digest, watch)
        return "sent"

    def take_manifest(self, found: Found) -> None:
        """See `CopyTarget`."""
        data, descriptor = found
        repository = self._reference.repository
        if subject_of(data) is not None:
            self._client.push_referrer(repository, data, descriptor.media_type)
        elif not self._client.has_manifest(repository, descriptor.digest):
            self._client.push_manifest(repository, descriptor.digest, data, descriptor.media_type)

    def name(self, found: Found, tag: str) -> None:
        """See `CopyTarget`."""
        self._client.push_manifest(self._reference.repository, tag, found.data, found.descriptor.media_type)

    def finish(self) -> None:
        """See `CopyTarget`."""

    def __str__(self) -> str:
        return f"oci://{self._reference.registry}/{self._reference.repository}"
