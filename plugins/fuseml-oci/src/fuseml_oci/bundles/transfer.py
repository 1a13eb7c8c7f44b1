"""Bundles between registries and this machine. Every byte is verified by size and digest before it is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fuseml_oci import media
from fuseml_oci.batches import download_all, upload_all
from fuseml_oci.bundles.build import MANIFEST_FILE, BuiltBundle, build
from fuseml_oci.bundles.descriptor import MAX_MANIFEST, BundleLayer, ExtensionDescriptor
from fuseml_oci.bundles.layout import Layout, open_layout
from fuseml_oci.bundles.manifest import BundleManifest, read_config, read_manifest
from fuseml_oci.client import RegistryClient
from fuseml_oci.copying import LayoutEntry, RepositoryTarget, copy
from fuseml_oci.descriptor import Descriptor, descriptor_of
from fuseml_oci.progress import Report, both, lines, size_text
from fuseml_oci.reference import Reference
from fuseml_oci.sections import Source
from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.manifest import SEMVER
from fuseml_sdk.versions import parse_version

__all__ = ["Progress", "PulledBundle", "RemoteBundle", "inspect", "look_up", "pull", "push", "size_text"]

#: Takes one short line of progress at a time.
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class RemoteBundle:
    """What a registry says about a bundle: manifest and config, nothing else fetched."""

    reference: Reference
    digest: str
    manifest: bytes
    parsed: BundleManifest
    descriptor: ExtensionDescriptor


@dataclass(frozen=True, slots=True)
class PulledBundle:
    """A bundle whose blobs all lie in the content store, verified.

    Attributes:
        digest: Of the OCI manifest; the identity of the bundle.
        config: Bytes of the config blob.
        descriptor: What they say.
        blobs: Digest of each layer to its file.
    """

    digest: str
    config: bytes
    descriptor: ExtensionDescriptor
    blobs: Mapping[str, Path]


def push(bundle: BuiltBundle | Layout, reference: Reference, client: RegistryClient,
         progress: Progress | None = None, *, report: Report | None = None) -> Reference:
    """Upload a bundle unchanged, layers first, manifest last, then what refers to it in its layout.

    Args:
        bundle: Built in memory or opened from a layout.
        reference: Where to; without a tag the version is the tag. Development builds also move the tag `dev`.
        client: For the reference's registry.
        progress: Told "uploading 3 of 5 (1.2 MiB of 8.0 MiB)", at most once a second.
        report: Told the same in numbers, more often.

    Returns:
        The reference with tag and digest.

    Raises:
        InvalidInput: The tag is another version than the bundle's, or is taken by other contents.
    """
    version = bundle.descriptor.version
    tag = reference.tag or version
    if tag != version and SEMVER.match(tag):
        raise InvalidInput(f"{reference} names version {tag}, but the bundle is version {version}",
                           hint="Leave the tag out, or change `version` in extension.toml.")
    target = reference.with_tag(tag)
    _refuse_taken(bundle, target, client)
    config = bundle.descriptor.encode() if isinstance(bundle, BuiltBundle) else bundle.blob(bundle.parsed.config)
    blobs: list[tuple[Source, Descriptor]] = [(config, descriptor_of(config, media.EXTENSION_CONFIG))]
    for layer in bundle.descriptor.layers:
        described = descriptor_of_layer(layer)
        blobs.append((_content(bundle, described), described))
    upload_all(client, target.repository, blobs, report=both(lines("uploading", progress), report))
    tags = [tag, "dev"] if parse_version(version).is_development and tag != "dev" else [tag]
    for name in tags:
        client.push_manifest(target.repository, name, bundle.manifest, media.MANIFEST)
    if isinstance(bundle, Layout) and len(bundle.image.manifests()) > 1:  # signatures and the like travel with it
        copy(LayoutEntry(bundle.path, bundle.digest), RepositoryTarget(client, target), tag=tag)
    return target.with_digest(bundle.digest)


def inspect(subject: Reference | Layout | BuiltBundle | Path,
            client: RegistryClient | None = None) -> ExtensionDescriptor:
    """Describe a bundle in a registry, a layout, or the source folder of one, without unpacking anything.

    Args:
        subject: What to describe; a path is a layout (folder or `.oci.tar`) or a folder with extension.toml.
        client: For the registry of a reference.

    Raises:
        InvalidInput: It is not a bundle, or something in it is wrong.
    """
    if isinstance(subject, Layout | BuiltBundle):
        return subject.descriptor
    if isinstance(subject, Path):
        return build(subject).descriptor if (subject / MANIFEST_FILE).is_file() else open_layout(subject).descriptor
    return look_up(subject, client or RegistryClient.for_reference(subject)).descriptor


def look_up(reference: Reference, client: RegistryClient) -> RemoteBundle:
    """Fetch manifest and config of a bundle in a registry.

    Args:
        reference: With tag or digest.
        client: For its registry.

    Raises:
        NotFound: There is no such tag or digest.
        InvalidInput: It is not a bundle.
        Permanent: Bytes do not have their digest.
    """
    if not reference.locator:
        raise InvalidInput(f"{reference} names no version", hint=f"Write {reference}:VERSION.")
    manifest, media_type, digest = client.get_manifest(reference.repository, reference.locator)
    if len(manifest) > MAX_MANIFEST:
        raise InvalidInput(f"{reference}: the manifest has {len(manifest)} bytes; at most {MAX_MANIFEST} are allowed")
    parsed = read_manifest(manifest, media_type, str(reference))
    config = client.get_blob_bytes(reference.repository, parsed.config)
    descriptor = read_config(parsed, config)
    if SEMVER.match(reference.tag) and reference.tag != descriptor.version:
        raise InvalidInput(f"{reference} contains version {descriptor.version}",
                           hint="Somebody tagged the wrong bundle; ask for it by its digest if it is what you want.")
    return RemoteBundle(reference.with_digest(digest), digest, manifest, parsed, descriptor)


def pull(reference: Reference, client: RegistryClient, content: Path, progress: Progress | None = None, *,
         found: RemoteBundle | None = None, report: Report | None = None) -> PulledBundle:
    """Fetch a bundle into a content store; what is there already is verified again instead of fetched.

    Args:
        reference: With tag or digest.
        client: For its registry.
        content: Folder that holds `sha256/<hex>` files.
        progress: Told "downloading 3 of 5 (1.2 MiB of 8.0 MiB)", at most once a second.
        found: What :func:`look_up` returned, so that it need not be asked again.
        report: Told the same in numbers, more often.

    Raises:
        NotFound, InvalidInput, Permanent, Retryable: As the client raises them; nothing wrong is kept.
    """
    bundle = found or look_up(reference, client)
    blobs = {layer.digest: content / "sha256" / layer.digest.partition(":")[2] for layer in bundle.parsed.layers}
    wanted = [(descriptor_of_layer(layer), blobs[layer.digest]) for layer in bundle.parsed.layers]
    download_all(client, reference.repository, wanted, report=both(lines("downloading", progress), report))
    config = client.get_blob_bytes(reference.repository, bundle.parsed.config)
    return PulledBundle(bundle.digest, config, bundle.descriptor, blobs)


def descriptor_of_layer(layer: BundleLayer) -> Descriptor:
    """What identifies the bytes of a layer."""
    return Descriptor(layer.media_type, layer.digest, layer.size)


def _content(bundle: BuiltBundle | Layout, descriptor: Descriptor) -> Source:
    if isinstance(bundle, BuiltBundle):
        return bundle.blobs[descriptor.digest]
    return bundle.image.section(descriptor)


def _refuse_taken(bundle: BuiltBundle | Layout, target: Reference, client: RegistryClient) -> None:
    """Versions are immutable: say so before anything is uploaded."""
    if not SEMVER.match(target.tag) or not client.has_manifest(target.repository, target.tag):
        return
    there = client.get_manifest(target.repository, target.tag)[2]
    if there != bundle.digest:
        raise InvalidInput(f"{target} is published already with other contents ({there[:19]}…)",
                           hint="Raise `version` in extension.toml, or build with --dev.")
