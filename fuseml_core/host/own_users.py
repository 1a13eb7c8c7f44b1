"""Users of their own for extensions, where the server is root.

A user without name, home or shell: a number from a range, the same one for an extension as long as it is kept in the
list. All of them have one group in common, which may pass through the server's folders on the way to an environment,
a bundle or a state folder, and to nothing beside that way.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fuseml_core.host.components import Component
from fuseml_sdk.durable import write_durably


@dataclass(frozen=True)
class User:
    """Whom a process runs as.

    Attributes:
        uid: User.
        gid: Group of the files it makes.
        groups: Further groups.
    """

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


class OwnUsers:
    """Gives each extension a user and opens the way to what it needs.

    Args:
        home: FUSEML_HOME; below it folders may be opened to the common group.
        first: Lowest number; the common group has it.
        last: Highest number.
    """

    def __init__(self, home: Path, first: int, last: int) -> None:
        self._home, self._first, self._last = home, first, last
        self._list = home / "extensions" / "users.json"
        self._lock = threading.Lock()

    def usable(self) -> tuple[bool, str]:
        """Whether extensions can have users of their own, and why not or which."""
        closed = self._closed(self._home)
        if closed is not None:
            return False, f"{closed} is closed to other users; set FUSEML_HOME to a folder such as /var/lib/fuseml"
        closed = self._closed(Path(sys.executable))
        if closed is not None:
            return False, (f"{closed} is closed to other users, and the interpreter of the server and its environments "
                           "lies below; use one of the system")
        return True, f"one of {self._first + 1} to {self._last} for each extension"

    def user_for(self, component: Component) -> User | None:
        """The user of a component's extension; None if its interpreter or folders are closed to other users."""
        for path in (self._home, *_needed(component)):
            if self._closed(path) is not None:
                return None
        number = self._number(component.extension)
        return User(number, number, (self._first,))

    def prepare(self, component: Component, user: User) -> None:
        """Open the way to what a component needs, and make its state folder its user's.

        Raises:
            OSError: An owner or a mode cannot be changed.
        """
        for path in (*_needed(component), component.state_dir):
            self._open_way(path)
        take(component.state_dir, user)

    def _number(self, extension: str) -> int:
        with self._lock:
            numbers: dict[str, int] = {}
            with contextlib.suppress(OSError, ValueError):
                numbers = {str(k): int(v) for k, v in json.loads(self._list.read_text(encoding="utf-8")).items()}
            if extension not in numbers:
                numbers[extension] = self._free(extension, set(numbers.values()))
                self._list.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_durably(self._list, json.dumps(numbers, indent=1, sort_keys=True).encode())
            return numbers[extension]

    def _free(self, extension: str, taken: set[int]) -> int:
        """A number that depends on home and name, so that two servers of one machine seldom choose the same."""
        digest = hashlib.sha256(f"{self._home}\0{extension}".encode()).digest()
        room = self._last - self._first
        start = int.from_bytes(digest[:8], "big") % room
        for step in range(room):
            number = self._first + 1 + (start + step) % room
            if number not in taken:
                return number
        raise OSError(f"all users from {self._first + 1} to {self._last} are taken; widen FUSEML_PLUGIN_UIDS")

    def _closed(self, path: Path) -> Path | None:
        """The first folder on the way to a path that other users cannot pass and that is not ours to open."""
        real = path.resolve()
        for folder in (*reversed(real.parents), real):
            if self._is_ours(folder):
                continue
            with contextlib.suppress(OSError):
                if not folder.stat().st_mode & stat.S_IXOTH:
                    return folder
        return None

    def _is_ours(self, folder: Path) -> bool:
        home = self._home.resolve()
        return folder == home or home in folder.parents

    def _open_way(self, path: Path) -> None:
        """Let the common group pass each folder from the home to the one that holds `path`."""
        home, real = self._home.resolve(), path.resolve()
        for folder in real.parents:
            if not self._is_ours(folder):
                break
            found = folder.stat()
            if found.st_gid == self._first and found.st_mode & stat.S_IXGRP:
                continue
            if found.st_uid != os.geteuid():
                break  # the state folder of another user
            if folder in (home, home / "extensions"):
                _close_what_lies_in(folder)
            os.chown(folder, -1, self._first)
            folder.chmod(stat.S_IMODE(found.st_mode) & ~0o077 | 0o710)
            if folder == home:
                break


def take(folder: Path, user: User) -> None:
    """Make a folder and all in it a user's. The folder itself comes last, so that what was interrupted is repeated."""
    found = folder.lstat()
    if (found.st_uid, found.st_gid) == (user.uid, user.gid):
        return
    # By descriptors: who had the folder until now may be running, and put a link where a folder was.
    for _, folders, files, descriptor in os.fwalk(folder):
        for name in (*folders, *files):
            with contextlib.suppress(FileNotFoundError):
                os.chown(name, user.uid, user.gid, dir_fd=descriptor, follow_symlinks=False)
    os.chown(folder, user.uid, user.gid, follow_symlinks=False)


def _needed(component: Component) -> Iterable[Path]:
    python = component.python or Path(sys.executable)
    yield from (python.parent.parent, python.resolve())
    if component.python is None:
        yield from (Path(path) for path in sys.path if Path(path).is_dir())
    yield from component.readable


def _close_what_lies_in(folder: Path) -> None:
    """What the group could reach through a folder that is opened to it must say itself who may read it."""
    for entry in folder.iterdir():
        found = entry.lstat()
        if not stat.S_ISLNK(found.st_mode) and found.st_uid == os.geteuid() and found.st_mode & 0o007:
            entry.chmod(stat.S_IMODE(found.st_mode) & ~0o007)
