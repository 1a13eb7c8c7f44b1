"""The process with the model: started, asked, and ended with this one."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Seconds that one prediction may take; the gateway gives up earlier.
TIMEOUT = 600.0
#: Bytes that the path of a Unix socket may have on every system.
_LONGEST = 90
_PAUSE = 0.1
#: Becomes the program, with the socket as descriptor 3; shells do that for descriptors below 10 only.
_LAUNCHER = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.execvp(sys.argv[2], sys.argv[2:])"


@dataclass(frozen=True)
class Answer:
    """What the process with the model answered: HTTP status and JSON document."""

    status: int
    document: Any

    @property
    def error(self) -> str:
        """Why there is no result."""
        given = self.document.get("error") if isinstance(self.document, dict) else None
        return str(given or f"the model answered with {self.status}")


class Backend:
    """A server with one model, in another environment, on a Unix socket that nobody else knows.

    Its standard input is a pipe whose other end this process and its children hold: it ends when all of them have
    ended, however that happens, and not before, so that no answer under way is lost.

    Args:
        command: What starts it; it serves on descriptor 3.

    Attributes:
        ending: Whether its end is wanted.
    """

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._folder = _short_folder()
        self._address = str(self._folder / "model")
        self._connections = threading.local()
        self._open: set[http.client.HTTPConnection] = set()
        self.ending = False
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it may not be ready for a while. Raises OSError if the program is not there."""
        listening = socket.socket(socket.AF_UNIX)
        try:
            listening.bind(self._address)
            listening.listen(256)
            launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(listening.fileno())]
            self._process = subprocess.Popen(
                [*launcher, *self._command], stdin=subprocess.PIPE, pass_fds=[listening.fileno()],
                env={**_without_own_environment(), "LISTEN_FDS": "1"})
        finally:
            listening.close()

    def wait_until_ready(self) -> bool:
        """Wait until predictions can be made; False if it ended before that."""
        while self.exit_code is None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.ask("GET", "/v2/health/ready").status == 200:
                    return True
            time.sleep(_PAUSE)
        return False

    @property
    def exit_code(self) -> int | None:
        """Its exit code; None while it runs. Only for the process that started it."""
        return self._process.poll() if self._process else 0

    def wait(self) -> int:
        """Wait for its end, and return its exit code."""
        return self._process.wait() if self._process else 0

    def ask(self, method: str, path: str, document: Any = None) -> Answer:
        """Ask it once; on a kept connection that has ended meanwhile, once more.

        Args:
            method: GET or POST.
            path: Such as `/predict`.
            document: JSON body of a POST.

        Raises:
            OSError: It does not answer.
            http.client.HTTPException: Its answer is cut off.
        """
        body = None if document is None else json.dumps(document, separators=(",", ":")).encode()
        kept = getattr(self._connections, "kept", None)
        if kept is not None:
            try:
                return _exchange(kept, method, path, body)
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                self._forget(kept)  # it was idle for too long
        fresh = _Connection(self._address)
        try:
            answer = _exchange(fresh, method, path, body)
        except BaseException:
            self._forget(fresh)
            raise
        self._connections.kept = fresh
        self._open.add(fresh)
        return answer

    def _forget(self, connection: http.client.HTTPConnection) -> None:
        self._connections.kept = None
        self._open.discard(connection)
        connection.close()

    def end(self, patience: float = 30.0) -> None:
        """Let go of its lifeline, wait for its end, and remove the socket.

        Args:
            patience: Seconds until it is killed.
        """
        self.ending, process = True, self._process
        for connection in list(self._open):
            connection.close()
        if process is not None:
            if process.stdin is not None:
                process.stdin.close()
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, address: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._address = address

    def connect(self) -> None:
        """Connect to the path instead of a port."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(self._address)


def _exchange(connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None) -> Answer:
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"} if body is not None else {})
        answer = connection.getresponse()
        text = answer.read()
    except http.client.RemoteDisconnected:
        raise
    except (OSError, http.client.HTTPException):
        connection.close()
        raise
    return Answer(answer.status, json.loads(text) if text else None)


def _short_folder() -> Path:
    """A folder that only we may enter, with a path short enough for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="seldon-"))
    if len(str(folder).encode()) <= _LONGEST:
        return folder
    folder.rmdir()
    return Path(tempfile.mkdtemp(prefix="fuseml-seldon-", dir="/tmp"))  # made with mode 0700


def _without_own_environment() -> dict[str, str]:
    """Our variables without those that point into our own virtual environment."""
    own = os.environ.get("VIRTUAL_ENV", "")
    path = [entry for entry in os.environ.get("PATH", "").split(os.pathsep) if not own or entry != f"{own}/bin"]
    dropped = ("LISTEN_FDS", "LISTEN_PID", "VIRTUAL_ENV", "PYTHONPATH")
    return {**{key: value for key, value in os.environ.items() if key not in dropped}, "PATH": os.pathsep.join(path)}
