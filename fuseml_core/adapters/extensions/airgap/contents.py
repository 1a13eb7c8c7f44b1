"""What an unpacked archive holds, checked as a whole: nothing is used of one that lacks or contradicts something."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fuseml_core.adapters.extensions.airgap.document import EXPORT, Document, ExportedBundle, read_document
from fuseml_core.adapters.extensions.airgap.document import read_manifest as read_export
from fuseml_core.adapters.extensions.airgap.wheels import WHEELS, read_locks, titles
from fuseml_oci import media
from fuseml_oci.bundles.manifest import read_config, read_manifest
from fuseml_oci.descriptor import Descriptor
from fuseml_oci.layout import ImageLayout
from fuseml_oci.sources import LayoutSource
from fuseml_sdk.errors import InvalidInput, NotFound

_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Contents:
    """An archive, unpacked and checked.

    Attributes:
        folder: The OCI image layout.
        layout: The same, opened.
        source: The same, as the place where signatures lie.
        document: What it says about itself.
        lock: Text of its lock file.
    """

    folder: Path
    layout: ImageLayout
    source: LayoutSource
    document: Document
    lock: str

    def wheels(self, bundle: ExportedBundle) -> Iterator[tuple[str, Path, str]]:
        """File name, file and digest of each wheel that refers to a bundle."""
        for entry in self.source.referrers(bundle.digest):
            if entry.artifact_type == WHEELS:
                for filename, layer in titles(self.source.manifest(entry.digest), entry.digest):
                    yield filename, self.path(layer.digest), layer.digest

    def path(self, digest: str) -> Path:
        """Where a blob lies or would lie."""
        algorithm, _, value = digest.partition(":")
        return self.folder / "blobs" / algorithm / value


def open_contents(folder: Path) -> Contents:
    """Open and check an unpacked archive, whose blobs all have their digests.

    Raises:
        InvalidInput: It holds no export, a bundle is missing, incomplete or another one than is said, or a list of
            wheels is wrong.
    """
    layout = ImageLayout(folder)
    try:
        exports = [entry for entry in layout.manifests() if entry.artifact_type == EXPORT]
        if len(exports) != 1:
            raise InvalidInput("the archive is an OCI image layout and holds no export of extensions",
                               hint="Push bundles with: fuseml bundle push FILE. Exports are made by: fuseml extension "
                                    "export NAME -o FILE")
        config, lock = read_export(_small(layout, exports[0]), "the archive")
        document = read_document(_small(layout, config), "the archive")
        contents = Contents(folder, layout, LayoutSource(layout), document, _small(layout, lock).decode("utf-8"))
        for bundle in document.bundles:
            _check_bundle(contents, bundle)
            _check_wheels(contents, bundle)
    except InvalidInput as error:
        raise InvalidInput(f"the archive is refused: {error.message}", hint=error.hint or "Export it again.") from None
    except (NotFound, UnicodeDecodeError) as error:
        lacking = str(error).replace(f"{folder} holds no ", "it lacks ").partition(": ")[0]
        raise InvalidInput(f"the archive is incomplete: {lacking}", hint="Export it again.") from None
    return contents


def _check_bundle(contents: Contents, bundle: ExportedBundle) -> None:
    """Manifest, config and layers are there and say what the document says."""
    manifest = read_manifest(contents.source.manifest(bundle.digest), media.MANIFEST, f"{bundle.name} in the archive")
    descriptor = read_config(manifest, _small(contents.layout, manifest.config))
    if (descriptor.name, descriptor.version) != (bundle.name, bundle.version):
        raise InvalidInput(f"the archive calls {descriptor.name} {descriptor.version} {bundle.name} {bundle.version}")
    for layer in manifest.layers:
        path = contents.path(layer.digest)
        if not path.is_file() or path.stat().st_size != layer.size:
            raise InvalidInput(f"the archive lacks the layer {layer.title} of {bundle.name}",
                               hint="Export it again.")


def _check_wheels(contents: Contents, bundle: ExportedBundle) -> None:
    """Nobody signs the wheels: only those count that the bundle, whose signature is judged, names by their hashes."""
    wheels = list(contents.wheels(bundle))
    manifest = read_manifest(contents.source.manifest(bundle.digest), media.MANIFEST, bundle.name)
    locks = read_locks(manifest, contents.path, lambda name: name.endswith((".lock", ".txt"))) if wheels else {}
    allowed = {value for text in locks.values() for value in _HASH.findall(text)}
    for filename, path, digest in wheels:
        if digest.partition(":")[2] not in allowed:
            raise InvalidInput(f"the archive brings the wheel {filename[:200]!r} for {bundle.name}, whose lock does "
                               "not allow it", hint="Do not use this archive: somebody has put something into it.")
        if not path.is_file():
            raise InvalidInput(f"the archive lacks the wheel {filename[:200]!r}")


def _small(layout: ImageLayout, descriptor: Descriptor) -> bytes:
    if descriptor.size > 4 << 20:
        raise InvalidInput(f"the archive has a document of {descriptor.size} bytes")
    return layout.read(descriptor)
