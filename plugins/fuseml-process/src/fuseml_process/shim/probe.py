"""Asking a starting service whether it is ready, without a thread and without an HTTP library."""

from __future__ import annotations

import socket

_PATIENCE = 5.0
_PAUSE = 0.1


class Probe:
    """One readiness question at a time to a service.

    A service that inherits a listening socket answers the moment it accepts, because the question already waits
    in its backlog.

    Args:
        address: Path of a Unix socket, or a TCP port on 127.0.0.1.
        path: What to GET; the answer 200 means ready.
    """

    def __init__(self, address: str | int, path: str) -> None:
        self._address, self._path = address, path
        self._socket: socket.socket | None = None
        self._answer = b""
        self.next_at = 0.0
        self.last = "it did not answer"

    def descriptor(self) -> int | None:
        """What to poll for reading; None between two questions."""
        return None if self._socket is None else self._socket.fileno()

    def tick(self, now: float) -> None:
        """Ask, or give up on an answer that takes too long."""
        if now < self.next_at:
            return
        self.close()
        self.next_at = now + _PAUSE
        try:
            self._socket = self._ask()
            self.next_at = now + _PATIENCE
        except OSError as error:
            self.last = f"it did not accept connections ({error.strerror or error})"

    def readable(self, now: float) -> bool:
        """Read what came; whether the service is ready."""
        if self._socket is None:
            return False
        try:
            block = self._socket.recv(4096)
        except BlockingIOError:
            return False
        except OSError:
            block = b""
        self._answer += block
        if block and b"\r\n" not in self._answer:
            return False
        status = self._answer.split(b"\r\n", 1)[0].split(b" ")
        if len(status) > 1 and status[0].startswith(b"HTTP/1.") and status[1] == b"200":
            self.close()
            return True
        code = status[1].decode(errors="replace") if len(status) > 1 else "nothing"
        self.last = f"GET {self._path} was answered with {code}"
        self.close()
        self.next_at = now + _PAUSE
        return False

    def close(self) -> None:
        """Forget the question under way."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._answer = None, b""

    def _ask(self) -> socket.socket:
        family = socket.AF_INET if isinstance(self._address, int) else socket.AF_UNIX
        target = ("127.0.0.1", self._address) if isinstance(self._address, int) else self._address
        asking = socket.socket(family, socket.SOCK_STREAM)
        try:
            asking.settimeout(0.5)
            asking.connect(target)
            asking.sendall(f"GET {self._path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            asking.setblocking(False)
        except OSError:
            asking.close()
            raise
        return asking
