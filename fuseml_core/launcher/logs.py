"""Log files of the server's processes: rotated by size, never in the way of the process that writes."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

LIMIT = 10 << 20
KEPT = 3


class RotatingLog:
    """A log file that is moved aside at a size limit; `KEPT` older files stay, as `<name>.1` and so on.

    Args:
        path: The current file.
        limit: Bytes at which it is moved aside.
    """

    def __init__(self, path: Path, limit: int = LIMIT) -> None:
        self.path = path
        self.limit = limit
        self._handle = self._open()

    def write(self, data: bytes) -> None:
        """Append; a full disk loses lines, not the server."""
        with contextlib.suppress(OSError):
            if os.fstat(self._handle).st_size + len(data) > self.limit:
                self._rotate()
            os.write(self._handle, data)

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)

    def fileno(self) -> int:
        """File descriptor of the current file."""
        return self._handle

    def _open(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def _rotate(self) -> None:
        for number in range(KEPT, 0, -1):
            older = self.path.with_name(f"{self.path.name}.{number - 1}") if number > 1 else self.path
            if older.exists():
                older.replace(self.path.with_name(f"{self.path.name}.{number}"))
        os.close(self._handle)
        self._handle = self._open()


def last_lines(path: Path, count: int = 20) -> list[str]:
    """Return the last lines of a log file; none when there is no file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 64 * 1024))
            return file.read().decode("utf-8", "replace").splitlines()[-count:]
    except OSError:
        return []
