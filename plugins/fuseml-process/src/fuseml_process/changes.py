"""Noticing that workloads have changed: by datagram at once, by looking every half second otherwise."""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

_LOOK_INTERVAL = 0.5


class Bell:
    """A datagram socket on which supervisors ring; wakes every waiting thread.

    Args:
        path: Of the Unix socket; one that a former process left behind is replaced.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._condition = threading.Condition()
        self._rings = 0
        self._closed = False
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._inode = path.stat().st_ino
        self._thread = threading.Thread(target=self._listen, name="fuseml-process-bell", daemon=True)
        self._thread.start()

    @property
    def rings(self) -> int:
        """How often it rang; pass it to :meth:`wait` to miss none."""
        return self._rings

    def ring(self) -> None:
        """Wake the waiting threads from inside."""
        with self._condition:
            self._rings += 1
            self._condition.notify_all()

    def wait(self, heard: int, patience: float) -> None:
        """Wait until it has rung since `heard`, at most `patience` seconds."""
        with self._condition:
            self._condition.wait_for(lambda: self._rings != heard or self._closed, patience)

    def close(self) -> None:
        """Stop listening; remove the socket unless another process has replaced it."""
        self._closed = True
        self._socket.shutdown(socket.SHUT_RDWR)
        self.ring()
        self._thread.join(timeout=5)
        self._socket.close()
        try:
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()
        except OSError:
            return

    def _listen(self) -> None:
        while not self._closed:
            try:
                self._socket.recv(256)
            except OSError:
                return
            self.ring()


class Changes:
    """Numbers the changes of workloads, so that a cursor says which the caller has seen.

    A cursor is `<life>:<number>`. Numbers start anew with each process; a cursor of a former life is answered
    with everything there is, so nothing is ever missed.
    """

    def __init__(self) -> None:
        self._life = uuid.uuid4().hex[:12]
        self._lock = threading.Lock()
        self._number = 0
        self._seen: dict[str, tuple[object, int]] = {}

    def note(self, marks: dict[str, object]) -> None:
        """Take the present marks of all workloads; a mark that differs from the one before is a change."""
        with self._lock:
            for gone in self._seen.keys() - marks.keys():
                del self._seen[gone]
            for name, mark in sorted(marks.items()):
                if name not in self._seen or self._seen[name][0] != mark:
                    self._number += 1
                    self._seen[name] = (mark, self._number)

    def since(self, cursor: str) -> tuple[list[str], str]:
        """Names that changed after `cursor`, in the order of their last change, and the cursor that follows."""
        life, _, number = cursor.partition(":")
        after = int(number) if life == self._life and number.isdigit() else 0
        with self._lock:
            later = sorted((at, name) for name, (_mark, at) in self._seen.items() if at > after)
            return [name for _at, name in later], f"{self._life}:{self._number}"


def wait_for_change(look: Callable[[], list[str]], bell: Bell | None, wait: float) -> list[str]:
    """Call `look` until it finds something or `wait` seconds have passed."""
    deadline = time.monotonic() + wait
    while True:
        heard = bell.rings if bell is not None else 0
        found = look()
        left = deadline - time.monotonic()
        if found or left <= 0:
            return found
        pause = min(left, _LOOK_INTERVAL)
        if bell is not None:
            bell.wait(heard, pause)
        else:
            time.sleep(pause)
