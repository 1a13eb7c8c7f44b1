"""How a request reaches a plugin: through a Unix socket, TCP, or an application in this process."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from fuseml_sdk.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Answer:
    """A response of a plugin; header names are lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Exchange(Protocol):
    """Sends one request and returns its answer."""

    def __call__(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str],
                 seconds: float) -> Answer:
        """Send it.

        Raises:
            OSError: The plugin did not answer in `seconds`, or went away.
        """


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("plugin", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class HttpExchange:
    """Speaks HTTP/1.1 to a socket, one connection for each request.

    Args:
        address: `unix:/path`, `http://host:port` or `https://host:port`.
        token: Sent as bearer token.

    Raises:
        InvalidInput: The address has another form.
    """

    def __init__(self, address: str, token: str = "") -> None:
        parts = urlsplit(address)
        usable = (parts.path if parts.scheme == "unix" else parts.hostname)
        if parts.scheme not in ("unix", "http", "https") or not usable:
            raise InvalidInput(f"{address!r} is not an address of a plugin",
                               hint="Write unix:/path/of/socket, http://host:port or https://host:port.")
        self.address = address
        self._parts = parts
        self._token = token

    def connection(self, seconds: float) -> http.client.HTTPConnection:
        """A connection that is not opened yet, for rules that break it off."""
        if self._parts.scheme == "unix":
            return _UnixConnection(self._parts.path, seconds)
        make = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        return make(self._parts.hostname or "", self._parts.port, timeout=seconds)

    def authorised(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Headers with the token."""
        return {**headers, **({"authorization": f"Bearer {self._token}"} if self._token else {})}

    def __call__(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str],
                 seconds: float) -> Answer:
        """See :class:`Exchange`."""
        connection = self.connection(seconds)
        try:
            connection.request(method, self._parts.path.rstrip("/") * (self._parts.scheme != "unix") + path, body,
                               self.authorised(headers))
            response = connection.getresponse()
            text = response.read()
            return Answer(response.status, text, {k.lower(): v for k, v in response.getheaders()})
        except http.client.HTTPException as error:
            raise OSError(f"the answer is not HTTP: {type(error).__name__}: {error}") from None
        finally:
            connection.close()


class ThreadExchange:
    """Calls an application in this process, in a thread of its own, so that a hook that hangs is noticed.

    Args:
        respond: Answers one request.
    """

    def __init__(self, respond: Exchange) -> None:
        self._respond = respond

    def __call__(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str],
                 seconds: float) -> Answer:
        """See :class:`Exchange`."""
        answers: list[Answer] = []
        failures: list[BaseException] = []

        def work() -> None:
            try:
                answers.append(self._respond(method, path, body, headers, seconds))
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=work, name="fuseml-testing-call", daemon=True)
        thread.start()
        thread.join(seconds)
        if failures:
            raise OSError(f"the application failed: {failures[0]!r}") from failures[0]
        if not answers:
            raise TimeoutError(f"no answer in {seconds:g} s")
        return answers[0]


def read_token(path: Path | None) -> str:
    """The bearer token in a file; empty without one."""
    return path.read_text(encoding="utf-8").strip() if path else ""
