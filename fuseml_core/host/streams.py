"""Connections to plugins, over which is sent and received within a time."""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol


class Stream(Protocol):
    """A connection to a plugin. Seconds are limits; None waits for ever."""

    #: What requests name in their header `host`.
    host: str

    def send(self, data: bytes, seconds: float | None) -> None:
        """Send all of it. Raises `TimeoutError`, or another `OSError` if the connection broke."""

    def receive(self, size: int, seconds: float | None) -> bytes:
        """Wait for some bytes, at most `size`; none at the end. Raises as :meth:`send` does."""

    def is_quiet(self) -> bool:
        """Whether nothing has come since the last answer: neither an end nor anything that nobody asked for."""

    def hang_up(self) -> None:
        """End it for the thread that waits for an answer; that one closes it."""

    def close(self) -> None:
        """Give it up."""


#: Connects, within so many seconds. Raises `OSError`.
Connect = Callable[[float | None], Stream]


class _SocketStream:
    """What all kinds have in common."""

    _socket: socket.socket

    def is_quiet(self) -> bool:
        """See :class:`Stream`."""
        watched = select.poll()
        watched.register(self._socket, select.POLLIN)
        return not watched.poll(0)

    def hang_up(self) -> None:
        """See :class:`Stream`."""
        # Shut down and not closed: another thread may be waiting on this descriptor, and must wake up.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """See :class:`Stream`."""
        self._socket.close()


class TcpStream(_SocketStream):
    """Over a TCP connection, with or without TLS.

    Args:
        connection: Not connected yet; it knows how.
        seconds: For connecting.

    Raises:
        OSError: It cannot be connected in time.
    """

    def __init__(self, connection: http.client.HTTPConnection, seconds: float | None) -> None:
        name = f"[{connection.host}]" if ":" in connection.host else connection.host
        self.host = name if connection.port == connection.default_port else f"{name}:{connection.port}"
        connection.timeout = seconds
        try:
            connection.connect()
        except BaseException:
            connection.close()
            raise
        self._socket = connection.sock

    def send(self, data: bytes, seconds: float | None) -> None:
        """See :class:`Stream`."""
        self._socket.settimeout(seconds)
        self._socket.sendall(data)

    def receive(self, size: int, seconds: float | None) -> bytes:
        """See :class:`Stream`."""
        self._socket.settimeout(seconds)
        return self._socket.recv(size)


class UnixStream(_SocketStream):
    """Over a Unix socket, with the operating system keeping the time.

    With a timeout of its own, Python asks the operating system five times for one answer, and hands the interpreter to
    another thread and back each time: with many callers that takes longer than all the rest of a call.

    Args:
        path: Of the socket.
        seconds: For connecting.

    Raises:
        OSError: Nobody listens there, or not in time.
    """

    host = "plugin"

    def __init__(self, path: Path, seconds: float | None) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._limit = 0.0
        try:
            self._socket.settimeout(seconds)
            self._socket.connect(str(path))
            self._socket.settimeout(None)
        except BaseException:
            self._socket.close()
            raise

    def send(self, data: bytes, seconds: float | None) -> None:
        """See :class:`Stream`."""
        try:
            sent = self._socket.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._socket.settimeout(seconds)
            self._socket.sendall(memoryview(data)[sent:])
            self._socket.settimeout(None)

    def receive(self, size: int, seconds: float | None) -> bytes:
        """See :class:`Stream`."""
        until = None if seconds is None else time.monotonic() + seconds
        # A limit that was set for an earlier call will do if it ends neither too late nor much too early.
        if not (seconds or 0.0) / 2 <= self._limit <= (seconds or 0.0):
            self._set_limit(seconds or 0.0)
        while True:
            try:
                return self._socket.recv(size)
            except BlockingIOError:
                left = 0.0 if until is None else until - time.monotonic()
                if left <= 0:
                    raise TimeoutError from None
                self._set_limit(left)

    def _set_limit(self, seconds: float) -> None:
        """Have the operating system end a wait after so many seconds; 0 for never, as socket(7) says."""
        self._limit = seconds
        microseconds = max(1000, int(seconds * 1e6)) if seconds else 0
        limit = struct.pack("@ll", *divmod(microseconds, 1_000_000))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
