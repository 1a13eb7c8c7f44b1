"""The launcher's work: take the lock, listen, start control and data, keep them running, stop them in order."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from fuseml_core import __version__
from fuseml_core.domain.errors import Conflict, Failed, Unavailable
from fuseml_core.launcher.child import Child, Program
from fuseml_core.launcher.directories import prepare_directories
from fuseml_core.launcher.locks import ProcessLock, holder
from fuseml_core.launcher.logs import RotatingLog, last_lines
from fuseml_core.launcher.requests import ask
from fuseml_core.launcher.sockets import listen_tcp, listen_unix
from fuseml_core.launcher.state import CONTROL, DATA, REVIVE, ServerState, lock_path, write_state
from fuseml_core.settings import Settings

log = logging.getLogger(__name__)

START_TIMEOUT = 60.0
#: Seconds the processes of a launcher that was killed get to leave before they are killed too.
LEFTOVER_TIMEOUT = 25.0
#: Seconds for control to stop services and agents, and for a process to end after SIGTERM.
SHUTDOWN_TIMEOUT = 60.0
TERM_TIMEOUT = 45.0
#: Seconds for a process that died just before the stop to be there again.
RESTART_TIMEOUT = 15.0
CONTROL_COMMAND = (sys.executable, "-m", "fuseml_core.control")
DATA_COMMAND = (sys.executable, "-m", "fuseml_core.gateway")


class Supervisor:
    """One server.

    Args:
        settings: Where state, sockets and logs are.
        echo: Also write the processes' output to our own standard output (foreground).
        control: Program and arguments of the control process.
        data: Program and arguments of the data process.
    """

    def __init__(self, settings: Settings, *, echo: bool = False, control: Sequence[str] = CONTROL_COMMAND,
                 data: Sequence[str] = DATA_COMMAND) -> None:
        self.settings = settings
        self._commands = {CONTROL: control, DATA: data}
        self._echo = echo
        self._children: dict[str, Child] = {}
        self._signals = 0
        self._asking = False
        self._announced = False
        self._unwritten = False
        self._port = 0
        self._started_at = time.time()
        self._selector = selectors.DefaultSelector()

    def run(self, announce: Callable[[ServerState], None]) -> None:
        """Run the server until SIGTERM or SIGINT, then stop it.

        Args:
            announce: Called once, when both processes answer.

        Raises:
            Conflict: A server runs already, or the port is taken.
            Refused: A directory cannot be used.
            Failed: A process did not start; the message has the last lines of its log.
        """
        prepare_directories(self.settings)
        lock = ProcessLock(lock_path(self.settings, "server"))
        self._take(lock)
        try:
            with self._wake_on_signals():
                self._await_leftovers()
                self._work(announce)
        finally:
            self.settings.state_file.unlink(missing_ok=True)
            lock.release()

    def _take(self, lock: ProcessLock) -> None:
        try:
            lock.acquire(0.5)
        except Conflict as error:
            pid = error.details["pid"]
            raise Conflict(f"A FuseML server with FUSEML_HOME={self.settings.home} runs already, as process {pid}",
                           hint="`fuseml server status` describes it, `fuseml server stop` stops it.",
                           details={"pid": pid, "running": True}) from None

    def _await_leftovers(self) -> None:
        """Wait for processes whose launcher was killed; their lock, not a remembered id, says that they live."""
        until = time.monotonic() + LEFTOVER_TIMEOUT
        for name in (CONTROL, DATA):
            path = lock_path(self.settings, name)
            while (pid := holder(path)) is not None:
                if time.monotonic() > until and pid > 0:
                    log.warning("the %s process %d of an earlier server does not leave; killing it", name, pid)
                    os.kill(pid, signal.SIGKILL)
                time.sleep(0.05)

    def _work(self, announce: Callable[[ServerState], None]) -> None:
        with contextlib.ExitStack() as stack:
            tcp = stack.enter_context(self._listen())
            unix = stack.enter_context(listen_unix(self.settings.data_socket))
            stack.callback(self.settings.data_socket.unlink, missing_ok=True)
            self._port = tcp.getsockname()[1]
            self._make_children(tcp, unix)
            try:
                for child in self._children.values():
                    self._start(child)
                self._watch(announce)
            finally:
                self._stop()

    def _listen(self) -> socket.socket:
        """Listen on the configured port; one that was chosen freely stays the same, because URLs were made of it."""
        file = self.settings.path("run", "port")
        if self.settings.port:
            return listen_tcp(self.settings.port)
        with contextlib.suppress(OSError, ValueError, Conflict):
            return listen_tcp(int(file.read_text(encoding="utf-8")))
        chosen = listen_tcp(0)
        file.write_text(str(chosen.getsockname()[1]), encoding="utf-8")
        return chosen

    def _make_children(self, tcp: socket.socket, unix: socket.socket) -> None:
        inherited = {CONTROL: (), DATA: (("--tcp-fd", tcp), ("--unix-fd", unix))}
        health = {CONTROL: self.settings.control_socket, DATA: self.settings.data_socket}
        # A port that was chosen must be known to both: URLs are made of it.
        chosen = {"FUSEML_PORT": str(self._port)}
        for name in (CONTROL, DATA):
            program = Program(name, self._commands[name], health[name], inherited[name], chosen)
            file = RotatingLog(self.settings.path("logs", f"{name}.log"))
            self._children[name] = Child(program, file, echo=self._echo)

    def _start(self, child: Child) -> None:
        child.start()
        assert child.lifeline is not None
        self._selector.register(child.lifeline, selectors.EVENT_READ)

    def _watch(self, announce: Callable[[ServerState], None]) -> None:
        """Keep both processes running until a signal comes."""
        limit = time.monotonic() + START_TIMEOUT
        while not self._signals:
            changed = [self._look_after(child) for child in self._children.values()]
            if any(changed) or self._unwritten:
                self._write_state()
            if not self._announced and all(child.ready for child in self._children.values()):
                self._announced = True
                announce(self._state())
            if not self._announced and time.monotonic() > limit:
                raise Failed(f"The server was not ready within {START_TIMEOUT:.0f} s", hint=self._log_hint())
            self._sleep()

    def _write_state(self) -> None:
        """Write down who runs. On a full disk a server that runs goes on, and what it is gets written later."""
        try:
            write_state(self.settings.state_file, self._state())
        except OSError as error:
            if not self._announced:
                raise Failed(f"{self.settings.state_file} cannot be written: {error.strerror}",
                             hint="Free some space on the disk that holds FUSEML_HOME.") from None
            if not self._unwritten:
                log.warning("%s cannot be written: %s", self.settings.state_file, error.strerror)
            self._unwritten = True
        else:
            self._unwritten = False

    def _look_after(self, child: Child) -> bool:
        """Bring one process forward. Returns whether something about it changed."""
        name = child.program.name
        if child.process:
            line, was_ready = child.lifeline, child.ready
            end = child.buried()
            if end:
                if line and not was_ready:
                    self._selector.unregister(line)
                self._mourn(child, f"The {name} process {end}")
                return True
            if not child.ready and child.said_ready() and self._healthy(child):
                child.ready, child.problem = True, ""
                assert line is not None
                self._selector.unregister(line)  # from now on its death is told by SIGCHLD
                log.info("the %s process %d is ready", name, child.pid)
                return True
        elif child.restart_at and time.monotonic() >= child.restart_at:
            self._start(child)
            return True
        return False

    def _healthy(self, child: Child) -> bool:
        """Make one round trip; one that fails is repeated, for a busy machine is no reason to stop the server."""
        try:
            ask(child.program.health, "GET", "/healthz")
        except Unavailable as error:
            log.warning("the %s process is not healthy yet: %s", child.program.name, error.message)
            return False
        return True

    def _mourn(self, child: Child, what: str) -> None:
        """Decide after a death: start again, or give up."""
        time.sleep(0.05)  # lets the last lines reach the log
        child.problem = what
        lines = "\n".join(last_lines(child.log.path, 20))
        if not self._announced:
            raise Failed(f"{what} while starting. The last lines of {child.log.path}:\n{lines}")
        if child.plan_restart(time.monotonic()):
            log.error("%s; starting it again", what)
            return
        child.restart_at = 0.0
        child.problem = f"{what}, again and again; it is not started any more"
        log.error("%s. The last lines of %s:\n%s", child.problem, child.log.path, lines)

    def _state(self) -> ServerState:
        children = self._children.values()
        ready = all(child.ready for child in children)
        return ServerState(
            state="ready" if ready else "degraded" if self._announced else "starting", version=__version__,
            port=self._port, base_url=f"http://127.0.0.1:{self._port}", started_at=self._started_at,
            pids={"launcher": os.getpid(), **{c.program.name: c.pid for c in children if c.pid}},
            home=str(self.settings.home), problems={c.program.name: c.problem for c in children if c.problem},
            given_up=[c.program.name for c in children if c.problem and not c.process and not c.restart_at],
            safe_mode=self.settings.no_extensions)

    def _stop(self) -> None:
        """Stop services and agents, then control, then data; a second signal skips the asking."""
        control = self._children.get(CONTROL)
        if control and self._announced:
            self._await_ready(control)
        if control and control.ready and self._signals < 2:
            self._asking = True
            try:
                ask(self.settings.control_socket, "POST", "/internal/shutdown",
                    {"stop_services": True, "cancel_jobs": False}, timeout=SHUTDOWN_TIMEOUT)
            except Unavailable as error:
                log.warning("services and agents could not be stopped in order: %s", error.message)
            self._asking = False
        for child in self._children.values():
            child.signal(signal.SIGTERM)
            if not child.wait(TERM_TIMEOUT):
                log.error("the %s process does not end; killing it", child.program.name)
                child.signal(signal.SIGKILL)
                child.wait(TERM_TIMEOUT)
            child.close()

    def _await_ready(self, child: Child) -> None:
        """Wait for a process that is just being started again: without control, services would be left behind."""
        until = time.monotonic() + RESTART_TIMEOUT
        while not child.ready and (child.process or child.restart_at):
            if self._signals > 1 or time.monotonic() > until:
                return
            self._look_after(child)
            time.sleep(0.05)

    def _log_hint(self) -> str:
        return "\n".join(f"{c.program.name}: {line}" for c in self._children.values()
                         for line in last_lines(c.log.path, 10))

    def _sleep(self) -> None:
        """Wait for a signal, a word from a process, or the next planned restart."""
        now = time.monotonic()
        planned = [c.restart_at - now for c in self._children.values() if c.restart_at and not c.process]
        starting = any(c.process and not c.ready for c in self._children.values())
        longest = 0.5 if starting else 2.0 if self._unwritten else 30.0
        for key, _ in self._selector.select(max(0.0, min([*planned, longest]))):
            if key.data == "signal":
                os.read(key.fd, 512)

    @contextlib.contextmanager
    def _wake_on_signals(self) -> Iterator[None]:
        """Count SIGTERM and SIGINT and wake the loop for them and for the death of a process."""
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        self._selector.register(reader, selectors.EVENT_READ, "signal")
        before = {number: signal.signal(number, self._count) for number in (signal.SIGTERM, signal.SIGINT)}
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        before[REVIVE] = signal.signal(REVIVE, self._revive)
        previous = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(previous)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._selector.close()
            reader.close()
            writer.close()

    def _revive(self, *_: object) -> None:
        for name, child in self._children.items():
            if child.revive(time.monotonic()):
                self._unwritten = True  # the state says still that it is not started any more
                log.info("starting the %s process once more, as somebody asked for", name)

    def _count(self, *_: object) -> None:
        self._signals += 1
        if self._asking and self._signals > 1:
            raise Unavailable("a second signal came")
