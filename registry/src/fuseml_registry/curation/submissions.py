"""Submissions: what authors ask for lies as an artifact beside the catalog, so it needs a registry and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from fuseml_oci import media
from fuseml_oci.catalog.format import MAX_DOCUMENT, Submission, decode, encode
from fuseml_oci.client import RegistryClient
from fuseml_oci.descriptor import canonical_json, read_descriptor, read_object
from fuseml_oci.digests import digest_bytes
from fuseml_oci.reference import Reference, parse
from fuseml_oci.signing.keys import PublicKey
from fuseml_oci.signing.verify import verify
from fuseml_oci.sources import RepositorySource
from fuseml_sdk.errors import InvalidInput, NotFound, PluginError

#: Added to the repository of the catalog. A repository of its own can be written by authors who must not touch the
#: catalog.
_SUFFIX = "-submissions"
#: Submissions that are looked at.
_MAX = 5000


@dataclass(frozen=True, slots=True)
class Submitted:
    """A submission in the registry.

    Attributes:
        id: Its tag: what people write to review it.
        digest: Of its manifest; what its author signed.
        document: What it says.
    """

    id: str
    digest: str
    document: Submission


def place_of(catalog: Reference) -> Reference:
    """Where the submissions to a catalog lie."""
    return Reference(catalog.registry, catalog.repository + _SUFFIX)


def submit(catalog: Reference, document: Submission, client: RegistryClient,
           sign: Callable[[Reference], None] | None = None) -> Submitted:
    """Ask the curators of a catalog for a version.

    Args:
        catalog: Their catalog.
        document: What is asked for.
        client: For its registry, allowed to push submissions.
        sign: Signs the reference that it is given, as an owner of the namespace.
    """
    place, config = place_of(catalog), encode(document)
    empty = {"mediaType": media.EMPTY, "digest": media.EMPTY_DIGEST, "size": len(media.EMPTY_BYTES)}
    manifest = canonical_json({
        "schemaVersion": 2, "mediaType": media.MANIFEST, "artifactType": media.CATALOG_SUBMISSION,
        "config": {"mediaType": media.CATALOG_SUBMISSION, "digest": digest_bytes(config), "size": len(config)},
        "layers": [empty]})
    digest = digest_bytes(manifest)
    tag = f"{document.name}_{document.version}_{digest[7:19]}"
    client.push_blob(place.repository, media.EMPTY_BYTES, media.EMPTY_DIGEST, media.EMPTY)
    client.push_blob(place.repository, config, digest_bytes(config), media.CATALOG_SUBMISSION)
    client.push_manifest(place.repository, digest, manifest, media.MANIFEST)
    if sign is not None:
        sign(place.with_digest(digest))
    client.push_manifest(place.repository, tag, manifest, media.MANIFEST)  # now curators see it
    return Submitted(tag, digest, document)


def submissions(catalog: Reference, client: RegistryClient) -> Iterator[Submitted]:
    """All submissions to a catalog that can be read, the oldest first."""
    place = place_of(catalog)
    try:
        tags = [tag for tag in client.tags(place.repository) if tag.count("_") >= 2][:_MAX]
    except NotFound:
        return
    found = []
    for tag in tags:
        try:
            found.append(_read(place, tag, client))
        except (InvalidInput, NotFound):
            continue  # anybody who may submit may also write nonsense
    yield from sorted(found, key=lambda entry: (entry.document.at, entry.id))


def find(catalog: Reference, wanted: str, client: RegistryClient) -> Submitted:
    """The submission with an id or digest, or the last one of a package or `package:version`.

    Raises:
        NotFound: There is none.
    """
    every = list(submissions(catalog, client))
    name, _, version = wanted.partition(":")
    exact = [entry for entry in every if wanted in (entry.id, entry.digest)]
    named = [entry for entry in every if entry.document.name == name and version in ("", entry.document.version)]
    if not exact and not named:
        raise NotFound(f"there is no submission {wanted!r}", hint="See: fuseml catalog review")
    return (exact or named)[-1]


def signers(submitted: Submitted, catalog: Reference, keys: Sequence[PublicKey], client: RegistryClient) -> list[str]:
    """Fingerprints of the keys among these that signed a submission."""
    source = RepositorySource(client, place_of(catalog).repository)
    try:
        return sorted({entry.key for entry in verify(source, submitted.digest, keys)})
    except PluginError:
        return []


def _read(place: Reference, tag: str, client: RegistryClient) -> Submitted:
    data, _, digest = client.get_manifest(place.repository, tag)
    manifest = read_object(data, f"the submission {tag}")
    if manifest.get("artifactType") != media.CATALOG_SUBMISSION:
        raise InvalidInput(f"{tag} is not a submission")
    config = read_descriptor(manifest.get("config"), f"the config of {tag}")
    if config.size > MAX_DOCUMENT:
        raise InvalidInput(f"the submission {tag} is too large")
    document = decode(Submission, client.get_blob_bytes(place.repository, config), f"the submission {tag}")
    if parse(document.reference).digest != document.digest:
        raise InvalidInput(f"the submission {tag} names two different bundles")
    return Submitted(tag, digest, document)
