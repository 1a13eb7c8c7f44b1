"""Bundles at rest: OCI image layouts, as a folder or as one `.oci.tar` file.

https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md
"""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fuseml_oci import media
from fuseml_oci.bundles.build import BuiltBundle
from fuseml_oci.bundles.descriptor import MAX_MANIFEST, ExtensionDescriptor, encode_json
from fuseml_oci.bundles.manifest import BundleManifest, read_config, read_manifest
from fuseml_oci.bundles.tars import make_tar
from fuseml_oci.bundles.tree import SourceFile
from fuseml_oci.descriptor import Descriptor, read_descriptor, read_object
from fuseml_oci.digests import digest_bytes
from fuseml_sdk.errors import InvalidInput

_LAYOUT_FILE = b'{"imageLayoutVersion":"1.0.0"}'


@dataclass(frozen=True, slots=True)
class Layout:
    """An opened layout with one bundle. Blobs are read on demand and verified.

    Attributes:
        path: Folder or tar file.
        digest: Of the bundle's manifest.
        manifest: Its exact bytes.
        parsed: The checked manifest.
        descriptor: What the config blob says.
    """

    path: Path
    digest: str
    manifest: bytes
    parsed: BundleManifest
    descriptor: ExtensionDescriptor

    def blob(self, descriptor: Descriptor) -> bytes:
        """Return the bytes of a blob.

        Raises:
            InvalidInput: It is missing, or its size or digest is wrong.
        """
        return _read_blob(self.path, descriptor)


def write(built: BuiltBundle, path: Path) -> Path:
    """Write a bundle as an OCI image layout; a path that ends with `.tar` becomes one file. Equal bundles, equal bytes.

    Args:
        built: The bundle.
        path: File or folder; a file is replaced at once, a folder must be empty, absent or a layout.

    Raises:
        InvalidInput: The folder holds something else, or the place cannot be written.
    """
    files = _layout_files(built)
    try:
        if path.suffix == ".tar":
            _replace_file(path, make_tar(files))
        else:
            _write_folder(path, files)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror or error}") from None
    return path


def open_layout(path: Path) -> Layout:
    """Open the layout of one bundle and check manifest and config.

    Raises:
        InvalidInput: It is no layout, has not exactly one bundle, or something in it is wrong.
    """
    if _read(path, "oci-layout", 1 << 10) is None:
        raise InvalidInput(f"{path} is not an OCI image layout: it has no file oci-layout")
    index = read_object(_read(path, "index.json", MAX_MANIFEST) or b"", f"index.json of {path}")
    entries = index.get("manifests")
    if not isinstance(entries, list) or len(entries) != 1:
        raise InvalidInput(f"{path} does not hold one bundle, but "
                           f"{len(entries) if isinstance(entries, list) else 'no'} manifests")
    entry = read_descriptor(entries[0], f"manifests[0] of {path}")
    if entry.size > MAX_MANIFEST:
        raise InvalidInput(f"{path}: the manifest has {entry.size} bytes; at most {MAX_MANIFEST} are allowed")
    manifest = _read_blob(path, entry)
    parsed = read_manifest(manifest, entry.media_type, str(path))
    return Layout(path, entry.digest, manifest, parsed, read_config(parsed, _read_blob(path, parsed.config)))


def _layout_files(built: BuiltBundle) -> list[SourceFile]:
    entry = {"mediaType": media.MANIFEST, "digest": built.digest, "size": len(built.manifest),
             "artifactType": media.EXTENSION, "annotations": {media.REF_NAME: built.descriptor.version}}
    index = encode_json({"schemaVersion": 2, "mediaType": media.INDEX, "manifests": [entry]})
    blobs = {**built.blobs, built.digest: built.manifest}
    return [SourceFile("oci-layout", _LAYOUT_FILE), SourceFile("index.json", index),
            *(SourceFile(_blob_path(digest), data) for digest, data in sorted(blobs.items()))]


def _blob_path(digest: str) -> str:
    algorithm, _, hexadecimal = digest.partition(":")
    return f"blobs/{algorithm}/{hexadecimal}"


def _write_folder(path: Path, files: list[SourceFile]) -> None:
    if path.exists() and any(path.iterdir()) and not (path / "oci-layout").is_file():
        raise InvalidInput(f"{path} is not empty and not an OCI image layout", hint="Choose another folder.")
    kept = {path / file.path for file in files}
    for file in files:
        (path / file.path).parent.mkdir(parents=True, exist_ok=True)
        _replace_file(path / file.path, file.data)
    for old in path.glob("blobs/*/*"):
        if old not in kept:
            old.unlink()


def _replace_file(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _read_blob(path: Path, descriptor: Descriptor) -> bytes:
    data = _read(path, _blob_path(descriptor.digest), descriptor.size)
    if data is None:
        raise InvalidInput(f"{path}: the blob {descriptor.digest} is missing")
    if len(data) != descriptor.size:
        raise InvalidInput(f"{path}: the blob {descriptor.digest} has not the {descriptor.size} bytes it should have")
    if digest_bytes(data) != descriptor.digest:
        raise InvalidInput(f"{path}: the blob {descriptor.digest} has the digest {digest_bytes(data)}",
                           hint="The file was changed or damaged; build or fetch it again.")
    return data


def _read(path: Path, name: str, limit: int) -> bytes | None:
    """At most `limit` + 1 bytes of a file of the layout; None if it is not there."""
    try:
        if path.is_dir():
            with (path / name).open("rb") as file:
                return file.read(limit + 1)
        with _opened(path) as archive:
            member = archive.getmember(name)
            stream = archive.extractfile(member) if member.isreg() else None
            return stream.read(limit + 1) if stream is not None else None
    except (FileNotFoundError, NotADirectoryError, KeyError):
        return None
    except (OSError, tarfile.TarError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from None


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    if not path.is_file():
        raise InvalidInput(f"{path} is neither a folder nor a file")
    with tarfile.open(path, "r:") as archive:
        yield archive
