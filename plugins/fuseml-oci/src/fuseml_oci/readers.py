"""Files on their way to a registry: hashed while they are read, whole or part by part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from fuseml_oci.digests import BUFFER, new_hasher, split_digest
from fuseml_oci.progress import Watch
from fuseml_sdk.errors import InvalidInput


class VerifiedReader:
    """A file that is hashed while it is read, for sending; the last byte goes out only if the digest is right.

    What is read again after `seek` is not hashed again: the registry checks the whole.

    Args:
        file: Binary file, positioned anywhere.
        digest: What the whole file must have.
        size: Bytes it must have.
        what: For errors.
        watch: Told the position.
    """

    def __init__(self, file: BinaryIO, digest: str, size: int, what: str, watch: Watch | None = None) -> None:
        self._file, self._digest, self._what, self.size = file, digest, what, size
        self._watch: Watch = watch or _unwatched
        self._hasher, self._hashed, self._at = new_hasher(split_digest(digest)[0]), 0, 0

    @property
    def hashed(self) -> int:
        """Bytes from the beginning that have been read so far."""
        return self._hashed

    def seek(self, offset: int) -> None:
        """Go to a byte that was read before, or to the first one that was not."""
        if not 0 <= offset <= self._hashed:
            raise ValueError(offset)
        self._at = self._file.seek(offset)
        self._watch(offset)

    def read(self, size: int = BUFFER) -> bytes:
        """Return the next bytes.

        Raises:
            InvalidInput: The file has another digest or size than was said.
        """
        data = self._file.read(size)
        new = self._hashed - self._at
        self._at += len(data)
        if self._at > self._hashed:
            self._hasher.update(memoryview(data)[new:] if new else data)
            self._hashed = self._at
        if (not data and self._at < self.size) or self._at > self.size:
            raise InvalidInput(f"{self._what}: the file does not have {self.size} bytes, as was said")
        if data and self._at == self.size and not self._digest.endswith(f":{self._hasher.hexdigest()}"):
            raise InvalidInput(f"{self._what}: the file does not have this digest")
        self._watch(self._at)
        return data


class Body:
    """The part of a `VerifiedReader` that one request sends.

    Args:
        reader: Of the whole blob.
        offset: First byte.
        length: Number of bytes.
    """

    def __init__(self, reader: VerifiedReader, offset: int, length: int) -> None:
        self._reader, self._offset, self.len = reader, offset, length  # requests reads `len` for Content-Length
        self._left = length
        self.seek(0)

    def seek(self, offset: int) -> int:
        """Start again from the beginning, the only supported offset."""
        if offset:
            raise ValueError(offset)
        self._reader.seek(self._offset)
        self._left = self.len
        return 0

    def read(self, size: int = BUFFER) -> bytes:
        """Return the next bytes of the part; empty at its end."""
        wanted = min(size if size > 0 else BUFFER, BUFFER, self._left)
        data = self._reader.read(wanted) if wanted else b""
        self._left -= len(data)
        return data

    def __iter__(self) -> Iterator[bytes]:
        while data := self.read():
            yield data


def _unwatched(_position: int) -> None:
    """Nobody wants to know."""
