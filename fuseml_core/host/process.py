"""One process of a plugin, from its start to its end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from fuseml_core.host.components import Component
from fuseml_core.host.environment import child_environment
from fuseml_core.host.output import OutputCapture
from fuseml_core.host.spawn import spawn
from fuseml_core.host.transport import Answer, ConnectionPool

#: The host decides how long a drain takes; the process itself would wait this many seconds.
_CHILD_DRAIN = 24 * 3600.0
#: Lines of output shown with a crash.
_SHOWN_LINES = 20


class PluginProcess:
    """Starts the serve runtime for a component and watches it.

    Args:
        component: What to serve.
        listener: The host's listening socket; it outlives the process.
        path: Where the socket is bound.
        log: Log file of the extension.
        environ: Variables to choose the child's from.
        on_exit: Called once with this process when it has ended, before :attr:`exited` is set.

    Raises:
        OSError: The interpreter cannot be started.
    """

    def __init__(self, component: Component, listener: socket.socket, path: Path, *, log: Path,
                 environ: Mapping[str, str], on_exit: Callable[[PluginProcess], None]) -> None:
        self._on_exit = on_exit
        self._lock = threading.Lock()
        self._reaped = False
        self._stopping = False
        self._status = 0
        self._started = time.monotonic()
        self._lifetime = 0.0
        self._pool = ConnectionPool(path)
        self.exited = threading.Event()
        self._launch(component, listener, log, environ)
        threading.Thread(target=self._watch, name=f"fuseml-watch-{self.pid}", daemon=True).start()

    def _launch(self, component: Component, listener: socket.socket, log: Path, environ: Mapping[str, str]) -> None:
        component.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = [str(component.python or sys.executable), "-I", "-m", "fuseml_sdk.serve", component.plugin]
        output_read, output_write = os.pipe()
        life_read, self._lifeline = os.pipe()
        try:
            # An unlinked file, so that secrets neither show in arguments nor stay on the disk.
            with tempfile.TemporaryFile() as stdin:
                stdin.write(json.dumps({"config": component.config, "state_dir": str(component.state_dir),
                                        "drain_seconds": _CHILD_DRAIN}).encode())
                stdin.seek(0)
                self.pid = spawn(command, child_environment(environ, component.state_dir), stdin=stdin.fileno(),
                                 output=output_write, listener=listener.fileno(), lifeline=life_read)
        except BaseException:
            os.close(output_read)
            os.close(self._lifeline)
            raise
        finally:
            os.close(output_write)
            os.close(life_read)
        self._output = OutputCapture(output_read, log, f"{component.family}/{component.name}[{self.pid}]")

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
        return self._pool.request(method, path, body, headers, timeout)

    def stop(self, drain: float) -> None:
        """Ask it to finish the calls in flight and end; force it after `drain` seconds."""
        self._stopping = True
        self._signal(signal.SIGTERM)
        if not self.exited.wait(drain):
            self._signal(signal.SIGKILL)
            self.exited.wait(10.0)

    def obituary(self) -> str:
        """Why it ended, with its last output, for people. Empty while it runs."""
        if not self._reaped:
            return ""
        lines = self._output.tail(_SHOWN_LINES)
        shown = "; last output:\n" + "\n".join(f"  {line}" for line in lines) if lines else "; it wrote nothing"
        return f"{self.cause} after {self._lifetime:.1f} s{shown}"

    @property
    def cause(self) -> str:
        """`exit code N` or `signal NAME`."""
        code = os.waitstatus_to_exitcode(self._status)
        if code >= 0:
            return f"exit code {code}"
        try:
            return f"signal {signal.Signals(-code).name}"
        except ValueError:
            return f"signal {-code}"

    def _signal(self, number: signal.Signals) -> None:
        with self._lock:
            if not self._reaped:  # Afterwards the number may belong to somebody else.
                if number == signal.SIGKILL:
                    os.killpg(self.pid, number)
                else:
                    os.kill(self.pid, number)

    def _watch(self) -> None:
        self._reap()
        self._lifetime = time.monotonic() - self._started
        os.close(self._lifeline)
        self._pool.close()
        self._output.wait(1.0)
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
        with self._lock:
            # Until it is reaped its number is taken, so this reaches what it left behind in its group and nobody else.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            _, self._status = os.waitpid(self.pid, 0)
            self._reaped = True
