"""HTTP/1.1 as far as the host and this runtime need it: read a request, write a response (RFC 9112)."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from io import BufferedReader

#: Most bytes in the request line and all headers together.
MAX_HEAD = 32 * 1024
#: Most bytes in a body.
MAX_BODY = 64 * 1024 * 1024
#: Seconds that a request, once begun, may take to arrive, and that a response may take to leave.
TRANSFER_TIMEOUT = 30.0

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
        lines = [f"HTTP/1.1 {self.status} {_REASONS.get(self.status, 'Status')}",
                 f"content-type: {self.media_type}", f"content-length: {len(self.body)}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if not keep_alive:
            lines.append("connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + self.body


def read_request(stream: BufferedReader, connection: socket.socket) -> Request | None:
    """Wait without limit for the first byte, then read one request.

    Returns:
        The request, or None when the client has closed the connection.

    Raises:
        BadRequest: It is malformed or larger than the limits.
        OSError: The connection broke or stalled.
    """
    connection.settimeout(None)
    if not stream.peek(1):
        return None
    connection.settimeout(TRANSFER_TIMEOUT)
    budget = MAX_HEAD
    line = _line(stream, budget)
    parts = line.split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise BadRequest(400, "the request line is not `METHOD path HTTP/1.1`")
    budget -= len(line)
    headers: dict[str, str] = {}
    while line := _line(stream, budget):
        budget -= len(line)
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise BadRequest(400, "a header is not `name: value`")
        if headers.setdefault(name.lower(), value.strip()) != value.strip() and name.lower() == "content-length":
            raise BadRequest(400, "the values of content-length disagree")
        headers[name.lower()] = value.strip()
    return Request(parts[0], parts[1].partition("?")[0], headers, _body(stream, headers))


def _line(stream: BufferedReader, budget: int) -> str:
    raw = stream.readline(max(budget, 0) + 1)
    if len(raw) > budget:
        raise BadRequest(431, f"the headers are larger than {MAX_HEAD} bytes")
    if not raw.endswith(b"\n"):
        raise BadRequest(400, "the request ends within its headers")
    return raw.decode("latin-1").rstrip("\r\n")


def _body(stream: BufferedReader, headers: dict[str, str]) -> bytes:
    if "transfer-encoding" in headers:
        raise BadRequest(411, "a body needs content-length; transfer encodings are not accepted")
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise BadRequest(400, "content-length is not a number")
    if int(length) > MAX_BODY:
        raise BadRequest(413, f"the body is larger than {MAX_BODY} bytes")
    body = stream.read(int(length))
    if len(body) < int(length):
        raise BadRequest(400, "the request ends within its body")
    return body
