"""Putting a catalog into a registry: new documents first, then the signature, the tags last."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from fuseml_oci import media
from fuseml_oci.catalog.contents import CatalogArtifact
from fuseml_oci.catalog.reading import Catalog, open_catalog
from fuseml_oci.client import RegistryClient
from fuseml_oci.descriptor import read_descriptor, read_object
from fuseml_oci.digests import digest_bytes
from fuseml_oci.reference import Reference
from fuseml_oci.sources import RepositorySource
from fuseml_sdk.errors import InvalidInput, NotFound

#: The tag that subscribers follow.
LATEST = "latest"
#: Uploads at the same time.
WORKERS = 8
#: Takes one short line of progress at a time.
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Published:
    """What a publication did.

    Attributes:
        reference: With tag `latest` and digest.
        version: Of the catalog.
        uploaded: Documents that the registry did not have.
        size: Their bytes.
    """

    reference: Reference
    version: int
    uploaded: int
    size: int


def published(client: RegistryClient, repository: str) -> Catalog | None:
    """The catalog that a repository holds at present; its signature is not looked at.

    Args:
        client: For the registry.
        repository: Name within it.
    """
    try:
        digest = client.get_manifest(repository, LATEST)[2]
    except NotFound:
        return None
    return open_catalog(RepositorySource(client, repository), digest)


def listed(catalog: Catalog) -> set[str]:
    """Digests of all documents that a published catalog keeps in its repository."""
    found: set[str] = set()
    index = read_object(catalog.documents.manifest(catalog.digest), "the catalog")
    for entry in index.get("manifests") or []:
        if isinstance(entry, dict) and entry.get("artifactType") == media.CATALOG_CONTENTS:
            contents = read_descriptor(entry, "an entry of the catalog")
            layers = read_object(catalog.documents.manifest(contents.digest), "a manifest of contents").get("layers")
            found |= {read_descriptor(layer, "a layer of the catalog").digest for layer in layers or []}
    return found


def publish(artifact: CatalogArtifact, reference: Reference, client: RegistryClient, sign: Callable[[Reference], None],
            progress: Progress | None = None) -> Published:
    """Upload a catalog, sign it, and only then let subscribers see it.

    Args:
        artifact: The catalog.
        reference: The repository; a tag or digest in it is not used.
        client: For its registry.
        sign: Signs the reference with digest that it is given.
        progress: Told what is being sent.

    Raises:
        InvalidInput: The repository holds another catalog, this version or a higher one.
    """
    say, repository = progress or (lambda _text: None), reference.repository
    before = published(client, repository)
    _check_successor(artifact, before, reference)
    known = listed(before) if before else set()
    uploaded = _upload(artifact, {d: b for d, b in artifact.blobs.items() if d not in known}, repository, client, say)
    for digest, manifest in artifact.manifests.items():
        client.push_manifest(repository, digest, manifest, media.MANIFEST)
    client.push_manifest(repository, artifact.digest, artifact.index, media.INDEX)
    pinned = Reference(reference.registry, repository, digest=artifact.digest)
    say("signing")
    sign(pinned)
    _check_successor(artifact, published(client, repository), reference)  # somebody may have published meanwhile
    for tag in (str(artifact.root.version), LATEST):
        client.push_manifest(repository, tag, artifact.index, media.INDEX)
    return Published(reference.with_tag(LATEST).with_digest(artifact.digest), artifact.root.version, *uploaded)


def _check_successor(artifact: CatalogArtifact, before: Catalog | None, reference: Reference) -> None:
    if before is None or before.digest == artifact.digest:
        return
    if before.root.name != artifact.root.name:
        raise InvalidInput(f"{reference} holds the catalog {before.root.name!r}, not {artifact.root.name!r}",
                           hint="Publish to another repository, or correct `name` in catalog.toml.")
    if before.root.version >= artifact.root.version:
        raise InvalidInput(f"{reference} holds version {before.root.version} of the catalog already; this would be "
                           f"version {artifact.root.version}", hint="Another curator published: take over their "
                           "changes (for instance with git pull) and publish again.")


def _upload(artifact: CatalogArtifact, blobs: Mapping[str, bytes], repository: str, client: RegistryClient,
            say: Progress) -> tuple[int, int]:
    wanted = {digest_bytes(media.EMPTY_BYTES): media.EMPTY_BYTES, **blobs}
    if len(artifact.blobs) - len(blobs) > 0:
        say(f"{len(artifact.blobs) - len(blobs)} of {len(artifact.blobs)} documents are there already")

    def send(item: tuple[str, bytes]) -> int:
        digest, data = item
        if client.has_blob(repository, digest):
            return 0
        client.push_blob(repository, data, digest, media.CATALOG_DOCUMENT)
        return len(data)

    sizes = []
    with ThreadPoolExecutor(WORKERS) as workers:
        for number, size in enumerate(workers.map(send, wanted.items())):  # the first is the empty one
            sizes.append(size)
            if number and (number % 200 == 0 or number == len(blobs)):
                say(f"uploaded {number} of {len(blobs)} documents")
    return sum(1 for size in sizes if size), sum(sizes)
