"""The files of a directory with their digests, read without importing pydantic.

:mod:`fuseml_sdk.contents` wraps this in the types of the contract; the supervisor of a workload uses it as it is.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from fuseml_sdk.errors import InvalidInput

#: Bytes read at once.
BUFFER = 1 << 20


class TreeFile(NamedTuple):
    """One regular file: POSIX path relative to the root, bytes, `sha256:<hex>`, whether its owner may execute it."""

    path: str
    size: int
    digest: str
    executable: bool


def scan_tree(directory: Path) -> list[TreeFile]:
    """Read every file below a directory, sorted by path.

    A symbolic link to a file inside the tree counts as that file. Everything whose contents could not be carried
    elsewhere is refused.

    Raises:
        InvalidInput: A link leaves the tree or names a directory, a name is not UTF-8, or something is neither file
            nor directory, or the directory is missing; the message names it.
    """
    if not directory.is_dir():
        raise InvalidInput(f"{directory} is not a directory")
    root = os.path.realpath(directory)
    return sorted((_entry(root, path) for path in _walk(root)), key=lambda entry: entry.path.encode())


def _walk(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path)
            else:
                yield entry.path


def _entry(root: str, full: str) -> TreeFile:
    name = os.path.relpath(full, root)
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"the name {os.fsencode(name)!r} is not UTF-8", hint="Rename the file.") from None
    if "\\" in name or "\n" in name or "\0" in name:
        raise InvalidInput(f"the name {name!r} contains a backslash or a line break", hint="Rename the file.")
    real = os.path.realpath(full)
    if real != full and not real.startswith(root + os.sep):
        raise InvalidInput(f"the symbolic link {name} leads out of the tree", hint="Copy the file in its place.")
    try:
        info = Path(real).stat()
    except OSError as error:
        raise InvalidInput(f"the symbolic link {name} leads nowhere ({error.strerror})") from None
    if not stat.S_ISREG(info.st_mode):
        raise InvalidInput(f"{name} is {kind_of(info.st_mode)}; only files and directories can be stored",
                           hint="Remove it, or put files in its place.")
    with Path(real).open("rb", buffering=0) as stream:
        digest, size = _digest(stream.fileno())
    return TreeFile(name, size, f"sha256:{digest}", bool(info.st_mode & stat.S_IXUSR))


def _digest(descriptor: int) -> tuple[str, int]:
    hasher, size = hashlib.sha256(), 0
    while block := os.read(descriptor, BUFFER):
        hasher.update(block)
        size += len(block)
    return hasher.hexdigest(), size


def kind_of(mode: int) -> str:
    """What something that is no regular file is, for people; `mode` is its `st_mode`."""
    if stat.S_ISDIR(mode):
        return "a symbolic link to a directory"
    return {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device",
            stat.S_IFBLK: "a device"}.get(stat.S_IFMT(mode), "something odd")
