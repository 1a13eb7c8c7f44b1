"""Manifests: checked on the way in, kept byte for byte, found by digest or tag."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuseml_oci import media
from fuseml_oci.descriptor import Descriptor, read_descriptor, read_object
from fuseml_oci.digests import HEX_LENGTH, digest_bytes, is_digest
from fuseml_registry.errors import RegistryError, digest_invalid, manifest_invalid, manifest_unknown
from fuseml_registry.referrers import Referrers, artifact_type_of
from fuseml_registry.storage import Storage
from fuseml_registry.tags import Tags
from fuseml_sdk.errors import InvalidInput

#: Largest manifest that is accepted (distribution-spec: at least 4 MiB).
MAX_MANIFEST = 4 << 20


@dataclass(frozen=True, slots=True)
class Stored:
    """A manifest as kept: digest as asked or as stored, media type, file and subject (empty if none)."""

    digest: str
    media_type: str
    path: Path
    subject: str = ""


class Manifests:
    """The manifests of all repositories. Methods do disk work and are called from threads."""

    def __init__(self, storage: Storage, tags: Tags, referrers: Referrers) -> None:
        self._storage, self._tags, self._referrers = storage, tags, referrers

    def get(self, name: str, reference: str) -> Stored:
        """Find a manifest by tag or digest.

        Raises:
            RegistryError: MANIFEST_UNKNOWN.
        """
        digest = reference if is_digest(reference) else self._tags.get(name, reference)
        link = self._storage.link_path(name, "_manifests", digest)
        try:
            self._storage.renew(name, "_manifests", digest)
            media_type = link.read_text()
        except FileNotFoundError:
            raise manifest_unknown(name, reference) from None
        path = self._storage.blob_path(digest)
        if not path.exists():
            raise manifest_unknown(name, reference)
        return Stored(digest, media_type, path)

    def put(self, name: str, reference: str, tags: Sequence[str], data: bytes, content_type: str) -> Stored:
        """Take in a manifest under its digest and tags.

        Args:
            name: Repository.
            reference: Tag or digest of the URL.
            tags: Further tags (end-7b).
            data: Exact bytes.
            content_type: Header of the request, may be empty.

        Raises:
            RegistryError: MANIFEST_INVALID, MANIFEST_BLOB_UNKNOWN, DIGEST_INVALID, or DENIED for an immutable tag.
        """
        document, media_type = _read(data, content_type)
        digests = [digest_bytes(data, algorithm) for algorithm in HEX_LENGTH]
        if is_digest(reference) and reference not in digests:
            raise digest_invalid(f"the manifest has the digest {digests[0]}, not {reference}")
        digest = reference if is_digest(reference) else digests[0]
        wanted = [*tags] if is_digest(reference) else [reference, *tags]
        subject = subject_of(document)
        # Under the lock, nothing that was just found to be there is collected or deleted before the manifest names it.
        with self._storage.repository_lock(name):
            self._check_contents(name, document, media_type)
            for tag in wanted:
                self._tags.check(name, tag, digests)
            self._storage.take_manifest(name, digest, data, media_type)
            self._storage.remove(self._storage.link_path(name, "_deleted", digest))
            if subject:
                annotations, kind = document.get("annotations") or {}, artifact_type_of(document, media_type)
                self._referrers.add(name, subject, Descriptor(media_type, digest, len(data), annotations, kind))
            for tag in wanted:
                self._tags.set(name, tag, digest, digests)
        return Stored(digest, media_type, self._storage.blob_path(digest), subject)

    def delete(self, name: str, digest: str) -> None:
        """Remove a manifest with its tags and its entry among the referrers.

        Raises:
            RegistryError: MANIFEST_UNKNOWN.
        """
        with self._storage.repository_lock(name):
            stored = self.get(name, digest)
            self.forget(name, digest, subject_of(read_object(stored.path.read_bytes(), digest)))

    def forget(self, name: str, digest: str, subject: str) -> None:
        """Remove a manifest that is there; whoever calls holds the repository's lock."""
        self._tags.delete_all_of(name, digest)
        # What has it as its subject stays for now; that it was here tells collection that it is gone.
        self._storage.move(self._storage.link_path(name, "_manifests", digest),
                           self._storage.link_path(name, "_deleted", digest))
        if subject:
            self._referrers.remove(name, subject, digest)

    def _check_contents(self, name: str, document: dict[str, Any], media_type: str) -> None:
        """Demand that config and layers are there. An index may name manifests that are not (sparse index)."""
        if media_type in media.INDEXES:
            for digest in contents_of(document, media_type):
                self._storage.renew(name, "_manifests", digest)
            return
        missing = [d.digest for d in _contents(document) if d.media_type not in media.NON_DISTRIBUTABLE
                   and not self._renew(name, d.digest)]
        if missing:
            raise RegistryError(404, "MANIFEST_BLOB_UNKNOWN", f"repository {name!r} does not hold {missing[0]}, which "
                                "the manifest names; push blobs first", detail={"digests": missing[:20]})

    def _renew(self, name: str, digest: str) -> bool:
        return self._storage.renew(name, "_blobs", digest) and self._storage.blob_path(digest).exists()


def contents_of(document: dict[str, Any], media_type: str) -> list[str]:
    """Return the digests that a valid manifest names: config and layers, or the manifests of an index."""
    if media_type in media.INDEXES:
        return [str(entry["digest"]) for entry in document["manifests"]]
    return [descriptor.digest for descriptor in _contents(document)]


def subject_of(document: dict[str, Any]) -> str:
    """Return the digest of a valid manifest's subject; empty if it has none."""
    subject = document.get("subject")
    return str(subject["digest"]) if subject else ""


def _read(data: bytes, content_type: str) -> tuple[dict[str, Any], str]:
    """Check form and media type; returns (document, media type)."""
    header = content_type.partition(";")[0].strip()
    try:
        document = read_object(data, "the manifest")
        media_type = document.get("mediaType") or header
        if header and header != media_type:
            raise manifest_invalid(f"the header says {header[:100]!r}, the manifest {str(media_type)[:100]!r}")
        if media_type not in media.MANIFESTS | media.INDEXES:
            raise manifest_invalid(f"{str(media_type)[:100]!r} is not a media type of manifests that is accepted")
        if document.get("schemaVersion") != 2:
            raise manifest_invalid("schemaVersion must be 2")
        _check_form(document, media_type)
    except InvalidInput as error:
        raise manifest_invalid(str(error)) from None
    return document, media_type


def _check_form(document: dict[str, Any], media_type: str) -> None:
    if not isinstance(document.get("annotations", {}), dict):
        raise manifest_invalid("annotations must be an object")
    if document.get("subject") is not None:
        read_descriptor(document["subject"], "subject")
    if media_type in media.INDEXES:
        for number, entry in enumerate(_list(document, "manifests")):
            read_descriptor(entry, f"manifests[{number}]")
    else:
        list(_contents(document))


def _contents(document: dict[str, Any]) -> Iterator[Descriptor]:
    yield read_descriptor(document.get("config"), "config")
    for number, entry in enumerate(_list(document, "layers")):
        yield read_descriptor(entry, f"layers[{number}]")


def _list(document: dict[str, Any], key: str) -> list[Any]:
    value = document.get(key)
    if not isinstance(value, list):
        raise manifest_invalid(f"{key} must be a list")
    return value
