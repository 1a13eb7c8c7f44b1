"""Control groups of plugin processes: what holds a process and everything that it starts to one limit.

Each process gets a group of its own below that of the server, in version 2 or version 1 of cgroups, and the group goes
with the last process in it. See the kernel's documentation of cgroup-v2, cgroup-v1/memory and cgroup-v1/pids, and
https://systemd.io/CGROUP_DELEGATION about who may make groups where.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import signal
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fuseml_core.host.hierarchies import Hierarchy, find
from fuseml_sdk.durable import write_durably

#: Controllers, and the limit that each of them enforces.
CONTROLLERS = {"memory": "memory", "pids": "processes"}
#: Seconds in which what still runs in a group that is left behind mostly ends, and between two looks.
_PATIENCE, _PAUSE = 30.0, 0.25
_V2_MEMORY = ("memory.max", "memory.swap.max")
_V1_MEMORY = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
_V1_PEAK = "memory.max_usage_in_bytes"
#: Bytes below a limit at which the kernel may find that nothing fits any more: memory is counted in batches.
_BATCH = 1 << 20
#: How often the processes of a group are looked for and killed, where the kernel does not kill a group as a whole.
_ROUNDS = 50


@dataclass(frozen=True)
class Events:
    """What happened in a group.

    Attributes:
        killed: Processes that the kernel ended for want of memory.
        full: Whether its own limit of memory was reached.
        refused: How often it was refused another process.
    """

    killed: int = 0
    full: bool = False
    refused: int = 0


class Group:
    """The control group of one process.

    Args:
        folders: By controller; in version 2 all are the same.
        groups: Takes it back.
    """

    def __init__(self, folders: Mapping[str, Path], groups: ControlGroups) -> None:
        self._by_controller, self._groups = dict(folders), groups
        self.folders = tuple(dict.fromkeys(folders.values()))

    def events(self) -> Events:
        """What happened in it until now."""
        memory, pids = self._by_controller.get("memory"), self._by_controller.get("pids")
        killed = full = refused = 0
        if memory is not None:
            version_2 = _numbers(memory / "memory.events")
            killed = version_2.get("oom_kill", 0) or _numbers(memory / "memory.oom_control").get("oom_kill", 0)
            # Version 1 counts no failures that a kill has followed, but how much there ever was.
            full = _numbers(memory / "memory.events.local").get("oom", 0) or (
                _number(memory / _V1_PEAK) >= _number(memory / _V1_MEMORY[0]) - _BATCH > 0)
        if pids is not None:
            refused = _numbers(pids / "pids.events").get("max", 0)
        return Events(killed, bool(full), refused)

    def end(self) -> None:
        """Kill what still runs in it: what a process has started, wherever it went, and left behind."""
        for folder in self.folders:
            with contextlib.suppress(OSError):  # version 1, and kernels before 5.14, have no such file
                (folder / "cgroup.kill").write_text("1")
                continue
            for _ in range(_ROUNDS):  # what is being forked meanwhile is met in the next one
                left = _numbers_in(folder / "cgroup.procs")
                if not left:
                    break
                for pid in left:
                    with contextlib.suppress(OSError):
                        os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """Remove it, now or when what the process has started and left behind has ended."""
        self._groups.retire(self.folders)


class ControlGroups:
    """Makes groups for the processes of one server.

    Args:
        tag: Tells the groups of this server from those of others.
        remembered: File that keeps where groups were made: a server that was killed and is started elsewhere, such as
            in another session, finds them by it.
    """

    def __init__(self, tag: str, remembered: Path) -> None:
        self._name, self._remembered = f"fuseml-{tag}", remembered
        self._lock = threading.RLock()
        self._active: set[Path] = set()
        self._left: set[Path] = set()
        self._sweeping = False
        self._found: dict[str, Hierarchy | str] = {}

    def by(self, limit: str) -> tuple[str, str]:
        """What enforces a limit.

        Args:
            limit: `memory` or `processes`; of others nothing does.

        Returns:
            Such as `cgroup v2`, else empty; and why nothing does.
        """
        for controller, name in CONTROLLERS.items():
            if name == limit:
                found = self._hierarchies()[controller]
                return ("", found) if isinstance(found, str) else (f"cgroup v{found.version}", "")
        return "", "control groups know no such limit"

    def make(self, values: Mapping[str, int]) -> Group | None:
        """A group with limits.

        Args:
            values: `memory` in bytes, `processes`; those that are 0 or cannot be enforced are passed over.

        Returns:
            None if there is nothing to enforce.

        Raises:
            OSError: It cannot be made.
        """
        wanted = {controller: values[name] for controller, name in CONTROLLERS.items()
                  if values.get(name) and self.by(name)[0]}
        if not wanted:
            return None
        name = secrets.token_hex(6)
        with self._lock:
            if not self._active:
                self.clean()
            folders = {controller: self._base(controller) / name for controller in wanted}
            self._active.update(folders.values())
            try:
                for controller, folder in folders.items():
                    folder.mkdir(exist_ok=True)
                    _limit(controller, folder, wanted[controller])
            except OSError:
                self.retire(folders.values())
                raise
        return Group(folders, self)

    def retire(self, folders: Iterable[Path]) -> None:
        """Remove groups; those in which something runs still are removed when it has ended."""
        with self._lock:
            self._active.difference_update(folders)
            self._left.update(folder for folder in folders if not _remove(folder))
            self._drop_bases()
            self._begin_sweeping()

    def clean(self) -> None:
        """At start: remove what a server that was killed left behind. What still runs there keeps its limits."""
        with self._lock:
            for base in self._bases():
                with contextlib.suppress(OSError):
                    self._left.update(path for path in base.iterdir() if path.is_dir() and path not in self._active)
            self._left = {folder for folder in self._left if not _remove(folder)}
            self._drop_bases()
            self._begin_sweeping()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _hierarchies(self) -> dict[str, Hierarchy | str]:
        with self._lock:
            if not self._found:
                self._found = {controller: self._tried(found) for controller, found in find(tuple(CONTROLLERS)).items()}
                self._drop_bases()
            return self._found

    def _tried(self, found: list[Hierarchy] | str) -> Hierarchy | str:
        """The first place where a group can be made in earnest, or why there is none."""
        if isinstance(found, str):
            return found
        why = ""
        for hierarchy in found:
            try:
                self._open(hierarchy)
            except OSError as error:
                why = why or _explained(error, hierarchy)
            else:
                return hierarchy
        return why

    def _base(self, controller: str) -> Path:
        hierarchy = self._hierarchies()[controller]
        assert isinstance(hierarchy, Hierarchy)
        return self._open(hierarchy)

    def _open(self, hierarchy: Hierarchy) -> Path:
        """The folder that holds the groups of this server, made if it is not there."""
        base = hierarchy.folder / self._name
        if hierarchy.version == 2:
            _delegate(hierarchy.folder)
        if not base.is_dir():
            self._remember(base)
            base.mkdir()
        if hierarchy.version == 2:
            _delegate(base)
        return base

    def _remember(self, base: Path) -> None:
        known = self._bases()
        if base not in known:
            self._remembered.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Places that are gone, such as sessions that ended, need not be looked at again.
            kept = [path for path in known if path.is_dir()]
            write_durably(self._remembered, "".join(f"{path}\n" for path in [*kept, base]).encode())

    def _bases(self) -> list[Path]:
        try:
            lines = self._remembered.read_text("utf-8").splitlines()
        except OSError:
            return []
        return [Path(line) for line in lines if line.startswith("/") and line.endswith(f"/{self._name}")]

    def _drop_bases(self) -> None:
        for base in self._bases():
            if not any(folder.parent == base for folder in self._active):
                _remove(base)

    def _begin_sweeping(self) -> None:
        if self._left and not self._sweeping:
            self._sweeping = True
            threading.Thread(target=self._sweep, name="fuseml-groups", daemon=True).start()

    def _sweep(self) -> None:
        pause, looks = threading.Event(), int(_PATIENCE / _PAUSE)
        for _ in range(looks):
            pause.wait(_PAUSE)
            with self._lock:
                self._left = {folder for folder in self._left if not _remove(folder)}
                self._drop_bases()
                if not self._left:
                    break
        with self._lock:
            # What runs on is a workload that outlives its agent; the next group or start looks again.
            self._sweeping = False


def _limit(controller: str, folder: Path, value: int) -> None:
    if controller == "pids":
        (folder / "pids.max").write_text(str(value))
        return
    version_2 = (folder / "memory.max").exists()
    memory, swap = _V2_MEMORY if version_2 else _V1_MEMORY
    (folder / memory).write_text(str(value))
    with contextlib.suppress(OSError):  # a kernel that does not count swap has no such file
        if (folder / swap).exists():
            (folder / swap).write_text("0" if version_2 else str(value))


def _delegate(folder: Path) -> None:
    """Let groups below a folder of version 2 have limits."""
    control = folder / "cgroup.subtree_control"
    given = set((folder / "cgroup.controllers").read_text("ascii").split())
    lacking = given & set(CONTROLLERS) - set(control.read_text("ascii").split())
    if lacking:
        control.write_text(" ".join(f"+{controller}" for controller in sorted(lacking)))


def _explained(error: OSError, hierarchy: Hierarchy) -> str:
    if error.errno == errno.EBUSY:
        return (f"the server's control group {hierarchy.folder} holds processes itself; run it as a service of systemd "
                "with Delegate=yes and DelegateSubgroup=server")
    why = os.strerror(error.errno) if error.errno else str(error)
    return f"the server may make no control groups in {hierarchy.folder} ({why}); systemd lets it with Delegate=yes"


def _remove(folder: Path) -> bool:
    """Remove a group; False if something runs in it."""
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _numbers(path: Path) -> dict[str, int]:
    with contextlib.suppress(OSError):
        pairs = (line.split() for line in path.read_text("ascii", "replace").splitlines())
        return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
    return {}


def _numbers_in(path: Path) -> list[int]:
    with contextlib.suppress(OSError, ValueError):
        return [int(line) for line in path.read_text("ascii").split()]
    return []


def _number(path: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text("ascii"))
    return 0
