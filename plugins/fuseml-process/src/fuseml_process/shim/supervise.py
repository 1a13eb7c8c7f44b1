"""Watching one running process: its output, its end, its time, its memory, its readiness, and the wish to stop it."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from typing import NamedTuple

from fuseml_process.shim import processes
from fuseml_process.shim.journal import Journal
from fuseml_process.shim.probe import Probe

_MEMORY_INTERVAL = 0.5
_TICK = 1.0
_DEFAULT_GRACE = 10.0


class Limits(NamedTuple):
    """Seconds until a job is stopped, bytes it may use, seconds until a service must be ready; None: no limit."""

    timeout: float | None
    memory: int | None
    start_timeout: float | None


#: Exit code of a shell, or another that starts a program, when that program was ended by SIGKILL.
KILLED_INSIDE = 128 + signal.SIGKILL


class End(NamedTuple):
    """How the process ended. `cause` is why the supervisor ended it, or empty if it ended by itself."""

    code: int | None
    signal: int | None
    cause: str
    message: str
    killed_by_kernel: bool


class Supervision:
    """The event loop around one process.

    Args:
        pid: The process, leader of its own session.
        output: Reading end of the pipe that it writes to.
        journal: Takes its output.
        limits: See :class:`Limits`.
        stop: Returns the grace in seconds once the workload shall stop, else None.
        wake: Descriptor that becomes readable on signals.
    """

    def __init__(self, pid: int, output: int, journal: Journal, limits: Limits, stop: Callable[[], float | None],
                 wake: int) -> None:
        self._pid, self._output, self._journal, self._limits = pid, output, journal, limits
        self._stop, self._wake = stop, wake
        self._started = time.monotonic()
        self._cause = self._message = ""
        self._kill_at: float | None = None
        self._memory_at = self._started + 0.1
        self._kills = processes.kernel_kills()
        self._open = True
        os.set_blocking(output, False)

    def run(self, probe: Probe | None = None, ready: Callable[[], None] | None = None) -> End:
        """Watch until the process has ended and everything that it started is gone.

        Args:
            probe: Asks a service whether it is ready.
            ready: Called once when it is.
        """
        while (status := self._reap()) is None:
            now = time.monotonic()
            if probe is not None:
                probe.tick(now)
            if self._wait(now, probe) and probe is not None and probe.readable(time.monotonic()):
                probe = None
                if ready is not None:
                    ready()
            self._check(time.monotonic(), probe)
        if probe is not None:
            probe.close()
        processes.end_tree(self._pid)
        self._drain()
        return self._end(status)

    def _wait(self, now: float, probe: Probe | None) -> bool:
        """Wait for something to happen; whether the probe has an answer."""
        poll, asking = select.poll(), probe.descriptor() if probe else None
        for descriptor in (self._wake, self._output if self._open else None, asking):
            if descriptor is not None:
                poll.register(descriptor, select.POLLIN)
        until = [now + _TICK, self._memory_at, self._kill_at, probe.next_at if probe else None, self._deadline(probe)]
        patience = max(0.0, min(moment for moment in until if moment is not None) - now)
        ready = {descriptor for descriptor, _event in poll.poll(patience * 1000 + 1)}
        if self._wake in ready:
            os.read(self._wake, 4096)
        if self._output in ready:
            self._copy()
        return asking is not None and asking in ready

    def _deadline(self, probe: Probe | None) -> float | None:
        limit = self._limits.start_timeout if probe is not None else self._limits.timeout
        return None if limit is None or self._cause else self._started + limit

    def _check(self, now: float, probe: Probe | None) -> None:
        """End the process if its time is up, its memory exceeded, or somebody asked."""
        if self._kill_at is not None and now >= self._kill_at:
            processes.signal_tree(self._pid, signal.SIGKILL)
            self._kill_at = now + 1.0
        if self._cause:
            return
        grace, deadline = self._stop(), self._deadline(probe)
        if grace is not None:
            self._terminate("Cancelled", "stopped on request", grace)
        elif deadline is not None and now >= deadline:
            seconds = deadline - self._started
            if probe is not None:
                self._terminate("NotReady", f"the service was not ready within {seconds:g} s: {probe.last}", 5.0)
            else:
                self._terminate("Timeout", f"the job did not end within its time limit of {seconds:g} s; raise the "
                                "timeout of the step or the runnable", _DEFAULT_GRACE)
        elif now >= self._memory_at:
            self._check_memory(now)

    def _check_memory(self, now: float) -> None:
        limit = self._limits.memory
        self._memory_at = now + _MEMORY_INTERVAL
        if limit is None:
            self._memory_at = now + 3600
            return
        tree = processes.descendants(os.getpid())
        used = processes.resident_bytes(tree)
        if used > limit and (exact := processes.proportional_bytes(tree) or used) > limit:
            self._terminate("OutOfMemory", f"the workload used {exact >> 20} MiB, more than its limit of "
                            f"{limit >> 20} MiB; declare more memory in its resources or use less", 0.0)
        elif used < limit // 4:
            self._memory_at = now + 2 * _MEMORY_INTERVAL

    def _terminate(self, cause: str, message: str, grace: float) -> None:
        self._cause, self._message = cause, message
        self._kill_at = time.monotonic() + grace
        if grace > 0:
            processes.signal_tree(self._pid, signal.SIGTERM)

    def _reap(self) -> int | None:
        """Collect ended processes, adopted orphans included; the wait status of ours once it is among them."""
        found = None
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self._pid:
                    found = ended[1]
        except ChildProcessError:
            pass
        return found

    def _copy(self) -> None:
        try:
            block = os.read(self._output, 1 << 16)
        except BlockingIOError:
            return
        if block:
            self._journal.write(block)
        else:
            self._open = False

    def _drain(self) -> None:
        """Read what is left; every writer has ended, unless it is beyond our reach."""
        deadline = time.monotonic() + 2.0
        while self._open and time.monotonic() < deadline:
            if not select.select([self._output], [], [], 0.05)[0]:
                continue
            self._copy()

    def _end(self, status: int) -> End:
        code = os.waitstatus_to_exitcode(status)
        killed = code in (-signal.SIGKILL, KILLED_INSIDE)
        by_kernel = killed and not self._cause and processes.kernel_kills() > self._kills
        return End(code if code >= 0 else None, -code if code < 0 else None, self._cause, self._message, by_kernel)
