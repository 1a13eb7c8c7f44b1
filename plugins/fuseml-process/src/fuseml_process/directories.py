"""The directory of one workload, shared by the agent and the supervisor ("shim").

Only the standard library, and little of it: the supervisor imports this in its first milliseconds.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

FINAL = frozenset({"succeeded", "failed", "cancelled"})


class WorkDirectory:
    """Names of everything inside `work/<workload>/`."""

    __slots__ = ("path",)

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def workload(self) -> Path:
        """The `Workload` as submitted; never changes."""
        return self.path / "workload.json"

    @property
    def settings(self) -> Path:
        """What the agent told the supervisor; never changes."""
        return self.path / "shim.json"

    @property
    def status(self) -> Path:
        """The `WorkloadStatus`, replaced atomically at each change by the holder of the lock."""
        return self.path / "status.json"

    @property
    def lock(self) -> Path:
        """Held exclusively by the supervisor as long as it lives; contains its process id."""
        return self.path / "lock"

    @property
    def cancel(self) -> Path:
        """Exists once the workload shall stop: `{"grace": seconds}`."""
        return self.path / "cancel"

    @property
    def log(self) -> Path:
        """What the workload printed."""
        return self.path / "log"

    @property
    def reserve(self) -> Path:
        """Room on the disk that is kept for the last word about the workload."""
        return self.path / "reserve"

    @property
    def diagnostics(self) -> Path:
        """What the supervisor itself printed; normally empty."""
        return self.path / "shim.log"

    @property
    def metrics(self) -> Path:
        """JSON lines that the workload may write."""
        return self.path / "metrics.jsonl"

    def input(self, name: str) -> Path:
        """Where an input is staged when it cannot be given in place."""
        return self.path / "inputs" / name

    def output(self, name: str) -> Path:
        """Directory or file that the workload fills."""
        return self.path / "outputs" / name

    def info(self, name: str) -> Path:
        """JSON file beside an input or output, named `input-<name>` or `output-<name>`."""
        return self.path / "info" / f"{name}.json"


def read_json(path: Path) -> Any:
    """The value in a JSON file; None if the file is missing or damaged."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def write_json(path: Path, value: Any, *, durable: bool = False) -> None:
    """Replace a JSON file atomically; `durable` waits until it is on disk."""
    temporary = path.parent / f".{path.name}.{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(json.dumps(value).encode())
            stream.flush()
            if durable:
                os.fsync(descriptor)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def try_lock(path: Path) -> int | None:
    """Take a lock file exclusively without waiting; its descriptor, or None if somebody holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
