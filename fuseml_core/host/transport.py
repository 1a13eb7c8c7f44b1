"""HTTP with a small pool of kept connections, over a Unix socket or any other kind of connection."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from fuseml_core.host.answers import Answer, Lost, Receiver, encode

__all__ = ["Answer", "ConnectionPool", "Lost", "UnixConnection", "Unsent"]

#: Idle connections kept open.
KEPT = 32


class Unsent(Exception):
    """The request never reached the other side whole, so it was not acted upon."""


class UnixConnection(http.client.HTTPConnection):
    """An HTTP connection to a Unix socket; not connected yet."""

    def __init__(self, path: Path) -> None:
        super().__init__("plugin")
        self._path = path

    def connect(self) -> None:
        """Connect, within the timeout."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class ConnectionPool:
    """Connections to one plugin. Closing it ends requests that still wait.

    Args:
        target: The Unix socket, or what makes connections that are not connected yet.
    """

    def __init__(self, target: Path | Callable[[], http.client.HTTPConnection]) -> None:
        self._make = (lambda: UnixConnection(target)) if isinstance(target, Path) else target
        self._lock = threading.Lock()
        self._idle: list[http.client.HTTPConnection] = []
        self._busy: set[http.client.HTTPConnection] = set()
        self._closed = False

    def request(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str],
                timeout: float | None) -> Answer:
        """Send one request and wait for its answer.

        Args:
            method: Of the request.
            path: Of the request.
            body: Of the request; None for none.
            headers: Of the request.
            timeout: Seconds to wait for the answer; None waits as long as the process lives.

        Raises:
            TimeoutError: No answer in time.
            Unsent: The process is gone and did not get the request.
            Lost: The process went away after it got the request.
            Internal: The answer is no HTTP, or too large.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            connection, fresh = self._take(timeout)
            try:
                connection.sock.sendall(encode(method, path, _host(connection), headers, body))
            except TimeoutError:
                self._discard(connection)
                raise
            except OSError as error:
                self._discard(connection)
                if fresh:
                    raise Unsent(str(error)) from None
                continue  # A kept connection that the other side has closed meanwhile.
            except BaseException:
                self._discard(connection)
                raise
            return self._receive(connection, until)

    def close(self) -> None:
        """Refuse new requests and end those that wait: the process is gone."""
        with self._lock:
            self._closed = True
            for connection in self._busy:
                _hang_up(connection)  # Its own thread wakes up and closes it.
            for connection in self._idle:
                connection.close()
            self._idle.clear()

    def _receive(self, connection: http.client.HTTPConnection, until: float | None) -> Answer:
        try:
            answer, keep = Receiver(connection.sock, until).receive()
        except BaseException:
            self._discard(connection)  # The other side sees that we have given up.
            raise
        self._give_back(connection, keep=keep)
        return answer

    def _take(self, timeout: float | None) -> tuple[http.client.HTTPConnection, bool]:
        with self._lock:
            if self._closed:
                raise Unsent("the process has ended")
            connection = self._idle.pop() if self._idle else None
            if connection is not None:
                self._busy.add(connection)
        if connection is not None:
            connection.sock.settimeout(timeout)
            return connection, False
        return self._connect(timeout), True

    def _connect(self, timeout: float | None) -> http.client.HTTPConnection:
        connection = self._make()
        connection.timeout = timeout
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            if isinstance(error, TimeoutError):
                raise
            raise Unsent(str(error)) from None
        with self._lock:
            if self._closed:
                connection.close()
                raise Unsent("the process has ended")
            self._busy.add(connection)
        return connection

    def _give_back(self, connection: http.client.HTTPConnection, *, keep: bool) -> None:
        with self._lock:
            self._busy.discard(connection)
            if keep and not self._closed and len(self._idle) < KEPT:
                self._idle.append(connection)
                return
        connection.close()

    def _discard(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            self._busy.discard(connection)
        connection.close()


def _host(connection: http.client.HTTPConnection) -> str:
    name = f"[{connection.host}]" if ":" in connection.host else connection.host
    return name if connection.port == connection.default_port else f"{name}:{connection.port}"


def _hang_up(connection: http.client.HTTPConnection) -> None:
    # Shut down and not closed: another thread may be waiting on this descriptor, and must wake up.
    try:
        connection.sock.shutdown(socket.SHUT_RDWR)
    except (OSError, AttributeError):
        return
