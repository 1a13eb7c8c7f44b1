"""Small requests of the launcher and the command line to the server's private sockets."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any

from fuseml_core.domain.errors import Unavailable


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's path instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(path: Path, method: str, target: str, body: dict[str, Any] | None = None, *, timeout: float = 5.0) -> Any:
    """Send one request to a Unix socket and return the JSON document of the answer.

    Args:
        path: The socket.
        method: HTTP method.
        target: Path and query.
        body: JSON document to send.
        timeout: Seconds each step may take.

    Raises:
        Unavailable: Nobody answers, or the answer is no success.
    """
    connection = _UnixConnection(path, timeout)
    try:
        payload = None if body is None else json.dumps(body).encode()
        connection.request(method, target, payload, {"Content-Type": "application/json"} if payload else {})
        response = connection.getresponse()
        data = response.read()
        if response.status >= 400:
            raise Unavailable(f"{method} {target} was answered with status {response.status}: "
                              f"{data[:500].decode('utf-8', 'replace')}", details={"status": response.status})
        return json.loads(data) if data else None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unavailable(f"{method} {target} was not answered: {error or type(error).__name__}") from None
    finally:
        connection.close()
