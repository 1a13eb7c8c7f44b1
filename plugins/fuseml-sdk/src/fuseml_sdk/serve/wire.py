"""HTTP/1.1 as far as the host and this runtime need it: read a request, write a response (RFC 9112)."""

from __future__ import annotations

import re
import socket
import time
from dataclasses import dataclass, field

#: Most bytes in the request line and all headers together.
MAX_HEAD = 32 * 1024
#: Most bytes in a body.
MAX_BODY = 64 * 1024 * 1024
#: Seconds that a request, once begun, may take to arrive, and that a response may take to leave.
TRANSFER_TIMEOUT = 30.0
_PIECE = 64 * 1024
_END = re.compile(rb"\r?\n\r?\n")

_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 411: "Length Required",
            413: "Content Too Large", 431: "Request Header Fields Too Large", 499: "Cancelled",
            500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable"}


class BadRequest(Exception):
    """A request that cannot be understood; the connection is closed after the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class Request:
    """One request; header names are lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def keep_alive(self) -> bool:
        """Whether the client wants the connection kept."""
        return self.headers.get("connection", "").lower() != "close"


@dataclass(frozen=True, slots=True)
class Response:
    """One response with its whole body."""

    status: int
    body: bytes
    media_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)

    def encode(self, *, keep_alive: bool) -> bytes:
        """The bytes on the wire."""
        more = "".join([f"{name}: {value}\r\n" for name, value in self.headers.items()])
        if not keep_alive:
            more += "connection: close\r\n"
        head = (f"HTTP/1.1 {self.status} {_REASONS.get(self.status, 'Status')}\r\ncontent-type: {self.media_type}\r\n"
                f"content-length: {len(self.body)}\r\n{more}\r\n")
        return head.encode("latin-1") + self.body


class Requests:
    """Reads the requests that come over one connection, one after the other.

    Hosts send small requests in one piece; one that has arrived whole is read with one call of the operating system.

    Args:
        connection: Blocking, without a timeout.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = b""
        self._until = 0.0

    @property
    def empty(self) -> bool:
        """Whether nothing has been read that was not given out."""
        return not self._buffer

    def poll(self) -> bool:
        """Read what has arrived, without waiting. Returns false when the client has closed the connection."""
        try:
            piece = self._connection.recv(_PIECE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        self._buffer = self._buffer + piece if self._buffer else piece
        return bool(piece)

    def whole(self) -> Request | None:
        """The next request, if all of it has been read; otherwise everything stays as it is.

        Raises:
            BadRequest: It is malformed or larger than the limits; :meth:`next` will say the same.
        """
        found = _END.search(self._buffer)
        if found is None or found.start() > MAX_HEAD:
            return None
        method, path, headers = _head(self._buffer[:found.start()].decode("latin-1"))
        end = found.end() + _length(headers)
        if len(self._buffer) < end:
            return None
        body, self._buffer = self._buffer[found.end():end], self._buffer[end:]
        return Request(method, path, headers, body)

    def next(self) -> Request:
        """The next request, of which something has been read already; waits for the rest.

        Raises:
            BadRequest: It is malformed or larger than the limits.
            OSError: The connection broke or stalled.
        """
        request = self.whole()
        if request is not None:
            return request
        self._until = time.monotonic() + TRANSFER_TIMEOUT
        method, path, headers = _head(self._upto_the_body())
        body = self._exactly(_length(headers))
        self._connection.settimeout(None)
        return Request(method, path, headers, body)

    def _upto_the_body(self) -> str:
        begin = 0
        while (found := _END.search(self._buffer, begin)) is None and len(self._buffer) <= MAX_HEAD:
            begin = max(0, len(self._buffer) - 3)
            self._buffer += self._more("headers")
        if found is None or found.start() > MAX_HEAD:
            raise BadRequest(431, f"the headers are larger than {MAX_HEAD} bytes")
        head, self._buffer = self._buffer[:found.start()], self._buffer[found.end():]
        return head.decode("latin-1")

    def _exactly(self, size: int) -> bytes:
        if len(self._buffer) < size:
            pieces, missing = [self._buffer], size - len(self._buffer)
            while missing > 0:
                pieces.append(self._more("body"))
                missing -= len(pieces[-1])
            self._buffer = b"".join(pieces)
        body, self._buffer = self._buffer[:size], self._buffer[size:]
        return body

    def _more(self, where: str) -> bytes:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request did not arrive in time")
        self._connection.settimeout(left)
        piece = self._connection.recv(_PIECE)
        if not piece:
            raise BadRequest(400, f"the request ends within its {where}")
        return piece


def send(connection: socket.socket, data: bytes) -> None:
    """Send a response over a blocking connection; small ones leave at once.

    Raises:
        OSError: The connection broke, or the other side does not read within :data:`TRANSFER_TIMEOUT`.
    """
    try:
        sent = connection.send(data, socket.MSG_DONTWAIT)
    except BlockingIOError:
        sent = 0
    if sent < len(data):
        connection.settimeout(TRANSFER_TIMEOUT)
        connection.sendall(memoryview(data)[sent:])
        connection.settimeout(None)


def _head(text: str) -> tuple[str, str, dict[str, str]]:
    """Method, path and headers."""
    first, *lines = text.split("\n")
    parts = first.rstrip("\r").split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise BadRequest(400, "the request line is not `METHOD path HTTP/1.1`")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise BadRequest(400, "a header is not `name: value`")
        name, value = name.lower(), value.strip()
        if headers.get(name, value) != value and name == "content-length":
            raise BadRequest(400, "the values of content-length disagree")
        headers[name] = value
    return parts[0], parts[1].partition("?")[0], headers


def _length(headers: dict[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise BadRequest(411, "a body needs content-length; transfer encodings are not accepted")
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise BadRequest(400, "content-length is not a number")
    # Python converts no number of thousands of digits; one of so many is too large anyway.
    if len(length) > 20 or int(length) > MAX_BODY:
        raise BadRequest(413, f"the body is larger than {MAX_BODY} bytes")
    return int(length)
