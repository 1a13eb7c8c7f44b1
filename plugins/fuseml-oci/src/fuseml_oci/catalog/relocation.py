"""Mirrors: a catalog stays byte for byte what it was, and a document beside it says where its repositories are now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fuseml_oci import media
from fuseml_oci.catalog.format import MAX_DOCUMENT, Relocation, decode, encode
from fuseml_oci.client import RegistryClient
from fuseml_oci.descriptor import read_descriptor, read_object
from fuseml_oci.reference import Reference, parse
from fuseml_oci.signing.keys import PublicKey
from fuseml_oci.signing.sign import attach
from fuseml_oci.signing.verify import verify
from fuseml_oci.sources import ManifestSource
from fuseml_sdk.errors import InvalidInput, PluginError

#: Relocations of one catalog that are looked at.
_MAX = 20


def signed_by(source: ManifestSource, keys: Sequence[PublicKey]) -> Callable[[str], list[str]]:
    """Make the check of a subscriber: which of its pinned keys signed a digest.

    Args:
        source: Where signatures lie.
        keys: The pinned keys.
    """
    return lambda digest: sorted({signature.key for signature in verify(source, digest, keys, enough=1)})


def push_relocation(client: RegistryClient, reference: Reference, relocation: Relocation,
                    sign: Callable[[Reference], None] | None = None) -> str:
    """Put a relocation beside the catalog that it is about.

    Args:
        client: For the registry of `reference`.
        reference: The mirrored catalog, with digest.
        relocation: Where its repositories are.
        sign: Signs the reference that it is given.

    Returns:
        Digest of the manifest that refers to the catalog.
    """
    digest = attach(client, reference, media.CATALOG_RELOCATION, encode(relocation))
    if sign is not None:
        sign(reference.with_digest(digest))
    return digest


def read_relocation(source: ManifestSource, digest: str, keys: Sequence[PublicKey], registry: str) -> dict[str, str]:
    """Find out where a mirror keeps the repositories of a catalog.

    A relocation can only make an installation fail, because the catalog names every bundle by digest; still nobody
    shall be led to another registry by somebody unknown.

    Args:
        source: Where the catalog lies.
        digest: Of the catalog.
        keys: Whoever signed with one of them may lead anywhere.
        registry: `host:port` of the mirror; an unsigned relocation may lead to this registry only.

    Returns:
        Repository in the catalog to repository in the mirror, without tag and digest.
    """
    try:
        found = [entry for entry in source.referrers(digest) if entry.artifact_type == media.CATALOG_RELOCATION]
    except PluginError:
        return {}
    repositories: dict[str, str] = {}
    for entry in found[:_MAX]:
        try:
            relocation = _read(source, entry.digest)
            signed = bool(signed_by(source, keys)(entry.digest))
        except PluginError:
            continue  # anybody may put something beside a catalog
        if relocation.catalog == digest:
            repositories |= {old: new for old, new in relocation.repositories.items()
                             if signed or parse(new).registry == registry}
    return repositories


def relocated(repository: str, repositories: Mapping[str, str]) -> str:
    """Where a repository is now."""
    return repositories.get(repository, repository)


def _read(source: ManifestSource, digest: str) -> Relocation:
    manifest = read_object(source.manifest(digest), "a relocation")
    layers = manifest.get("layers")
    if not isinstance(layers, list) or len(layers) != 1:
        raise InvalidInput(f"the relocation {digest} does not have one layer")
    layer = read_descriptor(layers[0], "the layer of a relocation")
    if layer.size > MAX_DOCUMENT:
        raise InvalidInput(f"the relocation {digest} is too large")
    return decode(Relocation, source.blob(layer), f"the relocation {digest}")
