"""One process of a plugin, from its start to its end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from fuseml_core.host.components import Component
from fuseml_core.host.crashes import CrashReport, KernelKills, cause_of
from fuseml_core.host.isolation import Isolation
from fuseml_core.host.output import OutputCapture
from fuseml_core.host.spawn import spawn
from fuseml_core.host.streams import UnixStream
from fuseml_core.host.transport import Answer, ConnectionPool, Lost

#: The host decides how long a drain takes; the process itself would wait this many seconds.
_CHILD_DRAIN = 24 * 3600.0
#: Lines of output shown with a crash.
_SHOWN_LINES = 20
#: Seconds after which a connection that was lost says nothing about a crash.
_RECENT = 5.0


class PluginProcess:
    """Starts the serve runtime for a component and watches it.

    Args:
        component: What to serve.
        listener: The host's listening socket; it outlives the process.
        path: Where the socket is bound.
        log: Log file of the extension.
        environ: Variables to choose the child's from.
        isolation: Confines it.
        on_exit: Called once with this process when it has ended, before :attr:`exited` is set.

    Raises:
        OSError: The interpreter cannot be started.
    """

    def __init__(self, component: Component, listener: socket.socket, path: Path, *, log: Path,
                 environ: Mapping[str, str], isolation: Isolation, on_exit: Callable[[PluginProcess], None]) -> None:
        self._component = component
        self._on_exit = on_exit
        self._in_flight: dict[object, tuple[str, str]] = {}
        self._lost: deque[tuple[float, str, str]] = deque(maxlen=32)
        self._report: CrashReport | None = None
        self._starved = False
        self._lock = threading.Lock()
        self._reaped = False
        self._stopping = False
        self._killed = False
        self._status = 0
        self._started = time.monotonic()
        self._lifetime = 0.0
        self._pool = ConnectionPool(partial(UnixStream, path))
        self.exited = threading.Event()
        self._isolation = isolation
        self._confined = isolation.confine(component, ["-m", "fuseml_sdk.serve", component.plugin], environ)
        self._launch(component, listener, log)
        self._kills = KernelKills(self.pid)
        threading.Thread(target=self._watch, name=f"fuseml-watch-{self.pid}", daemon=True).start()

    def _launch(self, component: Component, listener: socket.socket, log: Path) -> None:
        output_read, output_write = os.pipe()
        life_read, self._lifeline = os.pipe()
        try:
            # An unlinked file, so that secrets neither show in arguments nor stay on the disk.
            with tempfile.TemporaryFile() as stdin:
                stdin.write(json.dumps({"config": component.config, "state_dir": str(component.state_dir),
                                        "drain_seconds": _CHILD_DRAIN}).encode())
                stdin.seek(0)
                self.pid = spawn(self._confined.command, self._confined.environment, stdin=stdin.fileno(),
                                 output=output_write, listener=listener.fileno(), lifeline=life_read)
        except BaseException:
            os.close(output_read)
            os.close(self._lifeline)
            self._confined.close()
            raise
        finally:
            os.close(output_write)
            os.close(life_read)
        self._output = OutputCapture(output_read, log, f"{component.family}/{component.name}[{self.pid}]",
                                     mask=component.masking.text)

    @property
    def ended(self) -> bool:
        """Whether it is gone; its report may still be being written until :attr:`exited` is set."""
        return self._reaped

    @property
    def stopping(self) -> bool:
        """Whether the host has asked it to end."""
        return self._stopping

    @property
    def lifetime(self) -> float:
        """Seconds it has run, or ran."""
        return self._lifetime if self.exited.is_set() else time.monotonic() - self._started

    def request(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str],
                timeout: float | None) -> Answer:
        """Exchange one request for an answer; see :meth:`ConnectionPool.request`."""
        self._kills.look()
        key, about = object(), (path.rpartition("/")[2], headers.get("fuseml-call-id", ""))
        self._in_flight[key] = about
        try:
            return self._pool.request(method, path, body, headers, timeout)
        except Lost:
            # Noted before it counts as over: the connection breaks before the operating system tells of the death.
            self._lost.append((time.monotonic(), *about))
            raise
        finally:
            del self._in_flight[key]

    def stop(self, drain: float) -> None:
        """Ask it to finish the calls in flight and end; force it after `drain` seconds."""
        self._stopping = True
        self._signal(signal.SIGTERM)
        if not self.exited.wait(drain):
            self._signal(signal.SIGKILL)
            self.exited.wait(10.0)

    @property
    def has_children(self) -> bool:
        """Whether it has started processes that still run."""
        try:
            return any(task.joinpath("children").read_bytes().strip()
                       for task in Path(f"/proc/{self.pid}/task").iterdir())
        except OSError:
            return False

    def report(self) -> CrashReport | None:
        """Why it ended, what it was serving and what it wrote last; None while it runs."""
        return self._report

    def obituary(self) -> str:
        """The report for people; empty while it runs."""
        return self._report.text() if self._report else ""

    def _autopsy(self, serving: dict[object, tuple[str, str]]) -> CrashReport:
        now = time.monotonic()
        calls = [*serving.values(), *(about for at, *about in list(self._lost) if now - at < _RECENT)]
        output = tuple(self._output.tail(_SHOWN_LINES))
        cause, detail = cause_of(os.waitstatus_to_exitcode(self._status), output,
                                 killed_by_kernel=self._starved or (not self._killed and self._confined.was_starved))
        component = self._component
        blamed = self._isolation.blame(component, self._confined, cause, os.waitstatus_to_exitcode(self._status))
        detail = "; ".join(filter(None, (detail, blamed)))
        return CrashReport(
            at=time.time(), cause=cause, detail=detail, output=output, ran_for=round(self._lifetime, 3),
            hook=", ".join(dict.fromkeys(hook for hook, _ in calls if hook != "describe")),
            call_id=", ".join(dict.fromkeys(call for _, call in calls if call)),
            component=f"{component.family}/{component.name}", version=component.version)

    def _signal(self, number: signal.Signals) -> None:
        with self._lock:
            if not self._reaped:  # Afterwards the number may belong to somebody else.
                if number == signal.SIGKILL:
                    self._killed = True
                    os.killpg(self.pid, number)
                else:
                    os.kill(self.pid, number)

    def _watch(self) -> None:
        self._reap()
        self._confined.close()
        self._lifetime = time.monotonic() - self._started
        serving = dict(self._in_flight)
        os.close(self._lifeline)
        self._pool.close()
        self._output.wait(1.0)
        self._report = self._autopsy(serving)
        try:
            self._on_exit(self)
        finally:
            self.exited.set()

    def _reap(self) -> None:
        if not hasattr(os, "waitid"):  # macOS before Python 3.13
            _, self._status = os.waitpid(self.pid, 0)
            self._reaped = True
            return
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        self._starved = not self._killed and self._kills.any_since()
        with self._lock:
            # Until it is reaped its number is taken, so this reaches what it left behind in its group and nobody else.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            _, self._status = os.waitpid(self.pid, 0)
            self._reaped = True
