"""The process agent: jobs and services as local processes, each under a supervisor of its own."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

from fuseml_process.admission import check_possible, check_room, count_gpus
from fuseml_process.changes import Bell, Changes, wait_for_change
from fuseml_process.configuration import Configuration
from fuseml_process.directories import FINAL, WorkDirectory, read_json, write_json
from fuseml_process.launching import collect_children, make_directory, start_supervisor
from fuseml_process.leftovers import declare_lost, supervised
from fuseml_process.shim.staging import SCHEMES
from fuseml_sdk.errors import InvalidInput, NotFound
from fuseml_sdk.types import AgentDescription, LogChunk, Workload, WorkloadEvents, WorkloadStatus

#: Seconds after which a supervisor that has shown no sign of life is started again, and given up.
_START_AGAIN, _GIVE_UP = 10.0, 60.0
_LONGEST_WAIT = 30.0
#: Characters of a workload's name, as the contract says.
LONGEST_NAME = 63


class ProcessAgent:
    """Keeps no state of its own: everything lies in the work directories, so a new instance goes on at once.

    Args:
        configuration: See :class:`Configuration`.
    """

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        # Who asks for room may be the one who finds that a supervisor has to be started again.
        self._admission = threading.RLock()
        self._started: dict[str, float] = {}
        self._final: dict[str, WorkloadStatus] = {}
        self._workloads: dict[str, Workload] = {}
        self._changes = Changes()
        configuration.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._remove_half_made()
        _make_private(configuration.sockets)
        try:
            self._bell: Bell | None = Bell(configuration.notify)
        except OSError:
            self._bell = None  # looking every half second does as well

    def describe(self) -> AgentDescription:
        """What this machine can run."""
        limits = self._configuration
        capacity = {"cpu": float(os.cpu_count() or 1), "memory": float(limits.memory), "gpu": float(count_gpus()),
                    "jobs": float(limits.jobs), "services": float(limits.services)}
        return AgentDescription(name="process", kinds=["job", "service"], environments=["python"],
                                schemes=list(SCHEMES), capabilities=dict(limits.capabilities), capacity=capacity)

    def submit(self, workload: Workload) -> WorkloadStatus:
        """Start a workload, once."""
        with self._admission:
            directory = self._directory(workload.name)
            fresh = not directory.workload.exists()
            if fresh:
                check_possible(workload, self._configuration)
                check_room(workload, self._running(), self._configuration)
                make_directory(workload, self._configuration)
            if not directory.status.exists() and (fresh or not supervised(directory)):
                self._started[workload.name] = time.monotonic()
                start_supervisor(directory, self._configuration)
        if self._bell is not None:
            self._bell.ring()
        return self._status(workload.name)

    def status(self, names: list[str]) -> list[WorkloadStatus]:
        """The state of each workload."""
        collect_children()
        return [self._status(name) for name in names]

    def events(self, cursor: str, wait: float) -> WorkloadEvents:
        """What changed since `cursor`."""
        following = cursor

        def look() -> list[str]:
            nonlocal following
            collect_children()
            self._changes.note({name: self._mark(name) for name in self._names()})
            names, following = self._changes.since(cursor)
            return names

        names = wait_for_change(look, self._bell, min(wait, _LONGEST_WAIT))
        statuses = [status for status in map(self._status, names) if status.state != "unknown"]
        return WorkloadEvents(statuses=statuses, cursor=following)

    def logs(self, name: str, cursor: str, limit: int) -> LogChunk:
        """A piece of the log; the cursor is a number of bytes."""
        directory = self._directory(name)
        if not directory.workload.exists():
            raise NotFound(f"there is no workload {name}", hint="It was never submitted, or was collected.")
        if cursor and not cursor.isdigit():
            raise InvalidInput(f"{cursor!r} is not a cursor of this log", hint="Start with an empty one.")
        ended = self._status(name).state in FINAL
        start = int(cursor or 0)
        try:
            with directory.log.open("rb") as stream:
                stream.seek(start)
                block = stream.read(max(4, limit))
                rest = bool(stream.read(1))
        except FileNotFoundError:
            block, rest = b"", False
        whole = block if ended and not rest else _whole_characters(block)
        return LogChunk(text=whole.decode(errors="replace"), cursor=str(start + len(whole)), complete=ended and not rest
                        and len(whole) == len(block))

    def cancel(self, name: str, grace: float) -> WorkloadStatus:
        """Stop a workload."""
        directory = self._directory(name)
        status = self._status(name)
        if status.state in FINAL or not directory.workload.exists():
            return status
        if not directory.cancel.exists():
            with suppress(OSError):  # on a full disk the signal has to do
                write_json(directory.cancel, {"grace": max(0.0, grace)})
        if not supervised(directory):
            declare_lost(directory, cancelled=True)
        else:
            _tell_supervisor(directory)
        if self._bell is not None:
            self._bell.ring()
        return self._status(name)

    def collect(self, name: str) -> bool:
        """Forget an ended workload and everything it left, its outputs and log included."""
        directory = self._directory(name)
        if not directory.path.exists():
            return False
        if self._status(name).state not in FINAL:
            raise InvalidInput(f"the workload {name} has not ended", hint="Cancel it first.")
        # Away in one step, so that nobody ever sees half a workload.
        grave = self._configuration.root / f".gone-{name}-{time.monotonic_ns()}"
        try:
            directory.path.rename(grave)
        except FileNotFoundError:
            return False
        for memory in (self._final, self._workloads, self._started):
            memory.pop(name, None)
        shutil.rmtree(grave, ignore_errors=True)
        return True

    def close(self) -> None:
        """Let go of the socket; workloads run on."""
        collect_children()
        if self._bell is not None:
            self._bell.close()

    def _status(self, name: str) -> WorkloadStatus:
        if name in self._final:
            return self._final[name]
        directory = self._directory(name)
        if not directory.workload.exists():
            return WorkloadStatus(name=name, state="unknown")
        alive = supervised(directory)  # asked before reading: a supervisor reports before it lets go
        values = read_json(directory.status)
        if values is None:
            values = {"name": name, "state": "pending"} if alive else self._silent(directory)
        elif values["state"] not in FINAL and not alive:
            values = declare_lost(directory, cancelled=directory.cancel.exists()) or values
        status = WorkloadStatus.model_validate(values)
        if status.state in FINAL:
            self._final[name] = status
        return status

    def _silent(self, directory: WorkDirectory) -> dict[str, object]:
        """Submitted, and no supervisor has shown itself: it is starting, or the server died before starting it."""
        name = directory.path.name
        since = time.monotonic() - self._started.setdefault(name, time.monotonic())
        age = time.time() - directory.workload.stat().st_mtime
        if directory.cancel.exists() or since > _GIVE_UP:
            lost = declare_lost(directory, cancelled=directory.cancel.exists(), started=False)
            if lost is not None:
                return lost
        elif age > _START_AGAIN and since % _START_AGAIN < 1.0 and self._admission.acquire(blocking=False):
            try:
                start_supervisor(directory, self._configuration)
            finally:
                self._admission.release()
        return {"name": name, "state": "pending", "phase": "starting the supervisor"}

    def _mark(self, name: str) -> object:
        """Something that differs whenever the status of a workload does."""
        if name in self._final:
            return "final"
        status = self._status(name)
        return "final" if status.state in FINAL else status.model_dump_json()

    def _running(self) -> list[Workload]:
        return [workload for name in self._names() if self._status(name).state not in FINAL
                and (workload := self._workload(name)) is not None]

    def _workload(self, name: str) -> Workload | None:
        if name not in self._workloads:
            values = read_json(self._directory(name).workload)
            if values is None:
                return None
            self._workloads[name] = Workload.model_validate(values)
        return self._workloads[name]

    def _names(self) -> list[str]:
        return [path.name for path in self._configuration.root.iterdir() if not path.name.startswith(".")]

    def _directory(self, name: str) -> WorkDirectory:
        if not name or "/" in name or "\0" in name or name.startswith(".") or len(name) > LONGEST_NAME:
            raise InvalidInput(f"{name!r} is not the name of a workload")
        return WorkDirectory(self._configuration.root / name)

    def _remove_half_made(self) -> None:
        """Directories that a process which was killed left half made or half removed."""
        for path in self._configuration.root.iterdir():
            if path.name.startswith(".gone-") or (path.name.startswith(".new-") and _age(path) > 60):
                shutil.rmtree(path, ignore_errors=True)


def _tell_supervisor(directory: WorkDirectory) -> None:
    """Signal the supervisor; one that hears nothing looks for the request every second."""
    try:
        pid = int(directory.lock.read_text())
        descriptor = os.pidfd_open(pid)
    except (OSError, ValueError, AttributeError):
        return
    try:
        if supervised(directory):  # so the process behind the descriptor is the supervisor
            signal.pidfd_send_signal(descriptor, signal.SIGTERM)
    except ProcessLookupError:
        pass
    finally:
        os.close(descriptor)


def _make_private(folder: Path) -> None:
    """Make the directory of sockets; one in a shared place that belongs to somebody else is not used."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if folder.stat().st_uid != os.getuid():
        raise InvalidInput(f"the directory {folder} belongs to another user", hint="Set XDG_RUNTIME_DIR.")
    folder.chmod(0o700)


def _whole_characters(block: bytes) -> bytes:
    """Without the beginning of a UTF-8 character at the end."""
    for back in range(1, min(4, len(block)) + 1):
        byte = block[-back]
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return block[:-back] if back < length else block
        if byte < 0x80:
            break
    return block


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0
