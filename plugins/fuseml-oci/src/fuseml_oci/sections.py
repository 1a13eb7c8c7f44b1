"""Where the bytes of a blob lie: a part of a file, read without unpacking or copying what is around it."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from fuseml_sdk.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Section:
    """Some bytes of a file.

    Attributes:
        path: The file; links are not followed.
        offset: First byte.
        size: Number of bytes.
    """

    path: Path
    offset: int
    size: int

    def open(self) -> BinaryIO:
        """Open the section for reading from its beginning.

        Raises:
            InvalidInput: The file cannot be read.
        """
        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise InvalidInput(f"{self.path} cannot be read: {error.strerror}") from None
        return cast("BinaryIO", _Window(os.fdopen(handle, "rb", buffering=0), self))


#: Anything whose bytes can be sent: a file, some bytes, or a part of a file.
Source = Path | bytes | Section


def open_source(source: Source) -> tuple[BinaryIO, int]:
    """Open what shall be sent; returns (file, size in bytes).

    Raises:
        InvalidInput: There is no such file.
    """
    if isinstance(source, bytes):
        return io.BytesIO(source), len(source)
    if isinstance(source, Section):
        return source.open(), source.size
    try:
        file = source.open("rb", buffering=0)
    except OSError as error:
        raise InvalidInput(f"{source} cannot be read: {error.strerror}") from None
    return cast("BinaryIO", file), os.fstat(file.fileno()).st_size


class _Window(io.RawIOBase):
    """A file of which one section can be seen."""

    def __init__(self, file: io.FileIO, section: Section) -> None:
        super().__init__()
        self._file, self._section, self._at = file, section, 0
        self.seek(0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        place = offset + (0, self._at, self._section.size)[whence]
        if place < 0:
            raise ValueError(f"negative seek position {place}")
        self._at = place
        self._file.seek(self._section.offset + place)
        return place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = self._file.readinto(memoryview(buffer)[:max(0, self._section.size - self._at)]) or 0
        self._at += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()
