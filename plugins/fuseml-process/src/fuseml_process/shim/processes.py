"""The process tree below the supervisor: adopting it, measuring it, ending all of it."""

from __future__ import annotations

# Plain calls, because /proc is read twice a second for every workload.
# ruff: noqa: PTH123, PTH208
import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterable

_SET_PARENT_DEATH_SIGNAL, _SET_CHILD_SUBREAPER = 1, 36
_PAGE = os.sysconf("SC_PAGE_SIZE")
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def adopt_orphans() -> None:
    """Make processes whose parent has ended children of this one, so that a double fork hides nobody."""
    if _libc is not None:
        _libc.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends, however that happens."""
    if _libc is not None:
        _libc.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)


def descendants(pid: int) -> list[int]:
    """All processes below `pid`, parents before children. Empty where there is no /proc."""
    children = _children_of_all()
    found, queue = [], [pid]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def _children_of_all() -> dict[int, list[int]]:
    tree: dict[int, list[int]] = {}
    try:
        names = os.listdir("/proc")
    except OSError:
        return tree
    for name in names:
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb", buffering=0) as stream:
                fields = stream.read(512).rpartition(b")")[2].split()
        except OSError:
            continue
        if len(fields) > 1:
            tree.setdefault(int(fields[1]), []).append(int(name))
    return tree


def resident_bytes(pids: Iterable[int]) -> int:
    """Memory of processes; pages that they share count once for each."""
    return sum(_field(f"/proc/{pid}/statm", 1) * _PAGE for pid in pids)


def proportional_bytes(pids: Iterable[int]) -> int:
    """Memory of processes; shared pages are divided among their users. Slower, exact."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup", "rb") as stream:
                line = next((row for row in stream if row.startswith(b"Pss:")), b"Pss: 0 kB")
            total += int(line.split()[1]) << 10
        except (OSError, ValueError):
            continue
    return total


def kernel_kills() -> int:
    """How often the kernel has killed for want of memory since it started."""
    try:
        with open("/proc/vmstat", "rb") as stream:
            return next((int(row.split()[1]) for row in stream if row.startswith(b"oom_kill ")), 0)
    except (OSError, ValueError):
        return 0


def signal_tree(leader: int | None, number: int) -> None:
    """Send a signal to everything below this process; without /proc, to the leader's process group."""
    for target in descendants(os.getpid()) or ([-leader] if leader else []):
        try:
            os.kill(target, number)
        except (ProcessLookupError, PermissionError):
            continue


def end_tree(leader: int | None, patience: float = 5.0) -> None:
    """Kill everything below this process and collect it, however often it forks meanwhile."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            return
        signal_tree(leader, signal.SIGKILL)
        time.sleep(0.002)


def _field(path: str, number: int) -> int:
    try:
        with open(path, "rb", buffering=0) as stream:
            return int(stream.read(256).split()[number])
    except (OSError, ValueError, IndexError):
        return 0
