"""One process writes to a registry's directory; commands that come meanwhile ask it to do their work.

The process holds a lock on `<root>/lock`. A command that finds it held leaves a request in `<root>/requests` and waits
for the answer there; permission to write files in the directory is the authority.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fuseml_sdk.durable import write_durably
from fuseml_sdk.errors import Permanent, Retryable

#: Seconds between looks for a lock or an answer.
POLL = 0.1
#: Seconds after which a request that nobody waits for any more is removed.
STALE = 3600.0


class Ownership:
    """The lock on a registry's directory.

    Args:
        root: The directory.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / "lock"
        self._handle = -1

    def take(self, timeout: float = 0.0) -> bool:
        """Become the process that writes here; False if another one stays for longer than `timeout` seconds."""
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(handle)
                    return False
                time.sleep(POLL)
            else:
                with contextlib.suppress(OSError):  # only for messages; a full disk shall keep no server from starting
                    os.ftruncate(handle, 0)
                    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
                self._handle = handle
                return True

    def holder(self) -> str:
        """Return the process id of the one that holds it, as far as is known."""
        try:
            return self._path.read_text().strip()
        except OSError:
            return ""

    def release(self) -> None:
        """Let others write."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def ask(root: Path, request: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    """Let the process that serves a registry do something, and return its answer.

    Args:
        root: Directory of the registry.
        request: What to do.
        timeout: Seconds to wait.

    Raises:
        Retryable: It does not answer.
        Permanent: It could not do it.
    """
    folder = root / "requests"
    folder.mkdir(mode=0o700, exist_ok=True)
    key = uuid.uuid4().hex
    question, reply = folder / f"{key}.request", folder / f"{key}.answer"
    write_durably(question, json.dumps(dict(request)).encode())
    deadline = time.monotonic() + timeout
    try:
        while not reply.exists():
            if time.monotonic() > deadline:
                raise Retryable(f"the server of {root} has not answered for {timeout:.0f} s",
                                hint="look at its log; it goes on with what it has begun")
            time.sleep(POLL)
        answer: dict[str, Any] = json.loads(reply.read_bytes())
    finally:
        question.unlink(missing_ok=True)
        reply.unlink(missing_ok=True)
    if "error" in answer:
        raise Permanent(str(answer["error"]))
    return answer


def answer_requests(root: Path, work: Callable[[dict[str, Any]], dict[str, Any]]) -> int:
    """Do what commands have asked for; returns how many requests there were."""
    folder, count = root / "requests", 0
    if not folder.is_dir():
        return 0
    for path in sorted(folder.iterdir()):
        with contextlib.suppress(FileNotFoundError):
            if path.suffix == ".request":
                count += 1
                _answer(path, work)
            elif time.time() - path.stat().st_mtime > STALE:
                path.unlink()
    return count


def _answer(path: Path, work: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    try:
        answer = work(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise
    except Exception as error:  # whatever it is, the one who asked shall hear it
        answer = {"error": f"{type(error).__name__}: {error}"}
    path.unlink()  # FileNotFoundError: nobody waits any more
    write_durably(path.with_suffix(".answer"), json.dumps(answer).encode())
