"""Notices callers that go away while their call is being served."""

from __future__ import annotations

import contextlib
import select
import socket
import threading

from fuseml_sdk.calls import Call


class Hangups:
    """Watches connections and cancels the call of one whose other side has closed it.

    Watching costs a call next to nothing: the operating system tells, in a thread that otherwise sleeps. Where there
    is no epoll (macOS), calls are only cancelled by their deadlines.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[int, Call | None] = {}
        self._gone: set[int] = set()
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        if self._epoll is not None:
            threading.Thread(target=self._run, name="fuseml-hangups", daemon=True).start()

    def watch(self, connection: socket.socket) -> None:
        """Begin to watch a connection."""
        descriptor = connection.fileno()
        with self._lock:
            self._calls[descriptor] = None
            if self._epoll is None:
                return
            with contextlib.suppress(OSError):  # If no more can be watched, the deadline has to do.
                # Without events of its own it tells only that both directions are closed. A client that has closed
                # its sending side alone is still there, and so it is when we stop reading to drain.
                self._epoll.register(descriptor, select.EPOLLONESHOT)

    def began(self, connection: socket.socket, call: Call) -> None:
        """Note the call that a connection waits for."""
        descriptor = connection.fileno()
        self._calls[descriptor] = call
        if descriptor in self._gone:
            call.cancel()

    def forget(self, connection: socket.socket) -> None:
        """Stop watching a connection, before it is closed and its number goes to another."""
        descriptor = connection.fileno()
        with self._lock:
            if self._epoll is not None:
                with contextlib.suppress(OSError):
                    self._epoll.unregister(descriptor)
            self._calls.pop(descriptor, None)
            self._gone.discard(descriptor)

    def _run(self) -> None:
        assert self._epoll is not None
        while True:
            for descriptor, _ in self._epoll.poll():
                with self._lock:
                    # The number may have gone to another connection since the event was read.
                    if descriptor not in self._calls or not _is_closed(descriptor):
                        continue
                    self._gone.add(descriptor)
                    call = self._calls[descriptor]
                if call is not None:
                    call.cancel()


def _is_closed(descriptor: int) -> bool:
    probe = select.poll()
    probe.register(descriptor, 0)
    return bool(probe.poll(0))
