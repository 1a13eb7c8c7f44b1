"""Locks that a process holds while it lives, with its process id inside: flock(2) ends with the process."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from fuseml_core.domain.errors import Conflict

POLL = 0.02


class ProcessLock:
    """An exclusive lock on a file, freed by :meth:`release` or by the end of the process, however it ends.

    Args:
        path: The lock file; it stays when the lock is freed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle = -1

    def acquire(self, timeout: float = 0.0) -> None:
        """Take the lock, waiting up to `timeout` seconds for its holder to end.

        Raises:
            Conflict: Another process holds it; the message names the process id.
        """
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        until = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    pid = _pid(handle)
                    os.close(handle)
                    raise Conflict(f"{self.path} is held by process {pid}", details={"pid": pid}) from None
            time.sleep(POLL)
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        self._handle = handle

    def release(self) -> None:
        """Free the lock."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def holder(path: Path) -> int | None:
    """Return the process id that holds a lock; None when nobody does."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _pid(handle)
    else:
        return None
    finally:
        os.close(handle)


def _pid(handle: int) -> int:
    """Process id in a lock file; 0 in the instant before its holder has written it."""
    text = os.pread(handle, 32, 0)
    return int(text) if text.isdigit() else 0
