"""The process of a plugin under development: the serve runtime on a socket that outlives it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuseml_core.cli.client import UnixConnection
from fuseml_core.cli.development.printing import Output
from fuseml_core.host.environment import child_environment
from fuseml_core.host.listener import Listener
from fuseml_core.host.spawn import spawn
from fuseml_sdk.hookspecs import PROTOCOL
from fuseml_sdk.serve.tracing import VARIABLE

#: Seconds a plugin may take to answer for the first time, and to end when asked to.
START_TIMEOUT, STOP_TIMEOUT = 120.0, 5.0
#: The failure of a start that was not wanted any more, and seconds between two questions about that.
GIVEN_UP, _LOOK = "it was not waited for", 0.05
#: Seconds that calls in flight may take to finish when the code has changed.
_HANDOVER = 0.3


@dataclass(frozen=True, slots=True)
class Start:
    """How a start went.

    Attributes:
        seconds: From its beginning until the plugin answered, or failed.
        failure: Why it does not work; empty if it does.
        hooks: Names of the hooks it offers.
    """

    seconds: float
    failure: str = ""
    hooks: tuple[str, ...] = ()


class DevelopedPlugin:
    """One component, served from its source.

    Args:
        python: Interpreter of the project's environment.
        plugin: `module:attribute`.
        state: Folder that it may write to; kept from start to start.
        runtime: Private folder for the socket.
        trace: Which hooks are traced: 1 for all, or a glob.
        permissions: Kinds of the permissions that are declared: they decide which variables it gets.
        output: Makes what takes the lines that a new process of the plugin writes.
    """

    def __init__(self, python: Path, plugin: str, *, state: Path, runtime: Path, trace: str,
                 permissions: Iterable[str], output: Callable[[], Output]) -> None:
        self._python, self._plugin, self._state = python, plugin, state
        self._trace, self._permissions, self._output = trace, frozenset(permissions), output
        runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._listener = Listener(runtime)
        self._process: _Process | None = None

    @property
    def path(self) -> Path:
        """Where the socket is bound."""
        return self._listener.path

    @property
    def ended(self) -> str:
        """Why the process is gone though nobody stopped it, such as `exit code 1`; empty while it runs."""
        return self._process.cause if self._process is not None and self._process.exited.is_set() else ""

    def start(self, config: dict[str, Any], give_up: Callable[[float], bool] = lambda _: False) -> Start:
        """Start it, or start it anew; calls that come meanwhile wait at the socket.

        Args:
            config: Given to `fuseml_configure`.
            give_up: Asked again and again, with the seconds so far, whether the start is not wanted any more.
        """
        before, began = self._process, time.monotonic()
        if before is not None:
            before.signal(signal.SIGTERM)
        self._state.mkdir(mode=0o700, parents=True, exist_ok=True)
        process = self._process = _Process(self._command(), self._environment(), self._document(config),
                                           self._listener, self._output())
        if before is not None and not before.exited.wait(_HANDOVER):
            before.signal(signal.SIGKILL)  # or calls would go on reaching the code of before the change
            before.exited.wait(STOP_TIMEOUT)
        found: list[tuple[str, tuple[str, ...]]] = []
        asking = threading.Thread(target=lambda: found.append(self._describe(process)), daemon=True)
        asking.start()
        while asking.is_alive():
            asking.join(_LOOK)
            if asking.is_alive() and give_up(time.monotonic() - began):
                process.signal(signal.SIGKILL)
                return Start(time.monotonic() - began, GIVEN_UP)
        failure, hooks = found[0] if found else ("its description is none", ())
        return Start(time.monotonic() - began, failure, hooks)

    def stop(self) -> None:
        """End it and give up the socket."""
        if self._process is not None:
            self._process.stop(STOP_TIMEOUT)
        self._listener.close()

    def _command(self) -> list[str]:
        return [str(self._python), "-I", "-m", "fuseml_sdk.serve", self._plugin]

    def _environment(self) -> dict[str, str]:
        temporary = self._state / "tmp"
        temporary.mkdir(mode=0o700, exist_ok=True)
        return {**child_environment(os.environ, self._state, temporary, self._permissions), VARIABLE: self._trace}

    def _document(self, config: dict[str, Any]) -> bytes:
        return json.dumps({"config": config, "state_dir": str(self._state), "drain_seconds": STOP_TIMEOUT}).encode()

    def _describe(self, process: _Process) -> tuple[str, tuple[str, ...]]:
        """One round trip: why it does not work, or what it offers."""
        connection = UnixConnection(str(self.path), timeout=START_TIMEOUT)
        try:
            connection.connect()
            process.at_exit(lambda: _cut(connection))  # nobody else would ever answer
            connection.request("GET", f"/v{PROTOCOL}/describe")
            document = json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            process.exited.wait(1.0)
            return (f"it ended with {process.cause}" if process.exited.is_set() else f"it does not answer: {error}"), ()
        finally:
            connection.close()
        failure = document.get("failure") or {}
        reason = ". ".join(filter(None, (str(failure.get(part) or "") for part in ("detail", "hint"))))
        return reason, tuple(document.get("hooks") or ())


class _Process:
    """One run of the serve runtime; its descriptor 4 ends with this process, so it cannot be left behind."""

    def __init__(self, command: list[str], environment: dict[str, str], document: bytes, listener: Listener,
                 output: Output) -> None:
        self.exited = threading.Event()
        self.cause = ""
        self._lock = threading.Lock()
        self._at_exit: Callable[[], None] | None = None
        output_read, output_write = os.pipe()
        life_read, self._lifeline = os.pipe()
        try:
            with tempfile.TemporaryFile() as stdin:
                stdin.write(document)
                stdin.seek(0)
                self._pid = spawn(command, environment, stdin=stdin.fileno(), output=output_write,
                                  listener=listener.socket.fileno(), lifeline=life_read)
        except BaseException:
            os.close(output_read)
            os.close(self._lifeline)
            raise
        finally:
            os.close(output_write)
            os.close(life_read)
        reader = threading.Thread(target=_forward, args=(output_read, output), daemon=True)
        reader.start()
        threading.Thread(target=self._watch, args=(reader, output), daemon=True).start()

    def at_exit(self, action: Callable[[], None]) -> None:
        """Do this when the process ends, or now if it has ended."""
        self._at_exit = action
        if self.exited.is_set():
            action()

    def signal(self, number: signal.Signals) -> None:
        """Signal it; after its end the number could be another's."""
        with self._lock:
            if not self.exited.is_set():
                os.kill(self._pid, number)

    def stop(self, seconds: float) -> None:
        """Ask it to end, and force it after some seconds."""
        self.signal(signal.SIGTERM)
        if not self.exited.wait(seconds):
            self.signal(signal.SIGKILL)
            self.exited.wait(STOP_TIMEOUT)

    def _watch(self, reader: threading.Thread, output: Output) -> None:
        os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, signal.SIGKILL)  # what it left behind in its group
            code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
            self.cause = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
            self.exited.set()
        os.close(self._lifeline)
        reader.join(1.0)
        output.ended()
        if self._at_exit is not None:
            self._at_exit()


def _forward(descriptor: int, output: Output) -> None:
    with os.fdopen(descriptor, encoding="utf-8", errors="replace") as stream:
        for line in stream:
            output.line(line.rstrip("\n"))


def _cut(connection: http.client.HTTPConnection) -> None:
    with contextlib.suppress(OSError):
        if connection.sock is not None:
            connection.sock.shutdown(2)
