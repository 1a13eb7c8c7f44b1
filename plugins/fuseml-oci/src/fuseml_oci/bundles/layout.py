"""Bundles at rest: OCI image layouts, as a folder or as one `.oci.tar` file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fuseml_oci import media
from fuseml_oci.bundles.build import BuiltBundle
from fuseml_oci.bundles.descriptor import MAX_MANIFEST, ExtensionDescriptor
from fuseml_oci.bundles.manifest import BundleManifest, read_config, read_manifest
from fuseml_oci.descriptor import Descriptor
from fuseml_oci.layout import ImageLayout, write_layout
from fuseml_oci.sources import LayoutSource
from fuseml_sdk.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Layout:
    """An opened layout with one bundle. Blobs are read on demand and verified.

    Attributes:
        image: The layout as such.
        path: Its folder or file.
        digest: Of the bundle's manifest.
        manifest: Its exact bytes.
        parsed: The checked manifest.
        descriptor: What the config blob says.
    """

    image: ImageLayout
    path: Path
    digest: str
    manifest: bytes
    parsed: BundleManifest
    descriptor: ExtensionDescriptor

    def blob(self, descriptor: Descriptor) -> bytes:
        """Return the bytes of a blob.

        Raises:
            NotFound: It is missing.
            InvalidInput: Its size or digest is wrong.
        """
        return self.image.read(descriptor)


def write(built: BuiltBundle, path: Path) -> Path:
    """Write a bundle as an OCI image layout; a path that ends with `.tar` becomes one file. Equal bundles, equal bytes.

    Args:
        built: The bundle.
        path: File or folder, as for :func:`fuseml_oci.layout.write_layout`.

    Raises:
        InvalidInput: The folder holds something else, or the place cannot be written.
    """
    entry = Descriptor(media.MANIFEST, built.digest, len(built.manifest),
                       {media.REF_NAME: built.descriptor.version}, media.EXTENSION)
    write_layout(path, [entry], {**built.blobs, built.digest: built.manifest})
    return path


def open_layout(path: Path) -> Layout:
    """Open the layout of one bundle and check manifest and config.

    Raises:
        NotFound: A blob is missing.
        InvalidInput: It is no layout, has not exactly one bundle, or something in it is wrong.
    """
    image = ImageLayout(path)
    entries = {entry.digest: entry for entry in image.manifests()}
    if not entries:
        raise InvalidInput(f"{path} does not hold a bundle: it has no manifests")
    entry = entries[LayoutSource(image).only_subject()]  # signatures and the like may lie beside it
    if entry.size > MAX_MANIFEST:
        raise InvalidInput(f"{path}: the manifest has {entry.size} bytes; at most {MAX_MANIFEST} are allowed")
    manifest = image.read(entry)
    parsed = read_manifest(manifest, entry.media_type, str(path))
    return Layout(image, path, entry.digest, manifest, parsed, read_config(parsed, image.read(parsed.config)))
