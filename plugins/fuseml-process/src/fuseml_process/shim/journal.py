"""The log of a workload: appended, limited in size, with its last lines at hand."""

from __future__ import annotations

import os
from pathlib import Path

_TAIL_LINES, _TAIL_BYTES, _LINE = 20, 32 << 10, 1000


class Journal:
    """Takes what the workload prints.

    Args:
        path: The log file; created if missing.
        limit: Bytes after which output is dropped, with a note in its place.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._left, self._limit = limit, limit
        self._recent = b""

    def write(self, block: bytes) -> None:
        """Append output, or drop it once the limit is reached."""
        self._recent = (self._recent + block)[-_TAIL_BYTES:]
        if self._left <= 0:
            return
        kept = block[:self._left]
        self._left -= len(kept)
        if self._left <= 0:
            kept += f"\n[fuseml] the log is cut off here, after {self._limit} bytes\n".encode()
        _write_all(self._descriptor, kept)

    def note(self, line: str) -> None:
        """Append a line of FuseML itself."""
        self.write(f"[fuseml] {line}\n".encode())

    def tail(self) -> list[str]:
        """The last lines, at most 20, whether they were kept or dropped."""
        lines = self._recent.decode(errors="replace").splitlines()
        return [line if len(line) <= _LINE else line[:_LINE] + " …" for line in lines[-_TAIL_LINES:]]


def _write_all(descriptor: int, block: bytes) -> None:
    """A full disk must not end the workload; what does not fit is lost."""
    view = memoryview(block)
    try:
        while view:
            view = view[os.write(descriptor, view):]
    except OSError:
        return
