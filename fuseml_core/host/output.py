"""What a plugin process writes: into the extension's log file, and the last lines kept for crash reports."""

from __future__ import annotations

import os
import threading
from collections import deque
from datetime import UTC, datetime
from pathlib import Path

#: Lines kept for reports, and the most characters of each.
KEPT_LINES, LINE_LIMIT = 50, 2000
#: Size in bytes at which the log file is renamed to `.1` and begun anew.
FILE_LIMIT = 10 * 1024 * 1024


class OutputCapture:
    """Reads a pipe to its end in a thread of its own.

    Args:
        descriptor: Read end of the pipe; owned from here on.
        path: Log file; several components of an extension append to the same.
        label: Says in each line of the file where it comes from.
    """

    def __init__(self, descriptor: int, path: Path, label: str) -> None:
        self._descriptor = descriptor
        self._path = path
        self._label = label
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._thread = threading.Thread(target=self._run, name="fuseml-output", daemon=True)
        self._thread.start()

    def tail(self, count: int) -> list[str]:
        """The last `count` lines."""
        return list(self._lines)[-count:]

    def wait(self, seconds: float) -> None:
        """Wait until the pipe has ended, so that the last lines are there."""
        self._thread.join(seconds)

    def _run(self) -> None:
        with os.fdopen(self._descriptor, "rb") as stream:
            while raw := stream.readline(LINE_LIMIT):
                line = raw.decode("utf-8", "replace").rstrip("\r\n")
                self._lines.append(line)
                self._write(line)

    def _write(self, line: str) -> None:
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"{stamp} {self._label} {line}\n")
                full = file.tell() > FILE_LIMIT
            if full:
                self._path.replace(self._path.with_name(self._path.name + ".1"))
        except OSError:
            return  # A full disk must not stop the reading, or the plugin would block on its next line.
