"""Copies of what a component hands out and may change at any moment: by descriptors, following nothing.

A name that was looked at can stand for another file when it is opened. So every folder is opened from the one above
it, no name that is a link is opened at all, and what is looked at is what was opened.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fuseml_sdk.archives import MAX_DEPTH, check_links
from fuseml_sdk.errors import InvalidInput, Permanent
from fuseml_sdk.trees import BUFFER, kind_of

#: Without O_NONBLOCK, opening a pipe would wait for whoever writes to it.
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
#: In a repository: where else git is to look for what is not in it, such as in somebody else's.
_BORROWED = ("objects/info/alternates", "objects/info/http-alternates")


def copy_strange(source: Path, root: Path, target: Path) -> None:
    """Copy a file or folder out of a folder that somebody else may be changing now.

    Links inside the source go on leading to the same places in the copy. Modes are 0644 or 0755, as in archives.

    Args:
        source: What to copy.
        root: Folder around it, without links on the way to it, that the other one cannot replace.
        target: Must not exist, in a folder that the other one cannot reach.

    Raises:
        InvalidInput: A link leads out of the source, or something there is neither file nor folder, is a file of
            somebody else under another name, or lies too deep.
        Permanent: The source lies outside the root now, or was changed meanwhile.
        OSError: It cannot be read, or there is no room.
    """
    real = Path(os.path.realpath(source))
    if not real.is_relative_to(root):
        raise Permanent(f"{source} leads to a place outside {root}",
                        hint="A component may hand out files below its state folder, and those that it has a "
                             "permission for.")
    copy, names = _Copy(real), real.relative_to(root).parts or (os.curdir,)
    with _opened(root, names[:-1]) as folder:
        copy.entry(names[-1], folder, target, 0)
    check_links(copy.links, target)
    for name in _BORROWED:
        if (target / name).exists():
            raise InvalidInput(f"{source}/{name} takes objects from another repository",
                               hint="Copy the objects into the repository: git repack -a -d, then remove the file.")


@contextmanager
def _opened(root: Path, names: tuple[str, ...]) -> Iterator[int]:
    """Open what lies below a folder, passing no link."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in names:
            inner = _open(name, descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def _open(name: str, folder: int) -> int:
    """Open a file or folder for reading; nothing else, since opening a device can have effects."""
    mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    if not stat.S_ISLNK(mode):
        _expect_contents(name, mode)
    try:
        return os.open(name, _OPEN, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Permanent(f"{name} was replaced by a link while it was copied",
                            hint="Leave alone what was handed out.") from error
        raise


def _expect_contents(name: object, mode: int) -> None:
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InvalidInput(f"{name} is {kind_of(mode)}: neither a file nor a folder",
                           hint="Remove it, or put files in its place.")


class _Copy:
    """One copy under way; `links` are those that it made."""

    def __init__(self, top: Path) -> None:
        self._top = top
        self.links: list[Path] = []

    def entry(self, name: str, folder: int, target: Path, depth: int) -> None:
        """Copy a file or folder that lies in an open folder."""
        descriptor = _open(name, folder)
        try:
            found = os.fstat(descriptor)
            _expect_contents(name, found.st_mode)
            if stat.S_ISDIR(found.st_mode):
                self._folder(descriptor, target, depth)
            elif found.st_nlink > 1 and found.st_uid != os.fstat(folder).st_uid:
                raise InvalidInput(f"{name} is another name of a file of somebody else",
                                   hint="Copy the file in its place.")
            else:
                _copy_file(descriptor, found, target)
        finally:
            os.close(descriptor)

    def _folder(self, descriptor: int, target: Path, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise InvalidInput(f"{self._top} has more than {MAX_DEPTH} folders within folders")
        target.mkdir(mode=0o755)
        for name in sorted(os.listdir(descriptor)):
            if stat.S_ISLNK(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode):
                self._link(os.readlink(name, dir_fd=descriptor), target / name, depth)
            else:
                self.entry(name, descriptor, target / name, depth + 1)

    def _link(self, leads: str, target: Path, depth: int) -> None:
        """Make a link to the same place of the copy; where it really leads is looked at when all is there."""
        if leads.startswith("/"):
            if not Path(os.path.normpath(leads)).is_relative_to(self._top):
                raise InvalidInput(f"the link {target.name} leads out of {self._top}",
                                   hint="Copy the file in its place.")
            leads = os.path.join(*[os.pardir] * depth, os.path.relpath(leads, self._top))  # noqa: PTH118
        target.symlink_to(leads)
        self.links.append(target)


def _copy_file(descriptor: int, found: os.stat_result, target: Path) -> None:
    """Copy an open file; no more than there was, since one that grows all the time would never end."""
    left = found.st_size
    mode = 0o755 if found.st_mode & stat.S_IXUSR else 0o644
    made = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(made, "wb") as output:
        while left > 0 and (block := os.read(descriptor, min(BUFFER, left))):
            output.write(block)
            left -= len(block)
        output.flush()
        os.utime(output.fileno(), ns=(found.st_atime_ns, found.st_mtime_ns))
