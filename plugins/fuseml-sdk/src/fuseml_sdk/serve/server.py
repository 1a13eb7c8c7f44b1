"""Accepts connections on a socket that somebody else owns, and drains them when told to stop."""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
import time
from typing import Any

from fuseml_sdk.serve.leader import PATIENCE, Connection, Leader, Responder

#: Connections served at once; more wait in the kernel's queue.
MAX_CONNECTIONS = 128


class Server:
    """Serves one listening socket until :meth:`stop` is called.

    The thread that calls :meth:`run` and :meth:`drain` never runs code of the plugin, so that it hears signals and can
    look after the one that does.

    Args:
        listener: Bound and listening; it stays open, because its owner may hand it to the next process.
        respond: Answers one request; must not raise.
    """

    def __init__(self, listener: socket.socket, respond: Responder) -> None:
        # Non-blocking, because a process that starts while another drains accepts from the same queue.
        listener.setblocking(False)
        self._listener = listener
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._stopping = False
        self._lock = threading.Condition()
        self._connections: set[Connection] = set()
        self._leader = Leader(respond, closed=self._forget, busy=self._wake)

    @property
    def wake_descriptor(self) -> int:
        """Where a byte wakes the thread in :meth:`run`, so that it hears of a signal (signal.set_wakeup_fd)."""
        return self._wake_write

    def stop(self) -> None:
        """End :meth:`run` soon; safe to call from a signal handler, and more than once."""
        self._stopping = self._leader.stopping = True
        self._wake()

    def run(self) -> None:
        """Accept connections until told to stop."""
        self._leader.start()
        while not self._stopping:
            room = len(self._connections) < MAX_CONNECTIONS
            waited: list[Any] = [self._listener, self._wake_read] if room else [self._wake_read]
            is_active = self._leader.look()
            ready, _, _ = select.select(waited, [], [], PATIENCE if is_active else None if room else 0.05)
            if self._wake_read in ready:
                os.read(self._wake_read, 4096)
            if self._listener in ready and not self._stopping:
                self._accept()

    def drain(self, seconds: float) -> bool:
        """Let calls in flight finish and close idle connections.

        Returns:
            False if some calls were still running after `seconds`.
        """
        until = time.monotonic() + seconds
        with self._lock:
            for connection in self._connections:
                # What the client has sent already can still be read; after that the reader sees the end.
                _shutdown(connection.socket, socket.SHUT_RD)
        while True:
            self._leader.look()
            with self._lock:
                left = until - time.monotonic()
                if not self._connections:
                    self._leader.end()
                if not self._connections or left <= 0:
                    return not self._connections
                self._lock.wait(min(left, PATIENCE))

    def _wake(self) -> None:
        try:
            os.write(self._wake_write, b"x")
        except BlockingIOError:
            return

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            # Out of descriptors or memory: calls in flight will give some back.
            sys.stderr.write(f"fuseml_sdk.serve: no connection could be accepted: {error}\n")
            time.sleep(0.1)
            return
        accepted.setblocking(True)
        connection = Connection(accepted)
        with self._lock:
            self._connections.add(connection)
        self._leader.add(connection)

    def _forget(self, connection: Connection) -> None:
        with self._lock:
            self._connections.discard(connection)
            self._lock.notify_all()


def _shutdown(connection: socket.socket, how: int) -> None:
    try:
        connection.shutdown(how)
    except OSError:
        return
