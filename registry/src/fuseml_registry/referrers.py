"""Referrers: which manifests name another one as their subject (distribution-spec, "Listing Referrers")."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fuseml_oci import media
from fuseml_oci.descriptor import Descriptor, canonical_json
from fuseml_oci.digests import split_digest
from fuseml_registry.storage import Storage

#: Descriptors in one answer; a Link header leads to the rest.
PAGE = 500


class Referrers:
    """The referrers of all manifests. Methods do disk work and are called from threads."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def add(self, name: str, subject: str, referrer: Descriptor) -> None:
        """Record a manifest that has a subject; the subject itself need not exist."""
        self._storage.write(self._path(name, subject, referrer.digest), canonical_json(referrer.to_json()))

    def remove(self, name: str, subject: str, digest: str) -> None:
        """Forget a manifest that was deleted."""
        self._storage.remove(self._path(name, subject, digest))

    def listed(self, name: str, subject: str, artifact_type: str, last: str) -> tuple[dict[str, Any], str]:
        """Return one page as an image index, and the `last` value of the next page or empty.

        Args:
            name: Repository.
            subject: Digest whose referrers are wanted.
            artifact_type: Restricts the list if not empty.
            last: File name after which to go on; empty begins.
        """
        found: list[dict[str, Any]] = []
        following = ""
        folder = self._folder(name, subject)
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if path.name <= last:
                continue
            descriptor = json.loads(path.read_bytes())
            if artifact_type and descriptor.get("artifactType") != artifact_type:
                continue
            if len(found) == PAGE:
                break
            found.append(descriptor)
            following = path.name
        else:
            following = ""
        return {"schemaVersion": 2, "mediaType": media.INDEX, "manifests": found}, following

    def _folder(self, name: str, subject: str) -> Path:
        algorithm, value = split_digest(subject)
        return self._storage.repository(name) / "_referrers" / algorithm / value

    def _path(self, name: str, subject: str, digest: str) -> Path:
        return self._folder(name, subject) / digest.replace(":", "-")


def artifact_type_of(document: dict[str, Any], media_type: str) -> str:
    """The artifact type; for manifests without one, the media type of the config."""
    explicit = document.get("artifactType")
    if explicit or media_type in media.INDEXES:
        return str(explicit or "")
    return str(document.get("config", {}).get("mediaType", ""))
