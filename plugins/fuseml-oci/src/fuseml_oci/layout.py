"""OCI image layouts, as folders or uncompressed tar files (image-spec, image-layout.md): verified on every read."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from fuseml_oci import media
from fuseml_oci.descriptor import Descriptor, canonical_json, read_descriptor, read_object
from fuseml_oci.digests import digest_bytes, split_digest
from fuseml_sdk.archives import tar_of
from fuseml_sdk.durable import write_durably
from fuseml_sdk.errors import InvalidInput, NotFound

_MARKER, _INDEX = "oci-layout", "index.json"
_MARKER_BYTES = b'{"imageLayoutVersion":"1.0.0"}'
#: Largest index that is read into memory.
_MAX_DOCUMENT = 4 << 20


class ImageLayout:
    """A layout to read from: a folder, or a tar file that is never unpacked.

    Args:
        path: Folder or uncompressed tar file.

    Raises:
        InvalidInput: It is neither, or not an image layout of version 1.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        marker = read_object(self._document(_MARKER), f"{_MARKER} of {path}")
        if marker.get("imageLayoutVersion") != "1.0.0":
            raise InvalidInput(f"{path} is not an OCI image layout of version 1.0.0")

    def manifests(self) -> list[Descriptor]:
        """Return the descriptors of index.json.

        Raises:
            InvalidInput: It is damaged.
        """
        entries = read_object(self._document(_INDEX), f"{_INDEX} of {self._path}").get("manifests") or []
        if not isinstance(entries, list):
            raise InvalidInput(f"{_INDEX} of {self._path}: manifests is not a list")
        return [read_descriptor(entry, f"manifests[{n}] of {self._path}") for n, entry in enumerate(entries)]

    def read(self, descriptor: Descriptor) -> bytes:
        """Return a blob or manifest, verified. The caller has checked that its size fits into memory.

        Raises:
            NotFound: The layout does not contain it.
            InvalidInput: Its size or digest is wrong.
        """
        with self._open(_blob_name(descriptor.digest)) as (file, size):
            if size != descriptor.size:
                raise self._damaged(descriptor, f"has {size} bytes instead of {descriptor.size}")
            data = file.read(size)
        found = digest_bytes(data, split_digest(descriptor.digest)[0])
        if found != descriptor.digest:
            raise self._damaged(descriptor, f"has the digest {found}")
        return data

    def _document(self, name: str) -> bytes:
        try:
            with self._open(name) as (file, size):
                if size > _MAX_DOCUMENT:
                    raise InvalidInput(f"{name} of {self._path} is larger than {_MAX_DOCUMENT} bytes")
                return file.read(size)
        except NotFound:
            raise InvalidInput(f"{self._path} is not an OCI image layout: it has no file {name}",
                               hint="Nor is it the source of a bundle, which has a file extension.toml.") from None

    @contextmanager
    def _open(self, name: str) -> Iterator[tuple[IO[bytes], int]]:
        """Open a file of the layout for reading; yields it with its size. Links are not followed."""
        if self._path.is_dir():
            try:
                handle = os.open(self._path / name, os.O_RDONLY | os.O_NOFOLLOW)
            except OSError as error:
                raise NotFound(f"{self._path} holds no {name}: {error.strerror}") from None
            with os.fdopen(handle, "rb") as file:
                yield file, os.fstat(file.fileno()).st_size
            return
        try:
            with tarfile.open(self._path, "r:") as archive:
                member = next((m for m in archive if m.name.removeprefix("./") == name and m.isreg()), None)
                content = archive.extractfile(member) if member else None
                if member is None or content is None:
                    raise NotFound(f"{self._path} holds no {name}")
                yield content, member.size
        except (OSError, tarfile.TarError) as error:
            raise InvalidInput(f"{self._path} is neither a folder nor an uncompressed tar file: {error}") from None

    def _damaged(self, descriptor: Descriptor, why: str) -> InvalidInput:
        return InvalidInput(f"{self._path}: the blob {descriptor.digest} {why}",
                            hint="The file was changed or damaged; build or fetch it again.")


def write_layout(path: Path, manifests: Iterable[Descriptor], blobs: Mapping[str, bytes]) -> None:
    """Write a layout; a path that ends with `.tar` becomes one file. Equal content, equal bytes.

    Args:
        path: File or folder. A file is replaced at once; a folder must be empty, absent or a layout, of which nothing
            is kept.
        manifests: Entries of index.json, with their reference names as annotations.
        blobs: Digest to bytes, of every blob and manifest that the layout shall contain.

    Raises:
        InvalidInput: The folder holds something else, or the place cannot be written.
    """
    index = {"schemaVersion": 2, "mediaType": media.INDEX, "manifests": [d.to_json() for d in manifests]}
    files = {_blob_name(digest): data for digest, data in sorted(blobs.items())}
    files |= {_INDEX: canonical_json(index), _MARKER: _MARKER_BYTES}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".tar":
            write_durably(path, tar_of((name, data, False) for name, data in files.items()), mode=0o644)
        else:
            _write_folder(path, files)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror or error}") from None


def _write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    if path.exists() and any(path.iterdir()) and not (path / _MARKER).is_file():
        raise InvalidInput(f"{path} is not empty and not an OCI image layout", hint="Choose another folder.")
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        write_durably(path / name, data, mode=0o644)
    for old in path.glob("blobs/*/*"):
        if old.relative_to(path).as_posix() not in files:
            old.unlink()


def _blob_name(digest: str) -> str:
    algorithm, value = split_digest(digest)
    return f"blobs/{algorithm}/{value}"
