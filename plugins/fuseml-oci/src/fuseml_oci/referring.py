"""Referrers: manifests that name another one as their subject, on registries with and without the referrers API.

distribution-spec, "Listing Referrers", "Unavailable Referrers API" and "Pushing Manifests with Subject". Where the API
is missing, an index under a tag made from the subject's digest takes its place; the client that pushes maintains it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fuseml_oci import media
from fuseml_oci.descriptor import Descriptor, canonical_json, descriptor_of, read_descriptor, read_object
from fuseml_oci.digests import split_digest
from fuseml_oci.retries import Patience, RetryPolicy
from fuseml_sdk.errors import InvalidInput, NotFound, Permanent, Retryable

if TYPE_CHECKING:
    from fuseml_oci.client import RegistryClient

#: Tries to get one entry into an index that others write at the same time.
RACE = RetryPolicy(attempts=8, base=0.05, cap=1.0, budget=30.0)
_LOCKS: dict[tuple[str, str, str], threading.Lock] = {}
_LOCKS_GUARD = threading.Lock()


def fallback_tag(digest: str) -> str:
    """Return the tag that stands for the referrers of a digest: algorithm and hex part, cut at 32 and 64 characters."""
    algorithm, value = split_digest(digest)
    return f"{algorithm[:32]}-{value[:64]}"


def described(data: bytes, media_type: str) -> Descriptor:
    """Describe a referrer as lists of referrers do: with its artifact type and a copy of its annotations.

    Raises:
        InvalidInput: It is not a JSON object.
    """
    document = read_object(data, "the referrer")
    artifact_type = document.get("artifactType")
    if not artifact_type and media_type in media.MANIFESTS:
        config = document.get("config")
        artifact_type = config.get("mediaType") if isinstance(config, dict) else ""
    annotations = document.get("annotations")
    kept = {k: v for k, v in annotations.items() if isinstance(v, str)} if isinstance(annotations, dict) else {}
    return replace(descriptor_of(data, media_type, kept),
                   artifact_type=artifact_type if isinstance(artifact_type, str) else "")


def subject_of(data: bytes) -> Descriptor | None:
    """Return the subject of a manifest or index, None if it has none.

    Raises:
        InvalidInput: It is not a JSON object, or its subject is no descriptor.
    """
    value = read_object(data, "the manifest").get("subject")
    return None if value is None else read_descriptor(value, "subject")


def entries(pages: Iterable[dict[str, Any]], what: str) -> list[Descriptor]:
    """Return the descriptors of pages of an image index, each digest once.

    Raises:
        Permanent: An entry is no descriptor.
    """
    found: dict[str, Descriptor] = {}
    for page in pages:
        listed = page.get("manifests")
        listed = [] if listed is None else listed
        if not isinstance(listed, list):
            raise Permanent(f"{what}: manifests is not a list")
        for number, value in enumerate(listed):
            try:
                entry = read_descriptor(value, "it")
            except InvalidInput as error:
                raise Permanent(f"{what}: manifests[{number}]: {error.message}") from None
            found.setdefault(entry.digest, entry)
    return list(found.values())


def read_fallback(client: RegistryClient, repository: str, digest: str) -> tuple[list[Descriptor], str]:
    """Return (entries, digest) of the index under the fallback tag; nothing and empty if there is none.

    Raises:
        Permanent: What lies under the tag is no image index.
    """
    tag = fallback_tag(digest)
    try:
        data, media_type, found = client.get_manifest(repository, tag)
    except NotFound:
        return [], ""
    what = f"oci://{client.registry}/{repository}:{tag}"
    if media_type not in media.INDEXES:
        raise Permanent(f"{what} is a {media_type[:100]}, not an index of referrers")
    return entries([read_object(data, what)], what), found


def change_fallback(client: RegistryClient, repository: str, digest: str,
                    change: Callable[[list[Descriptor]], list[Descriptor]]) -> None:
    """Change the index under a fallback tag: read, write, read again until the change is there.

    The specification offers no lock, so that a writer on another machine can overwrite the index at the same time;
    reading again finds that out.

    Args:
        client: For the registry.
        repository: Name within it.
        digest: The subject.
        change: Gets the entries and returns the wanted ones; must return an equal list when all is well.

    Raises:
        Retryable: Others kept writing.
    """
    with _lock(client.registry, repository, digest):
        patience = Patience(RACE)
        while True:
            there, _ = read_fallback(client, repository, digest)
            wanted = change(there)
            if wanted == there:
                return
            index = {"schemaVersion": 2, "mediaType": media.INDEX, "manifests": [d.to_json() for d in wanted]}
            client.push_manifest(repository, fallback_tag(digest), canonical_json(index), media.INDEX)
            if change(again := read_fallback(client, repository, digest)[0]) == again:
                return
            if not patience.again():
                raise Retryable(f"oci://{client.registry}/{repository}:{fallback_tag(digest)}: others keep changing "
                                "the list of referrers", hint="try again")


def with_entry(entry: Descriptor) -> Callable[[list[Descriptor]], list[Descriptor]]:
    """Return the change that adds an entry unless its digest is listed."""
    return lambda there: there if any(d.digest == entry.digest for d in there) else [*there, entry]


def without_entry(digest: str) -> Callable[[list[Descriptor]], list[Descriptor]]:
    """Return the change that removes a digest."""
    return lambda there: [d for d in there if d.digest != digest]


def _lock(*key: str) -> threading.Lock:
    registry, repository, digest = key
    with _LOCKS_GUARD:
        return _LOCKS.setdefault((registry, repository, digest), threading.Lock())
