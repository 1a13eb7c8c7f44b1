"""What a plugin process writes: into the extension's log file, and the last lines kept for crash reports."""

from __future__ import annotations

import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from weakref import WeakValueDictionary

#: Lines kept for reports, and the most characters of each.
KEPT_LINES, LINE_LIMIT = 50, 2000
#: Size in bytes at which the log file is renamed to `.1` and begun anew.
FILE_LIMIT = 10 * 1024 * 1024
#: Lines that a process may write at once, and then in each second; more are counted and dropped.
BURST, RATE = 4000, 1000
_CHUNK = 64 * 1024
#: Escape sequences that only colour; and what could move the cursor, or count as the end of a line.
_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


class LogFile:
    """The log of an extension, shared by the processes of its components; one for each path, by :func:`log_file`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def write(self, lines: Iterable[str]) -> None:
        """Append lines; a disk that is full loses them, because a plugin must not block on what it prints."""
        try:
            with self._lock:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("a", encoding="utf-8") as file:
                    file.writelines(f"{line}\n" for line in lines)
                    full = file.tell() > FILE_LIMIT
                if full:
                    self._path.replace(self._path.with_name(self._path.name + ".1"))
        except OSError:
            return


_files: WeakValueDictionary[Path, LogFile] = WeakValueDictionary()
_files_lock = threading.Lock()


def log_file(path: Path) -> LogFile:
    """The log at a path; everybody who asks gets the same while it is in use."""
    with _files_lock:
        found = _files.get(path)
        if found is None:
            found = _files[path] = LogFile(path)
        return found


class OutputCapture:
    """Reads a pipe to its end in a thread of its own.

    Args:
        descriptor: Read end of the pipe; owned from here on.
        path: Log file; several components of an extension append to the same.
        label: Says in each line of the file where it comes from.
        clock: Monotonic seconds.
        mask: Takes secrets out of a line.
    """

    def __init__(self, descriptor: int, path: Path, label: str, *, clock: Callable[[], float] = time.monotonic,
                 mask: Callable[[str], str] = str) -> None:
        self._descriptor = descriptor
        self._file = log_file(path)
        self._label = label
        self._mask = mask
        self._clock = clock
        self._budget, self._refilled = float(BURST), clock()
        self._dropped = 0
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._thread = threading.Thread(target=self._run, name="fuseml-output", daemon=True)
        self._thread.start()

    def tail(self, count: int) -> list[str]:
        """The last `count` lines, those that the file did not take included."""
        return list(self._lines)[-count:]

    def wait(self, seconds: float) -> None:
        """Wait until the pipe has ended, so that the last lines are there."""
        self._thread.join(seconds)

    def _run(self) -> None:
        rest = b""
        with os.fdopen(self._descriptor, "rb", buffering=0) as stream:
            while chunk := stream.read(_CHUNK):
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > LINE_LIMIT:
                    lines, rest = [*lines, rest], b""
                self._take(lines)
        self._take([rest] if rest else [], last=True)

    def _take(self, lines: list[bytes], *, last: bool = False) -> None:
        """Write as many of the lines as the rate allows, and say how many it did not."""
        now = self._clock()
        self._budget = min(float(BURST), self._budget + (now - self._refilled) * RATE)
        self._refilled = now
        room = int(self._budget)
        texts = [self._text(raw) for raw in lines[:room]]
        self._lines.extend(texts)
        self._lines.extend(self._text(raw) for raw in lines[room:][-KEPT_LINES:])
        self._budget -= len(texts)
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        if self._dropped and (texts or last):
            texts.insert(0, f"({self._dropped} lines were dropped: more than {RATE} lines in a second)")
            self._dropped = 0
        self._dropped += max(0, len(lines) - room)
        if self._dropped and last:
            texts.append(f"({self._dropped} lines were dropped: more than {RATE} lines in a second)")
        if texts:
            self._file.write(f"{stamp} {self._label} {text}" for text in texts)

    def _text(self, raw: bytes) -> str:
        """A line as it may be shown on any terminal and be kept in a file of lines: no controls, and no secrets."""
        text = _COLOUR.sub("", raw[:2 * LINE_LIMIT].decode("utf-8", "replace").rstrip("\r"))
        return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", self._mask(text)[:LINE_LIMIT])
