"""HTTP/1.1 on a listening socket: keep-alive, prompt answers, limits, an orderly end."""

from __future__ import annotations

import contextlib
import http.server
import socket
import socketserver
import sys
import threading
import time
import traceback
from http import HTTPStatus
from typing import Any

from .errors import RequestError
from .model import Model
from .results import encode
from .routes import handle

#: Bytes a body may have.
MAX_BODY = 64 * 1024 * 1024
#: Seconds a connection may be idle, or a client may take for a piece of its request.
IDLE_TIMEOUT = 600.0


class Connection(http.server.BaseHTTPRequestHandler):
    """One connection; requests follow each other on it."""

    protocol_version = "HTTP/1.1"
    server_version = "fuseml"
    sys_version = ""
    timeout = IDLE_TIMEOUT
    wbufsize = -1  # head and body leave in one piece
    server: Listener

    def setup(self) -> None:
        """Answers must not wait for the acknowledgement of earlier ones."""
        if self.request.family in (socket.AF_INET, socket.AF_INET6):
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().setup()
        self.server.opened(self.request)

    def finish(self) -> None:
        """Forget the connection."""
        self.server.closed(self.request)
        super().finish()

    def parse_request(self) -> bool:
        """A request has begun: the connection is not idle."""
        self.server.busy(self.request)
        return super().parse_request()

    def handle_one_request(self) -> None:
        """Answer one request; a connection that broke is not worth a word."""
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        if not self.server.idle(self.request):
            self.close_connection = True

    def do_GET(self) -> None:
        """Answer GET."""
        self._answer()

    def do_HEAD(self) -> None:
        """Answer HEAD: as GET, without the body."""
        self._answer()

    def do_POST(self) -> None:
        """Answer POST."""
        self._answer()

    def do_PUT(self) -> None:
        """Refuse PUT, as it should be refused."""
        self._answer()

    def do_DELETE(self) -> None:
        """Refuse DELETE, as it should be refused."""
        self._answer()

    def _answer(self) -> None:
        try:
            body = self._body()
            status, document = handle(self.server.model, self.command, self.path.partition("?")[0], body)
        except RequestError as error:
            status, document = error.status, {"error": error.message}
        except Exception as error:
            traceback.print_exc()
            status, document = 500, {"error": f"the model failed: {type(error).__name__}: {error}"}
        self._send(status, encode(document))

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return self._chunks()
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit():
            self.close_connection = True
            msg = "Content-Length is not a number"
            raise RequestError(msg)
        self._check_size(int(length))
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            self.close_connection = True
            msg = "the body ended early"
            raise RequestError(msg)
        return body

    def _chunks(self) -> bytes:
        """Read a chunked body (RFC 9112, section 7.1)."""
        parts, total = [], 0
        try:
            while True:
                size = int(self.rfile.readline(1024).partition(b";")[0], 16)
                total += size
                self._check_size(total)
                if size == 0:
                    break
                parts.append(self.rfile.read(size))
                self.rfile.readline(8)
            while self.rfile.readline(65536).strip():
                pass
        except ValueError:
            self.close_connection = True
            msg = "the chunks of the body cannot be read"
            raise RequestError(msg) from None
        return b"".join(parts)

    def _check_size(self, size: int) -> None:
        if size > self.server.max_body:
            self.close_connection = True
            msg = f"the body is larger than {self.server.max_body} bytes"
            raise RequestError(msg, 413)

    def _send(self, status: int, body: bytes) -> None:
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection or self.server.draining:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Errors found by http.server itself are JSON too."""
        self.close_connection = True
        self.command = self.command or "GET"
        self._send(code, encode({"error": message or explain or HTTPStatus(code).phrase}))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - name given by http.server
        """The gateway logs requests; a second line for each would cost more than the prediction."""


class Listener(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Accepts connections on a socket that is already listening; one thread each."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, listening: socket.socket, model: Model, max_body: int = MAX_BODY) -> None:
        super().__init__(("127.0.0.1", 0), Connection, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.model = model
        self.max_body = max_body
        self.draining = False
        self._states: dict[socket.socket, bool] = {}
        self._changed = threading.Condition()

    def opened(self, connection: socket.socket) -> None:
        """A connection was accepted; the first request is on its way."""
        with self._changed:
            self._states[connection] = False

    def busy(self, connection: socket.socket) -> None:
        """A request is being read or answered."""
        with self._changed:
            self._states[connection] = True

    def idle(self, connection: socket.socket) -> bool:
        """A request was answered. Returns whether another may follow."""
        with self._changed:
            self._states[connection] = False
            self._changed.notify_all()
            return not self.draining

    def closed(self, connection: socket.socket) -> None:
        """A connection has ended."""
        with self._changed:
            self._states.pop(connection, None)
            self._changed.notify_all()

    def drain(self, grace: float) -> None:
        """Accept no more, end idle connections, wait for answers under way.

        Args:
            grace: Seconds to wait at most.
        """
        self.shutdown()
        deadline = time.monotonic() + grace
        with self._changed:
            self.draining = True
            for connection, busy in self._states.items():
                if not busy:
                    _stop_reading(connection)
            while self._states and time.monotonic() < deadline:
                self._changed.wait(deadline - time.monotonic())
        self.socket.close()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """A broken connection is of no interest; anything else is a defect worth a trace."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            traceback.print_exc()


def _stop_reading(connection: socket.socket) -> None:
    """What has arrived can still be read and answered; then the connection ends."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RD)
