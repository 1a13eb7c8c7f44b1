"""What is remembered of plugin processes that failed."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import deque
from dataclasses import asdict, dataclass, fields
from pathlib import Path

#: Reports shown of a component, and the most that a file keeps of all components of an extension.
SHOWN, KEPT = 10, 100
#: Bytes that are read of a file, whatever it has become.
MAX_FILE = 8 * 1024 * 1024
OUT_OF_MEMORY = "out of memory"
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


def kernel_kills() -> int:
    """How many processes the kernel has ended for want of memory: in our control group, and on the machine."""
    total = 0
    for path in _counters():
        try:
            for line in path.read_text("ascii", "replace").splitlines():
                name, _, value = line.partition(" ")
                if name == "oom_kill" and value.strip().isdigit():
                    total += int(value)
        except OSError:
            continue
    return total


def _counters() -> list[Path]:
    paths = [Path("/proc/vmstat")]
    try:
        groups = Path(f"/proc/{os.getpid()}/cgroup").read_text("utf-8", "replace").splitlines()
    except OSError:
        return paths
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
        killed_by_kernel: Whether the kernel has ended a process for want of memory while this one ran.

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
