"""What is remembered of plugin processes that failed."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

#: Reports shown of a component, and the most that a file keeps of all components of an extension.
SHOWN, KEPT = 10, 100
#: Bytes that are read of a file, whatever it has become.
MAX_FILE = 8 * 1024 * 1024
OUT_OF_MEMORY = "out of memory"
#: Counts the processes of the machine that the kernel ended for want of memory.
_MACHINE = Path("/proc/vmstat")
#: Seconds between two looks at the counters while a process is called.
_LOOK = 1.0
#: Several components of an extension share a file; crashes are rare enough for one lock.
_lock = threading.Lock()


@dataclass(frozen=True)
class CrashReport:
    """One crash or failed start.

    Attributes:
        at: When, in seconds since the epoch.
        cause: `exit code N`, `signal NAME`, `out of memory` or `did not start`.
        hook: Hook that was being served; several are separated by `, `; empty if none was.
        call_id: Its call, or theirs.
        output: The last lines that the process wrote.
        ran_for: Seconds that it ran.
        component: `family/name` within the extension.
        version: Of the extension.
        detail: What else is known, such as why it did not start, or how the memory ended.
    """

    at: float
    cause: str
    hook: str = ""
    call_id: str = ""
    output: tuple[str, ...] = ()
    ran_for: float = 0.0
    component: str = ""
    version: str = ""
    detail: str = ""

    def text(self) -> str:
        """For people: the cause, and the last output below it."""
        head = f"{self.cause} ({self.detail})" if self.detail else self.cause
        shown = "; last output:\n" + "\n".join(f"  {line}" for line in self.output) if self.output else (
            "; it wrote nothing")
        return f"{head} after {self.ran_for:.1f} s{shown}"


class CrashLog:
    """The crash reports of an extension, in a file beside its log: one JSON object a line.

    Args:
        path: Of the file; made with the first report.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, deque[CrashReport]] = {}

    def add(self, report: CrashReport) -> None:
        """Append a report, and drop the oldest when there are many. A full disk loses it."""
        line = json.dumps({**asdict(report), "output": [text[:500] for text in report.output]})
        self._reports(report.component).append(report)
        try:
            with _lock:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                lines = self._lines()
                if len(lines) < 2 * KEPT:
                    with self._path.open("a", encoding="utf-8") as file:
                        file.write(line + "\n")
                    return
                new = self._path.with_name(self._path.name + ".new")
                new.write_text("\n".join([*lines[-KEPT:], line]) + "\n", encoding="utf-8")
                new.replace(self._path)
        except OSError:
            return

    def of(self, component: str) -> tuple[CrashReport, ...]:
        """The last reports of a component, newest last; lines that cannot be read are passed over.

        Args:
            component: `family/name`.
        """
        return tuple(self._reports(component))

    def _reports(self, component: str) -> deque[CrashReport]:
        """Read from the file once: asking about a component must cost nothing."""
        if component not in self._known:
            with _lock:
                found = (_report(line) for line in self._lines())
                mine = (each for each in found if each is not None and each.component == component)
                self._known[component] = deque(mine, maxlen=SHOWN)
        return self._known[component]

    def _lines(self) -> list[str]:
        try:
            with self._path.open("rb") as file:
                # Not splitlines(): what a plugin wrote may hold characters that count as ends of lines there.
                return file.read(MAX_FILE).decode("utf-8", "replace").removesuffix("\n").split("\n")
        except OSError:
            return []


def _report(line: str) -> CrashReport | None:
    try:
        known = {field.name for field in fields(CrashReport)}
        document = {key: value for key, value in json.loads(line).items() if key in known}
        return CrashReport(**{**document, "output": tuple(document.get("output") or ())})
    except (ValueError, TypeError, AttributeError):
        return None


class KernelKills:
    """Tells afterwards whether the kernel ended a process for want of memory.

    The control group that the process is in counts such kills, whether the group or the machine ran out. Where no
    group counts, the machine does. See the kernel's documents cgroup-v2 and cgroup-v1/memory.

    Args:
        pid: Of a process that runs.
        clock: Monotonic seconds.
    """

    def __init__(self, pid: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._pid, self._clock = pid, clock
        self._looking = threading.Lock()
        self._at = clock()
        self._before = self._now = _kills_around(pid)

    def look(self) -> None:
        """Note where it is and what was counted by now, once in a while: others are killed, and it may be moved."""
        if self._clock() - self._at < _LOOK or not self._looking.acquire(blocking=False):
            return
        try:
            # Compared with the look before: what is counted at this very moment may be its own end.
            self._before, self._now, self._at = self._now, _kills_around(self._pid), self._clock()
        finally:
            self._looking.release()

    def any_since(self) -> bool:
        """Whether there was one lately; to be asked when it has ended."""
        return any((_kills(path) or 0) > self._before.get(path, count) for path, count in self._now.items())


def _kills_around(pid: int) -> dict[Path, int]:
    found = {path: count for path in _memory_groups(pid) if (count := _kills(path)) is not None}
    return found or {_MACHINE: _kills(_MACHINE) or 0}


def _kills(counters: Path) -> int | None:
    try:
        for line in counters.read_text("ascii", "replace").splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill" and value.strip().isdigit():
                return int(value)
    except OSError:
        pass
    return None


def _memory_groups(pid: int) -> list[Path]:
    """Files that count the kills in the control groups of a process."""
    try:
        groups = Path(f"/proc/{pid}/cgroup").read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
    paths: list[Path] = []
    for line in groups:
        _, controllers, group = (*line.split(":", 2), "", "")[:3]
        place = group.lstrip("/")
        if not controllers:
            paths += [root / place / "memory.events"
                      for root in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))]
        elif "memory" in controllers.split(","):
            paths.append(Path("/sys/fs/cgroup/memory") / place / "memory.oom_control")
    return paths


def cause_of(code: int, output: tuple[str, ...], *, killed_by_kernel: bool) -> tuple[str, str]:
    """Tell why a process ended.

    Args:
        code: Exit code, or the negative number of a signal.
        output: Its last lines.
        killed_by_kernel: Whether the kernel ended it for want of memory, if it was a kill; see :class:`KernelKills`.

    Returns:
        `cause` and `detail` of a :class:`CrashReport`.
    """
    how = f"exit code {code}" if code >= 0 else f"signal {_name(-code)}"
    starved = any(line.startswith(("MemoryError", "Fatal Python error: _PyErr_NoMemory")) or "std::bad_alloc" in line
                  or "Cannot allocate memory" in line for line in output[-20:])
    if (code == -9 and killed_by_kernel) or (code != 0 and starved):
        return OUT_OF_MEMORY, how
    return how, ""


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
