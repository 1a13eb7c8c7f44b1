"""The file with users: a line `name:hash` for each, read again whenever it changed."""

from __future__ import annotations

import fcntl
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fuseml_registry.access.passwords import MAX_PASSWORD, hash_password, is_hash
from fuseml_registry.configuration import ANONYMOUS
from fuseml_sdk.durable import write_durably
from fuseml_sdk.errors import InvalidInput, NotFound

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}")
#: Shortest password in characters.
MIN_PASSWORD = 8


class Accounts:
    """Users and the hashes of their passwords.

    Args:
        path: The file; without it there are no users.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._hashes: dict[str, str] = {}

    def hash_of(self, name: str) -> str:
        """Return the hash of a user's password; empty if there is no such user."""
        return self._current().get(name, "")

    def names(self) -> list[str]:
        """Return all users in order."""
        return sorted(self._current())

    def add(self, name: str, password: str) -> bool:
        """Add a user, or give one a new password. True if the user is new.

        Raises:
            InvalidInput: The name or the password cannot be used.
        """
        if not _NAME.fullmatch(name) or name == ANONYMOUS:
            raise InvalidInput(f"{name[:120]!r} cannot be a user's name",
                               hint="use letters, digits and . _ @ -, beginning with a letter or digit")
        if not len(password) >= MIN_PASSWORD or len(password.encode()) > MAX_PASSWORD:
            raise InvalidInput(f"a password has at least {MIN_PASSWORD} characters and at most {MAX_PASSWORD} bytes")
        hashed = hash_password(password)
        with self._changing() as hashes:
            new = name not in hashes
            hashes[name] = hashed
        return new

    def remove(self, name: str) -> None:
        """Remove a user.

        Raises:
            NotFound: There is none of that name.
        """
        with self._changing() as hashes:
            if hashes.pop(name, None) is None:
                raise NotFound(f"{self.path} has no user {name[:120]!r}")

    def _current(self) -> dict[str, str]:
        with self._lock:
            try:
                state = self.path.stat()
            except FileNotFoundError:
                self._seen, self._hashes = None, {}
                return self._hashes
            seen = (state.st_ino, state.st_mtime_ns, state.st_size)
            if seen != self._seen:
                self._hashes, self._seen = _read(self.path), seen
            return self._hashes

    @contextmanager
    def _changing(self) -> Iterator[dict[str, str]]:
        """Hold the file against other commands, then replace it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path.with_name(f".{self.path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            hashes = dict(_read(self.path)) if self.path.exists() else {}
            yield hashes
            lines = [f"{name}:{hashed}\n" for name, hashed in sorted(hashes.items())]
            write_durably(self.path, "".join(lines).encode())
        finally:
            os.close(handle)


def _read(path: Path) -> dict[str, str]:
    hashes = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, _, hashed = text.partition(":")
        if not _NAME.fullmatch(name) or not is_hash(hashed):
            raise InvalidInput(f"{path}, line {number}, is not a user with a hash that this registry understands",
                               hint="write it with: fuseml registry user add NAME")
        hashes[name] = hashed
    return hashes
