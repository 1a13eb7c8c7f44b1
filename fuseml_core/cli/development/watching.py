"""Notices that files of a project have changed, by looking: a project has few, and any file system can be read."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

#: Folders that hold no source.
_NOT_SOURCE = frozenset({"__pycache__", "node_modules", "build", "dist", "wheels", "tests"})
#: Seconds between two looks, and how much longer a look at many files makes the pause.
_PAUSE, _SHARE = 0.05, 10.0
#: Seconds without a change after which files are whole; the same while they are saved again and again, and for how long
#: at most that is waited for.
QUIET, BUSY, STORM = 0.025, 0.3, 3.0
Seen = dict[Path, tuple[int, int]]


class Watch:
    """The files below some folders, as they were when they were last looked at.

    Args:
        paths: Folders and single files. Hidden folders, tests and what tools make are passed over.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = list(paths)
        self._seen = self._look()

    @property
    def changed(self) -> bool:
        """Whether something has changed that was not waited for yet."""
        return self._look() != self._seen

    def wait(self, stop: Callable[[], bool], quiet: float = QUIET) -> list[Path]:
        """Wait until files have changed and then been left alone for a moment.

        Args:
            stop: Asked between two looks; when it says so, the waiting ends.
            quiet: Seconds that they have to be left alone, at most :data:`STORM` in all.

        Returns:
            What was changed, added or removed; nothing when told to stop.
        """
        while not stop():
            started = time.monotonic()
            now = self._look()
            if now != self._seen:
                return self._settled(now, quiet)
            time.sleep(max(_PAUSE, (time.monotonic() - started) * _SHARE))
        return []

    def _settled(self, now: Seen, quiet: float) -> list[Path]:
        """Editors write several files, or one in two steps: go on when two looks see the same."""
        before, end = self._seen, time.monotonic() + STORM
        while True:
            time.sleep(quiet)
            again = self._look()
            if again == now or time.monotonic() > end:
                break
            now = again
        now = again
        self._seen = now
        changed = [path for path in before.keys() | now.keys() if before.get(path) != now.get(path)]
        for path in changed:
            forget_byte_code(path)
        return sorted(changed)

    def _look(self) -> Seen:
        found: Seen = {}
        for path in self._paths:
            for file in _files(path):
                with suppress(OSError):  # gone between the listing and the look
                    facts = file.stat()
                    found[file] = (facts.st_mtime_ns, facts.st_size)
        return found


def forget_byte_code(source: Path) -> None:
    """Remove the byte code of a module: Python would take it for that of a file of the same size and second."""
    if source.suffix == ".py":
        for path in (source.parent / "__pycache__").glob(f"{source.stem}.*.pyc"):
            path.unlink(missing_ok=True)


def _files(path: Path) -> Iterable[Path]:
    if path.is_file():
        yield path
    for folder, below, files in os.walk(path):
        below[:] = [name for name in below if name not in _NOT_SOURCE and not name.startswith(".")
                    and not name.endswith(".egg-info")]
        yield from (Path(folder, name) for name in files
                    if not name.startswith(".") and not name.endswith((".pyc", "~")))
