"""OCI image layouts, as directories or uncompressed tar files (image-spec, image-layout.md): verified on every read."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from fuseml_oci import media
from fuseml_oci.content import ContentStore, write_file
from fuseml_oci.descriptor import Descriptor, canonical_json, read_descriptor, read_object
from fuseml_oci.digests import BUFFER, digest_bytes, new_hasher, split_digest
from fuseml_oci.transfers import sync_directory
from fuseml_sdk.errors import InvalidInput, NotFound, Permanent

_MARKER, _INDEX = "oci-layout", "index.json"
_MARKER_BYTES = b'{"imageLayoutVersion":"1.0.0"}'
#: Largest index, manifest or other document that is read into memory.
MAX_DOCUMENT = 4 << 20


class ImageLayout:
    """A layout to read from: a directory, or a tar file that is never unpacked.

    Args:
        path: Directory or uncompressed tar file.

    Raises:
        InvalidInput: It is neither, or not an image layout of version 1.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        marker = read_object(self._document(_MARKER), f"{_MARKER} of {path}")
        if marker.get("imageLayoutVersion") != "1.0.0":
            raise InvalidInput(f"{path} is not an image layout of version 1.0.0")

    def manifests(self) -> list[Descriptor]:
        """Return the descriptors of index.json."""
        entries = self._index().get("manifests") or []
        return [read_descriptor(entry, f"manifests[{n}] of {self._path}") for n, entry in enumerate(entries)]

    def find(self, name: str = "") -> Descriptor:
        """Return the manifest with this reference name, or the only one when the name is empty.

        Raises:
            NotFound: There is none.
            InvalidInput: No name was given and there are several.
        """
        found = [d for d in self.manifests() if not name or d.annotations.get(media.REF_NAME) == name]
        if not found:
            raise NotFound(f"{self._path} holds no manifest" + (f" named {name!r}" if name else ""))
        if len({d.digest for d in found}) > 1:
            raise InvalidInput(f"{self._path} holds {len(found)} manifests", hint="say which one by its name")
        return found[0]

    def read(self, descriptor: Descriptor) -> bytes:
        """Return a small blob, such as a manifest or config, verified.

        Raises:
            NotFound: The layout does not contain it.
            Permanent: Size or digest are wrong, or it is larger than 4 MiB.
        """
        self._check_size(descriptor, MAX_DOCUMENT)
        with self._open(_blob_name(descriptor.digest)) as (file, size):
            if size != descriptor.size:
                raise self._wrong(descriptor, f"has {size} bytes instead of {descriptor.size}")
            data = file.read(descriptor.size + 1)
        if digest_bytes(data, split_digest(descriptor.digest)[0]) != descriptor.digest:
            raise self._wrong(descriptor, "has another digest")
        return data

    def extract(self, descriptor: Descriptor, destination: Path) -> None:
        """Copy a blob into a file, which appears only when size and digest are right.

        Raises:
            NotFound, Permanent: As for `read`.
        """
        hasher = new_hasher(split_digest(descriptor.digest)[0])
        handle, name = tempfile.mkstemp(prefix=".blob-", dir=destination.parent)
        try:
            with os.fdopen(handle, "wb") as target, self._open(_blob_name(descriptor.digest)) as (file, size):
                if size != descriptor.size:
                    raise self._wrong(descriptor, f"has {size} bytes instead of {descriptor.size}")
                while data := file.read(BUFFER):
                    hasher.update(data)
                    target.write(data)
                target.flush()
                os.fsync(target.fileno())
            if not descriptor.digest.endswith(f":{hasher.hexdigest()}"):
                raise self._wrong(descriptor, "has another digest")
            Path(name).replace(destination)
        finally:
            Path(name).unlink(missing_ok=True)
        sync_directory(destination.parent)

    def _index(self) -> dict[str, Any]:
        index = read_object(self._document(_INDEX), f"{_INDEX} of {self._path}")
        if not isinstance(index.get("manifests", []), list):
            raise InvalidInput(f"{_INDEX} of {self._path}: manifests is not a list")
        return index

    def _document(self, name: str) -> bytes:
        try:
            with self._open(name) as (file, size):
                if size > MAX_DOCUMENT:
                    raise InvalidInput(f"{name} of {self._path} is larger than {MAX_DOCUMENT} bytes")
                return file.read(size)
        except NotFound:
            raise InvalidInput(f"{self._path} is not an image layout: {name} is missing") from None

    @contextmanager
    def _open(self, name: str) -> Iterator[tuple[IO[bytes], int]]:
        """Open a file of the layout for reading; yields it with its size. Links are not followed."""
        if self._path.is_dir():
            try:
                handle = os.open(self._path / name, os.O_RDONLY | os.O_NOFOLLOW)
            except OSError:
                raise NotFound(f"{self._path} holds no {name}") from None
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
            raise InvalidInput(f"{self._path} is neither a directory nor an uncompressed tar file: {error}") from None

    def _check_size(self, descriptor: Descriptor, limit: int) -> None:
        if descriptor.size > limit:
            raise self._wrong(descriptor, f"has {descriptor.size} bytes, more than {limit}")

    def _wrong(self, descriptor: Descriptor, why: str) -> Permanent:
        return Permanent(f"{descriptor.digest} in {self._path} {why}", hint="the file is damaged or was changed")


def write_layout(directory: Path, manifests: list[Descriptor], content: ContentStore,
                 contained: list[Descriptor]) -> None:
    """Write a layout directory; equal content gives equal files.

    Args:
        directory: New or empty.
        manifests: Entries of index.json, with their reference names as annotations.
        content: Where the blobs are.
        contained: Every blob and manifest that the layout shall contain.

    Raises:
        NotFound: `content` lacks a blob.
        InvalidInput: `directory` is not empty.
    """
    if directory.exists() and any(directory.iterdir()):
        raise InvalidInput(f"{directory} is not empty", hint="name a new directory")
    target = ContentStore(directory)
    for blob in contained:
        target.add(blob, lambda wanted, path: _copy(content.path(wanted.digest), path))
    write_file(directory / _INDEX, index_bytes(manifests))
    write_file(directory / _MARKER, _MARKER_BYTES)


def write_layout_tar(path: Path, manifests: list[Descriptor], content: ContentStore,
                     contained: list[Descriptor]) -> None:
    """Write a layout as one uncompressed tar file, atomically; arguments and errors as for `write_layout`."""
    handle, name = tempfile.mkstemp(prefix=".layout-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            with tarfile.open(fileobj=file, mode="w|", format=tarfile.USTAR_FORMAT, bufsize=BUFFER) as archive:
                _add(archive, _MARKER, io.BytesIO(_MARKER_BYTES), len(_MARKER_BYTES))
                index = index_bytes(manifests)
                _add(archive, _INDEX, io.BytesIO(index), len(index))
                for blob in sorted({d.digest: d for d in contained}.values(), key=lambda d: d.digest):
                    _add_blob(archive, content, blob)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
    sync_directory(path.parent)


def index_bytes(manifests: list[Descriptor]) -> bytes:
    """Return the bytes of an index.json with these entries."""
    return canonical_json({"schemaVersion": 2, "mediaType": media.INDEX, "manifests": [d.to_json() for d in manifests]})


def _blob_name(digest: str) -> str:
    algorithm, value = split_digest(digest)
    return f"blobs/{algorithm}/{value}"


def _copy(source: Path, target: Path) -> None:
    if not source.is_file():
        raise NotFound(f"the content store holds no {source.parent.name}:{source.name}")
    with source.open("rb") as reader, target.open("wb") as writer:
        while data := reader.read(BUFFER):
            writer.write(data)
        writer.flush()
        os.fsync(writer.fileno())


def _add_blob(archive: tarfile.TarFile, content: ContentStore, blob: Descriptor) -> None:
    path = content.path(blob.digest)
    if not path.is_file():
        raise NotFound(f"the content store holds no {blob.digest}")
    with path.open("rb") as file:
        _add(archive, _blob_name(blob.digest), file, blob.size)


def _add(archive: tarfile.TarFile, name: str, file: IO[bytes], size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    archive.addfile(info, file)
