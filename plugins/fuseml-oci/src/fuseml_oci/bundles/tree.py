"""The files of a bundle's source folder, read without leaving it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fuseml_oci.bundles.descriptor import MAX_FILES
from fuseml_oci.digests import digest_bytes
from fuseml_sdk.archives import folded
from fuseml_sdk.errors import InvalidInput

_SKIPPED = frozenset({"__pycache__", ".git", ".DS_Store", "Thumbs.db"})


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file for the bundle: path relative to the bundle's root, contents, and whether it can be executed."""

    path: str
    data: bytes
    executable: bool = False

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of the contents."""
        return digest_bytes(self.data)


def read_file(root: Path, relative: str, *, limit: int, field: str) -> SourceFile:
    """Read one regular file below a folder.

    Args:
        root: Source folder of the bundle.
        relative: POSIX path below it, as a person wrote it.
        limit: Bytes it may have at most.
        field: Where the path is written, for errors.

    Raises:
        InvalidInput: It does not exist, leaves the folder, is not a regular file or is too large.
    """
    pure = PurePosixPath(relative)
    if pure.is_absolute() or ".." in pure.parts or "\\" in relative or not pure.parts:
        raise InvalidInput(f"{field}: {relative!r} leaves the bundle's folder",
                           hint="Write a path relative to extension.toml, without `..`.")
    path = root / pure
    _stay_inside(root, path, field)
    try:
        status = path.stat()
    except OSError as error:
        raise InvalidInput(f"{field}: {relative!r} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise InvalidInput(f"{field}: {relative!r} is not a regular file")
    if status.st_size > limit:
        raise InvalidInput(f"{field}: {relative!r} has {status.st_size} bytes; at most {limit} are allowed")
    return SourceFile(str(pure), path.read_bytes(), bool(status.st_mode & stat.S_IXUSR))


def read_tree(root: Path, folder: str, *, limit: int) -> list[SourceFile]:
    """Read all files of a folder in the order of their paths; nothing if there is no such folder.

    Byte code, version control and desktop files are left out.

    Raises:
        InvalidInput: A file leaves the source, is special, two names differ in case only, or there is too much.
    """
    names = sorted(_walk(root, folder))
    _refuse_collisions(names)
    files, total = [], 0
    for name in names:
        files.append(read_file(root, name, limit=limit, field=f"folder {folder}"))
        total += len(files[-1].data)
        if total > limit:
            raise InvalidInput(f"the folder {folder} has more than {limit} bytes",
                               hint="Keep large data in an artifact store and refer to it.")
    return files


def _walk(root: Path, folder: str) -> Iterator[str]:
    count = 0
    base = root / folder
    _stay_inside(root, base, f"folder {folder}")
    for directory, subfolders, names in os.walk(base):
        subfolders[:] = [name for name in subfolders if name not in _SKIPPED]
        for name in [n for n in subfolders if (Path(directory) / n).is_symlink()]:
            raise InvalidInput(f"{Path(directory, name).relative_to(root)} is a link to a folder",
                               hint="Bundles hold plain files; copy what it points to.")
        for name in names:
            if name in _SKIPPED or name.endswith(".pyc"):
                continue
            count += 1
            if count > MAX_FILES:
                raise InvalidInput(f"the folder {folder} has more than {MAX_FILES} files")
            yield Path(directory, name).relative_to(root).as_posix()


def _stay_inside(root: Path, path: Path, field: str) -> None:
    if not path.resolve().is_relative_to(root.resolve()):
        raise InvalidInput(f"{field}: {path.name!r} is a link that leaves the bundle's folder",
                           hint="Copy the file into the folder.")


def _refuse_collisions(names: list[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        if any(ord(char) < 32 or char == "\\" for char in name):
            raise InvalidInput(f"the file name {name!r} has control characters or a backslash")
        other = seen.setdefault(folded(name), name)
        if other != name:
            raise InvalidInput(f"the file names {other!r} and {name!r} differ only in case or in their accents' code",
                               hint="Some file systems cannot hold both; rename one.")
