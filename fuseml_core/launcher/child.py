"""One process of the server, as its launcher sees it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from fuseml_core.launcher.lifeline import READY
from fuseml_core.launcher.logs import RotatingLog

#: Seconds before the first restart; doubled with every death in `WINDOW` up to `LONGEST_PAUSE`.
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
#: This many deaths within so many seconds are a crash loop.
MOST_DEATHS = 5
WINDOW = 60.0


@dataclass(frozen=True, slots=True)
class Program:
    """What to start.

    Attributes:
        name: `control` or `data`.
        command: Program and arguments; `--lifeline-fd N` and the descriptors below are added.
        health: Unix socket that answers `GET /healthz`.
        descriptors: Options and the listening sockets that the process inherits.
        environment: Variables beyond the launcher's own.
    """

    name: str
    command: Sequence[str]
    health: Path
    descriptors: tuple[tuple[str, socket.socket], ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


class Child:
    """Starts a program, keeps its log, and knows when to start it again.

    Args:
        program: What to start.
        log: Where its output goes.
        echo: Also write its output to our own standard output.
    """

    def __init__(self, program: Program, log: RotatingLog, *, echo: bool = False) -> None:
        self.program = program
        self.log = log
        self.ready = False
        self.problem = ""
        self.process: subprocess.Popen[bytes] | None = None
        self.lifeline: socket.socket | None = None
        self.restart_at = 0.0
        self._echo = echo
        self._deaths: list[float] = []
        self._keeper: threading.Thread | None = None
        self._spoke = False

    @property
    def pid(self) -> int | None:
        """Process id while the process lives."""
        return self.process.pid if self.process else None

    def start(self) -> None:
        """Start the process in a session of its own, so that Ctrl-C reaches only the launcher."""
        ours, theirs = socket.socketpair()
        options = [("--lifeline-fd", theirs), *self.program.descriptors]
        command = [*self.program.command, *(part for name, s in options for part in (name, str(s.fileno())))]
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            pass_fds=[s.fileno() for _, s in options], start_new_session=True,
            env={**environment, **self.program.environment, "PYTHONUNBUFFERED": "1"})
        theirs.close()
        ours.setblocking(False)
        self.lifeline, self.ready, self._spoke = ours, False, False
        assert self.process.stdout is not None
        self._keeper = threading.Thread(target=self._keep, args=(self.process.stdout,), daemon=True)
        self._keeper.start()

    def said_ready(self) -> bool:
        """Whether the process has said that it answers requests."""
        with contextlib.suppress(OSError):
            self._spoke = self._spoke or (self.lifeline is not None and READY in self.lifeline.recv(64))
        return self._spoke

    def buried(self) -> str:
        """Say how the process ended, and forget it; the empty string while it lives or when there is none."""
        code = self.process.poll() if self.process else None
        if code is None:
            return ""
        self._forget()
        return f"was killed by {_signal_name(-code)}" if code < 0 else f"exited with code {code}"

    def plan_restart(self, now: float) -> bool:
        """Choose when to start again after a death. Returns False when it died too often: a crash loop."""
        self._deaths = [*(at for at in self._deaths if now - at < WINDOW), now]
        pause = min(FIRST_PAUSE * 2 ** (len(self._deaths) - 1), LONGEST_PAUSE)
        self.restart_at = now + pause
        return len(self._deaths) < MOST_DEATHS

    def revive(self, now: float) -> bool:
        """Start it once more although it was given up. Returns False when it was not."""
        if self.process or self.restart_at or not self.problem:
            return False
        self._deaths.clear()
        self.restart_at = now
        return True

    def signal(self, number: int) -> None:
        """Send a signal, if the process lives."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)

    def wait(self, timeout: float) -> bool:
        """Wait for the process's end. Returns False when it still lives after `timeout` seconds."""
        if not self.process:
            return True
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        self._forget()
        return True

    def close(self) -> None:
        """Close the log, after the process has ended."""
        if self._keeper:
            self._keeper.join(2.0)
        if not self._keeper or not self._keeper.is_alive():
            self.log.close()

    def _forget(self) -> None:
        if self.lifeline:
            self.lifeline.close()
        self.process = self.lifeline = None
        self.ready = False

    def _keep(self, output: BinaryIO) -> None:
        """Copy the process's output into its log until it ends."""
        with output:
            while data := os.read(output.fileno(), 65536):
                self.log.write(data)
                if self._echo:
                    with contextlib.suppress(OSError):
                        os.write(sys.stdout.fileno(), data)


def _signal_name(number: int) -> str:
    """Such as `SIGKILL`; those of real time have no names of their own."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
