"""The line between the launcher and a process it started: one end of a socket pair.

The process says over it when it is ready; when the launcher dies, however it dies, the process reads the end of
the line and leaves in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

READY = b"R"
#: Seconds an orderly exit may take after the launcher is gone.
EXIT_TIMEOUT = 10.0


class Lifeline:
    """The process's end of the line.

    Args:
        descriptor: Inherited file descriptor; -1 when nobody watches, as in a debugger.
        log_file: Where output goes when the launcher, who wrote it down, is gone.
    """

    def __init__(self, descriptor: int, log_file: Path) -> None:
        self._line = socket.socket(fileno=descriptor) if descriptor >= 0 else None
        self._log_file = log_file

    def say_ready(self) -> None:
        """Tell the launcher that requests are answered."""
        if self._line:
            with contextlib.suppress(OSError):
                self._line.send(READY)

    def watch(self, leave: Callable[[], None]) -> None:
        """Call `leave` from the running event loop when the launcher is gone."""
        if self._line:
            loop = asyncio.get_running_loop()
            loop.add_reader(self._line.fileno(), self._read, loop, leave)

    def _read(self, loop: asyncio.AbstractEventLoop, leave: Callable[[], None]) -> None:
        assert self._line is not None
        with contextlib.suppress(OSError):
            if self._line.recv(64):
                return
        loop.remove_reader(self._line.fileno())
        self._keep_output()
        log.warning("the launcher is gone; leaving")
        limit = threading.Timer(EXIT_TIMEOUT, os._exit, args=(1,))
        limit.daemon = True
        limit.start()
        leave()

    def _keep_output(self) -> None:
        with contextlib.suppress(OSError):
            handle = os.open(self._log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            os.close(handle)
