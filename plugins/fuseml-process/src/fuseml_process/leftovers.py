"""What remains of a workload whose supervisor was killed: processes to end, a status to write."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from fuseml_process.directories import FINAL, WorkDirectory, read_json, try_lock, write_json

_NEVER_STARTED = "the supervisor did not start; see shim.log in its directory and the server's log"
_LOST = ("the supervisor of this workload ended without reporting: it was killed, or the machine restarted; "
         "run the step again")


#: Asking takes the lock for an instant; two threads that ask must not mistake each other for a supervisor.
_asking = threading.Lock()


def supervised(directory: WorkDirectory) -> bool:
    """Whether a supervisor holds the lock of the directory."""
    with _asking:
        try:
            held = try_lock(directory.lock)
        except FileNotFoundError:
            return False  # collected meanwhile
        if held is None:
            return True
        os.close(held)
        return False


def declare_lost(directory: WorkDirectory, *, cancelled: bool = False, started: bool = True) -> dict[str, Any] | None:
    """End what is left of a workload without a supervisor and write its final status.

    Args:
        directory: Of the workload.
        cancelled: Somebody asked to stop it, so that is how it ended.
        started: Whether a supervisor ever ran.

    Returns:
        The final status; None if a supervisor is alive after all.
    """
    with _asking:
        held = try_lock(directory.lock)
    if held is None:
        return None
    try:
        status = read_json(directory.status) or {"name": directory.path.name}
        if status.get("state") in FINAL:
            return dict(status)
        end_processes(directory)
        status |= {"state": "failed", "reason": "Lost", "message": _LOST if started else _NEVER_STARTED}
        if cancelled:
            status |= {"state": "cancelled", "reason": "Cancelled", "message": "stopped on request"}
        status |= {"phase": "", "endpoint": None, "ended_at": time.time(), "log_tail": _tail(directory)}
        with suppress(OSError):  # on a full disk the answer stands, and is written when there is room
            write_json(directory.status, status, durable=True)
        return dict(status)
    finally:
        os.close(held)


def end_processes(directory: WorkDirectory) -> None:
    """Kill every process that carries the directory in its environment; they lost the parent that would do so."""
    mark = f"FUSEML_METRICS={directory.metrics}".encode()
    for _attempt in range(20):
        found = [pid for pid in _processes() if mark in _environ(pid)]
        if not found:
            return
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue
        time.sleep(0.01)


def _processes() -> list[int]:
    try:
        names = [path.name for path in Path("/proc").iterdir()]
        return [int(name) for name in names if name.isdigit() and int(name) != os.getpid()]
    except OSError:
        return []


def _environ(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _tail(directory: WorkDirectory) -> list[str]:
    try:
        with directory.log.open("rb") as stream:
            stream.seek(max(0, directory.log.stat().st_size - (32 << 10)))
            return stream.read().decode(errors="replace").splitlines()[-20:]
    except OSError:
        return []
