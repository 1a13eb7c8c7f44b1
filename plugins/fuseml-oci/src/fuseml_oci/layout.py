"""OCI image layouts, as folders or uncompressed tar files (image-spec, image-layout.md): verified on every read."""

from __future__ import annotations

import os
import re
import shutil
import stat
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from fuseml_oci import media
from fuseml_oci.descriptor import Descriptor, canonical_json, read_descriptor, read_object
from fuseml_oci.digests import HEX_LENGTH, digest_bytes, split_digest
from fuseml_oci.sections import Section
from fuseml_sdk.archives import write_files
from fuseml_sdk.durable import write_durably
from fuseml_sdk.errors import InvalidInput, NotFound

_MARKER, _INDEX = "oci-layout", "index.json"
_MARKER_BYTES = b'{"imageLayoutVersion":"1.0.0"}'
_BLOB = re.compile(r"blobs/(sha256|sha512)/([0-9a-f]+)")
#: Largest index that is read into memory.
_MAX_DOCUMENT = 4 << 20
#: Most files that a tar archive may have.
_MAX_MEMBERS = 100_000


class ImageLayout:
    """A layout to read from: a folder, or a tar file that is never unpacked.

    Args:
        path: Folder or uncompressed tar file.

    Raises:
        InvalidInput: It is neither, or not an image layout of version 1.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._members: dict[str, Section] | None = None
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
        with self.section(descriptor).open() as file:
            data = file.read(descriptor.size)
        found = digest_bytes(data, split_digest(descriptor.digest)[0])
        if found != descriptor.digest:
            raise self._damaged(descriptor, f"has the digest {found}")
        return data

    def section(self, descriptor: Descriptor) -> Section:
        """Return where the bytes of a blob lie, for streaming; its size is checked, its digest is not.

        Raises:
            NotFound: The layout does not contain it.
            InvalidInput: Its size is wrong.
        """
        section = self._locate(blob_name(descriptor.digest))
        if section.size != descriptor.size:
            raise self._damaged(descriptor, f"has {section.size} bytes instead of {descriptor.size}")
        return section

    def blobs(self) -> list[Descriptor]:
        """Return a descriptor without media type of every file that is named like a blob."""
        found = []
        names = (p.relative_to(self._path).as_posix() for p in self._path.glob("blobs/*/*")) \
            if self._path.is_dir() else self._contents()
        for name in sorted(names):
            match = _BLOB.fullmatch(name)
            if match and len(match[2]) == HEX_LENGTH[match[1]]:
                section = self._locate(name)
                found.append(Descriptor("application/octet-stream", f"{match[1]}:{match[2]}", section.size))
        return found

    def tagged(self, name: str) -> Descriptor | None:
        """Return the entry of index.json with a reference name, None if there is none.

        Raises:
            InvalidInput: Several different manifests have the name.
        """
        found = {d.digest: d for d in self.manifests() if d.annotations.get(media.REF_NAME) == name}
        if len(found) > 1:
            raise InvalidInput(f"{self._path} holds {len(found)} manifests with the name {name!r}")
        return next(iter(found.values()), None)

    def _document(self, name: str) -> bytes:
        try:
            section = self._locate(name)
        except NotFound:
            raise InvalidInput(f"{self._path} is not an OCI image layout: it has no file {name}",
                               hint="Nor is it the source of a bundle, which has a file extension.toml.") from None
        if section.size > _MAX_DOCUMENT:
            raise InvalidInput(f"{name} of {self._path} is larger than {_MAX_DOCUMENT} bytes")
        with section.open() as file:
            return file.read(section.size)

    def _locate(self, name: str) -> Section:
        """Find a file of the layout. Links are not followed."""
        if self._path.is_dir():
            try:
                status = (self._path / name).lstat()
            except OSError as error:
                raise NotFound(f"{self._path} holds no {name}: {error.strerror}") from None
            refuse_links(self._path, name)
            if not stat.S_ISREG(status.st_mode):
                raise NotFound(f"{self._path} holds no {name}: it is not a regular file")
            return Section(self._path / name, 0, status.st_size)
        if name not in self._contents():
            raise NotFound(f"{self._path} holds no {name}")
        return self._contents()[name]

    def _contents(self) -> dict[str, Section]:
        if self._members is None:
            self._members = _members(self._path)
        return self._members

    def _damaged(self, descriptor: Descriptor, why: str) -> InvalidInput:
        return InvalidInput(f"{self._path}: the blob {descriptor.digest} {why}",
                            hint="The file was changed or damaged; build or fetch it again.")


def write_layout(path: Path, manifests: Iterable[Descriptor], blobs: Mapping[str, bytes | Path]) -> None:
    """Write a layout; a path that ends with `.tar` becomes one file. Equal content, equal bytes.

    Args:
        path: File or folder. A file is replaced at once; a folder must be empty, absent or a layout, of which nothing
            is kept.
        manifests: Entries of index.json, with their reference names as annotations.
        blobs: Digest to bytes or a file with them, of every blob and manifest that the layout shall contain.

    Raises:
        InvalidInput: The folder holds something else, or the place cannot be written.
    """
    files: dict[str, bytes | Path] = {blob_name(digest): data for digest, data in sorted(blobs.items())}
    files |= {_INDEX: _index_bytes(manifests), _MARKER: _MARKER_BYTES}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".tar":
            _write_file(path, files)
        else:
            _write_folder(path, files)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror or error}") from None


def refuse_links(folder: Path, name: str) -> None:
    """Check that no folder on the way to a file of a layout is a link, which could lead anywhere.

    Raises:
        InvalidInput: One is.
    """
    for parent in Path(name).parents:
        if parent.parts and (folder / parent).is_symlink():
            raise InvalidInput(f"{folder}: {parent} is a link, which a layout must not contain")


def start_layout(folder: Path) -> None:
    """Make an empty folder an image layout without manifests; one that is a layout stays as it is.

    Raises:
        InvalidInput: It holds something else.
        OSError: It cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / _MARKER).is_file():
        if any(folder.iterdir()):
            raise InvalidInput(f"{folder} is not empty and not an OCI image layout", hint="Choose another folder.")
        write_durably(folder / _MARKER, _MARKER_BYTES, mode=0o644)
    if not (folder / _INDEX).is_file():
        write_index(folder, [])


def write_index(folder: Path, manifests: Iterable[Descriptor]) -> None:
    """Replace index.json of a layout that is a folder; nothing else is touched."""
    write_durably(folder / _INDEX, _index_bytes(manifests), mode=0o644)


def _index_bytes(manifests: Iterable[Descriptor]) -> bytes:
    return canonical_json({"schemaVersion": 2, "mediaType": media.INDEX, "manifests": [d.to_json() for d in manifests]})


def _write_file(path: Path, files: Mapping[str, bytes | Path]) -> None:
    """Write the tar beside its place and move it there when it is whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as output:
            write_files(output, ((name, data, False) for name, data in files.items()))
            output.flush()
            os.fchmod(output.fileno(), 0o644)
            os.fsync(output.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _members(path: Path) -> dict[str, Section]:
    """Where the files of a tar archive lie in it; of several with one name the first counts."""
    found: dict[str, Section] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for number, member in enumerate(archive):
                if number >= _MAX_MEMBERS:
                    raise InvalidInput(f"{path} has more than {_MAX_MEMBERS} files")
                archive.members = []  # type: ignore[attr-defined]  # else every header stays in memory
                if member.isreg() and not member.issparse():
                    name = member.name.removeprefix("./")
                    found.setdefault(name, Section(path, member.offset_data, member.size))
    except (OSError, EOFError, UnicodeError, tarfile.TarError) as error:
        raise InvalidInput(f"{path} is neither a folder nor an uncompressed tar file: {error}") from None
    return found


def _write_folder(path: Path, files: Mapping[str, bytes | Path]) -> None:
    if path.exists() and any(path.iterdir()) and not (path / _MARKER).is_file():
        raise InvalidInput(f"{path} is not empty and not an OCI image layout", hint="Choose another folder.")
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(data, Path):
            shutil.copyfile(data, path / name)
            (path / name).chmod(0o644)
        else:
            write_durably(path / name, data, mode=0o644)
    for old in path.glob("blobs/*/*"):
        if old.relative_to(path).as_posix() not in files:
            old.unlink()


def blob_name(digest: str) -> str:
    """Return the name of a blob within a layout: `blobs/<algorithm>/<hex>`."""
    algorithm, value = split_digest(digest)
    return f"blobs/{algorithm}/{value}"
