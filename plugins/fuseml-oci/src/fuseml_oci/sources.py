"""Where manifests, blobs and referrers of one repository come from: a registry, or an OCI image layout.

Signatures, attestations and everything else that hangs on an artifact is read through this one interface, so that an
air-gapped copy is judged exactly like the registry it came from.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Protocol

from fuseml_oci import media
from fuseml_oci.client import RegistryClient
from fuseml_oci.descriptor import Descriptor, read_object
from fuseml_oci.digests import split_digest
from fuseml_oci.layout import ImageLayout
from fuseml_oci.referring import described, entries, fallback_tag, subject_of
from fuseml_sdk.errors import InvalidInput, NotFound, PluginError

#: Largest manifest or blob that is read into memory, in bytes.
MAX_BYTES = 4 << 20
#: Manifests of a layout that are looked through for referrers.
MAX_ENTRIES = 10_000
#: Tags of indexes of referrers and of cosign's signatures, attestations and bills of materials.
_REFERRING = re.compile(r"sha(256|512)-[0-9a-f]{64}(\.(sig|att|sbom))?")


class ManifestSource(Protocol):
    """One repository to read from. Whatever it returns for a digest or descriptor has been verified against it."""

    def referrers(self, digest: str) -> list[Descriptor]:
        """Descriptors of the manifests whose `subject` is `digest`; none if nothing refers to it."""
        ...

    def manifest(self, digest: str) -> bytes:
        """The exact bytes of a manifest, at most 4 MiB.

        Raises:
            NotFound: It is not there.
            InvalidInput, Permanent, Retryable: It cannot be had, or is not what its digest says.
        """
        ...

    def blob(self, descriptor: Descriptor) -> bytes:
        """The bytes of a small blob, at most 4 MiB; raises as :meth:`manifest` does."""
        ...

    def tagged(self, tag: str) -> bytes | None:
        """The manifest that a tag points to now, None without such a tag. Nobody vouches for what a tag points to."""
        ...


class RepositorySource:
    """A repository of a registry.

    Args:
        client: Connected to the registry.
        repository: Name within it.
    """

    def __init__(self, client: RegistryClient, repository: str) -> None:
        self._client, self._repository = client, repository

    def referrers(self, digest: str) -> list[Descriptor]:
        """Ask the referrers API, or read the fallback tag."""
        return self._client.referrers(self._repository, digest)

    def manifest(self, digest: str) -> bytes:
        """Fetch a manifest by digest."""
        split_digest(digest)
        return self._client.get_manifest(self._repository, digest)[0]

    def blob(self, descriptor: Descriptor) -> bytes:
        """Fetch a blob."""
        return self._client.get_blob_bytes(self._repository, descriptor)

    def tagged(self, tag: str) -> bytes | None:
        """Fetch what a tag points to."""
        try:
            return self._client.get_manifest(self._repository, tag)[0]
        except NotFound:
            return None


class LayoutSource:
    """An OCI image layout, read as if it were one repository.

    Referrers are the manifests of `index.json` whose `subject` matches, and what an index under the fallback tag lists.

    Args:
        layout: Folder or tar file.
    """

    def __init__(self, layout: ImageLayout) -> None:
        self._layout = layout
        self._known: dict[str, Descriptor] = {}

    def referrers(self, digest: str) -> list[Descriptor]:
        """Look through the manifests of the layout; what cannot be read is passed over."""
        found = {entry.digest: entry for entry, subject in self._subjects if subject == digest}
        for entry in self._fallback(digest):
            found.setdefault(entry.digest, entry)
        self._known.update(found)
        return list(found.values())

    def manifest(self, digest: str) -> bytes:
        """Read a manifest that `index.json` or a list of referrers names."""
        split_digest(digest)
        known = self._known.get(digest) or next((entry for entry in self._entries if entry.digest == digest), None)
        if known is None:
            raise NotFound(f"the layout has no manifest {digest}")
        return self.blob(known)

    def blob(self, descriptor: Descriptor) -> bytes:
        """Read a blob."""
        if descriptor.size > MAX_BYTES:
            raise InvalidInput(f"{descriptor.digest}: {descriptor.size} bytes are too many to be held in memory")
        return self._layout.read(descriptor)

    def tagged(self, tag: str) -> bytes | None:
        """Read the manifest that `index.json` names so."""
        entry = next((entry for entry in self._entries if entry.annotations.get(media.REF_NAME) == tag), None)
        return None if entry is None else self.blob(entry)

    def only_subject(self) -> str:
        """The digest of the one manifest of the layout that refers to no other.

        Raises:
            InvalidInput: There are several, or none.
        """
        referring = {entry.digest for entry, _ in self._subjects}
        found = {entry.digest for entry in self._entries if entry.digest not in referring
                 and not _REFERRING.fullmatch(entry.annotations.get(media.REF_NAME, ""))}
        if len(found) != 1:
            raise InvalidInput(f"the layout holds {len(found)} manifests that refer to no other, instead of one")
        return found.pop()

    @cached_property
    def _entries(self) -> list[Descriptor]:
        entries = self._layout.manifests()
        if len(entries) > MAX_ENTRIES:
            raise InvalidInput(f"the layout lists {len(entries)} manifests, more than {MAX_ENTRIES}")
        return entries

    @cached_property
    def _subjects(self) -> list[tuple[Descriptor, str]]:
        """The referring manifests, described as the referrers API does, each with its subject's digest."""
        found = []
        for entry in self._entries:
            try:
                subject = subject_of(data := self.blob(entry))
                if subject is not None:
                    found.append((described(data, entry.media_type), subject.digest))
            except PluginError:
                continue
        return found

    def _fallback(self, digest: str) -> list[Descriptor]:
        try:
            data = self.tagged(fallback_tag(digest))
            return entries([read_object(data, "referrers")], "referrers") if data else []
        except PluginError:
            return []

