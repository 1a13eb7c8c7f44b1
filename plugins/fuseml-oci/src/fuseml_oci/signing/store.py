"""A folder of keys: `NAME.key` (encrypted, for its owner only) and `NAME.pub`, as `cosign generate-key-pair` makes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuseml_oci.signing.encryption import read_pem
from fuseml_oci.signing.keys import (
    MAX_FILE,
    PrivateKey,
    generate,
    is_encrypted,
    load_private,
    load_public,
    read_public,
)
from fuseml_sdk.durable import sync_directory
from fuseml_sdk.errors import InvalidInput, NotFound, PluginError

PRIVATE, PUBLIC = ".key", ".pub"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*")
_MAX_NAME = 100
#: Asked for a password when one is needed: with the file that it opens.
Ask = Callable[[Path], bytes]


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key of the folder.

    Attributes:
        name: Of its files, without the ending.
        public: File of the public key, None if there is only a private one.
        private: File of the private key, None if there is only a public one.
        fingerprint: Of the public key; empty if it cannot be read.
        error: Why it cannot be read.
    """

    name: str
    public: Path | None
    private: Path | None
    fingerprint: str = ""
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For programs."""
        return {"name": self.name, "fingerprint": self.fingerprint, "public": str(self.public or ""),
                "private": str(self.private or ""), "error": self.error}


class KeyStore:
    """Makes, imports and finds keys.

    Args:
        folder: Made when the first key is written, for its owner only.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def generate(self, name: str, password: Callable[[], bytes]) -> StoredKey:
        """Make a key pair.

        Args:
            name: Of the files.
            password: Asked after it is certain that nothing is overwritten.

        Raises:
            InvalidInput: A file is there already, or cannot be written.
        """
        self._check_free(name, PRIVATE, PUBLIC)
        return self._write(name, generate(), password())

    def take(self, source: Path, name: str, ask: Ask, password: Callable[[], bytes]) -> StoredKey:
        """Import a key of others: a public one as it is, a private one encrypted with a password.

        Args:
            source: PEM: a public key, a key of cosign, PKCS#8 or SEC 1.
            name: Of the files.
            ask: For the password that opens `source`; the copy keeps it.
            password: For the new file, if `source` has none.

        Raises:
            NotFound, InvalidInput, Permanent: `source` is no such key, or a file is there already.
        """
        if _is_public(source):
            self._check_free(name, PRIVATE, PUBLIC)
            public = load_public(source)
            self._write_new(name + PUBLIC, public.pem, 0o644)
            return self.get(name)
        self._check_free(name, PRIVATE, PUBLIC)
        if is_encrypted(source):
            secret = ask(source)
            return self._write(name, load_private(source, secret), secret)
        return self._write(name, load_private(source, unencrypted=True), password())

    def list(self) -> list[StoredKey]:
        """All keys of the folder by name; one that cannot be read says why."""
        files = [path for path in self.folder.glob("*") if path.suffix in (PRIVATE, PUBLIC)
                 and not path.name.startswith(".")]
        return [self._describe(name) for name in sorted({path.name.removesuffix(path.suffix) for path in files})]

    def get(self, name: str) -> StoredKey:
        """One key.

        Raises:
            NotFound: The folder has no such key.
        """
        if not any((self.folder / (_checked(name) + ending)).is_file() for ending in (PRIVATE, PUBLIC)):
            raise NotFound(f"there is no key {name!r} in {self.folder}",
                           hint="See those that are there: fuseml key list; make one: fuseml key generate NAME")
        return self._describe(name)

    def private(self, text: str) -> Path:
        """The file of a private key: a path, or the name of a key of the folder."""
        return self._find(text, PRIVATE)

    def public(self, text: str) -> Path:
        """The file of a public key: a path, or the name of a key of the folder."""
        return self._find(text, PUBLIC)

    def _find(self, text: str, ending: str) -> Path:
        path = Path(text).expanduser()
        if path.is_file() or os.sep in text or text.endswith((PRIVATE, PUBLIC)):
            return path
        named = self.folder / (_checked(text) + ending)
        if not named.is_file():
            raise NotFound(f"there is no file {text} and no key {named}",
                           hint="See the keys that are there: fuseml key list")
        return named

    def _write(self, name: str, key: PrivateKey, password: bytes) -> StoredKey:
        private = self._write_new(name + PRIVATE, key.encrypted(password), 0o600)
        try:
            self._write_new(name + PUBLIC, key.public.pem, 0o644)
        except BaseException:
            private.unlink(missing_ok=True)
            raise
        return self.get(name)

    def _write_new(self, name: str, data: bytes, mode: int) -> Path:
        path = self.folder / name
        try:
            if not self.folder.is_dir():
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except FileExistsError:
            raise self._taken(path) from None
        except OSError as error:
            raise InvalidInput(f"{path} cannot be written: {error.strerror}") from None
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                os.fchmod(file.fileno(), mode)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        sync_directory(self.folder)
        return path

    def _check_free(self, name: str, *endings: str) -> None:
        _checked(name)
        for ending in endings:
            if (path := self.folder / (name + ending)).exists() or path.is_symlink():
                raise self._taken(path)

    def _taken(self, path: Path) -> InvalidInput:
        return InvalidInput(f"{path} is there already, and keys are never overwritten",
                            hint="Choose another name, or move the old key away.")

    def _describe(self, name: str) -> StoredKey:
        public, private = self.folder / (name + PUBLIC), self.folder / (name + PRIVATE)
        files = (public if public.is_file() else None, private if private.is_file() else None)
        try:
            return StoredKey(name, *files, fingerprint=load_public(public).fingerprint)
        except PluginError as error:
            return StoredKey(name, *files, error=error.message)


def _is_public(source: Path) -> bool:
    try:
        with source.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        raise NotFound(f"there is no file {source}") from None
    except OSError as error:
        raise InvalidInput(f"{source} cannot be read: {error.strerror}") from None
    if read_pem(data, str(source))[0] != "PUBLIC KEY":
        return False
    read_public(data, str(source))
    return True


def _checked(name: str) -> str:
    if len(name) > _MAX_NAME or not _NAME.fullmatch(name) or name.endswith((PRIVATE, PUBLIC)):
        raise InvalidInput(f"{name[:120]!r} cannot be the name of a key",
                           hint="Use letters, digits, - and _, such as team-2026; the files get the endings .key and "
                                ".pub.")
    return name
