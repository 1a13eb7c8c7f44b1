"""Writes requests to plugins and reads their answers: HTTP/1.1 (RFC 9112), as much as a client of plugins needs.

Not `http.client`, for three reasons: its limits of time hold for each read and not for the answer, it reads as much as
it is sent, and reading headers takes it longer than the whole rest of a call.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from fuseml_core.host.streams import Stream
from fuseml_sdk.errors import Internal

#: Most bytes of the head of an answer, and of its body.
MAX_HEAD, MAX_ANSWER = 64 * 1024, 64 * 1024 * 1024
_PIECE = 64 * 1024
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: |$)")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,12})[ \t]*(?:;|$)")
#: The head of nearly every answer: a result, as our own runtime writes it.
_RESULT = re.compile(rb"HTTP/1\.1 200 OK\r\ncontent-type: ([!-~]+)\r\ncontent-length: (\d{1,7})\r\n"
                     rb"(?:fuseml-call-id: [!-~]*\r\n)?\r\n")


class Lost(Exception):
    """The connection ended before the answer; nobody knows whether the request was acted upon."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response with its whole body."""

    status: int
    media_type: str
    body: bytes


def encode(method: str, path: str, host: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """The bytes of a request; headers are our own and hold no line breaks."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if body is not None:
        lines += f"content-length: {len(body)}\r\n"
    return f"{method} {path} HTTP/1.1\r\nhost: {host}\r\n{lines}\r\n".encode("latin-1") + (body or b"")


class Receiver:
    """Reads one answer.

    Args:
        stream: Where the request was sent.
        until: When to give up, in seconds of `time.monotonic()`; None for never.
    """

    def __init__(self, stream: Stream, until: float | None) -> None:
        self._stream = stream
        self._until = until
        self._buffer = bytearray()

    def receive(self) -> tuple[Answer, bool]:
        """Read the answer.

        Returns:
            The answer, and whether the connection can be used again.

        Raises:
            TimeoutError: It was not there in time.
            Lost: The connection ended first.
            Internal: It is no HTTP, or larger than the limits.
        """
        self._more()
        result = _RESULT.match(self._buffer)
        if result is not None and len(self._buffer) - result.end() == int(result[2]):
            return Answer(200, result[1].decode("ascii"), bytes(self._buffer[result.end():])), True
        status, headers = self._head()
        while 100 <= status < 200:
            if status == 101:
                raise Internal("the plugin answered with another protocol (101), which nobody asked for")
            status, headers = self._head()
        encoding = headers.get(b"content-encoding", b"identity").lower()
        if encoding != b"identity":
            raise Internal(f"the plugin answered with the content encoding {encoding[:40]!r}, which nobody asked for")
        keep = b"close" not in headers.get(b"connection", b"").lower()
        if status in (204, 304):
            body = b""
        elif b"chunked" in headers.get(b"transfer-encoding", b"").lower():
            if b"content-length" in headers:
                raise Internal("the plugin answered in chunks and with a content-length")
            body = self._chunks()
        elif b"content-length" in headers:
            body = self._exactly(_length(headers[b"content-length"]))
        else:
            body, keep = self._to_the_end(), False
        media_type = headers.get(b"content-type", b"").decode("latin-1")
        return Answer(status, media_type, body), keep and not self._buffer

    def _head(self) -> tuple[int, dict[bytes, bytes]]:
        lines = self._upto(b"\r\n\r\n", MAX_HEAD, "the head of its answer", first=True).split(b"\r\n")
        match = _STATUS.match(lines[0])
        if match is None:
            raise _garbage(lines[0])
        headers: dict[bytes, bytes] = {}
        for line in lines[1:]:
            name, colon, value = line.partition(b":")
            if not colon:
                raise Internal(f"the plugin answered with a header that is none: {line[:60]!r}")
            name, value = name.lower(), value.strip()
            if headers.setdefault(name, value) != value and name == b"content-length":
                raise Internal("the plugin answered with two values of content-length")
            headers[name] = value
        return int(match[1]), headers

    def _chunks(self) -> bytes:
        body = bytearray()
        while True:
            match = _SIZE.match(self._upto(b"\r\n", 1024, "the size of a chunk"))
            if match is None:
                raise Internal("the plugin answered with a chunk whose size is no number")
            size = int(match[1], 16)
            _check_size(len(body) + size)
            if size == 0:
                while self._upto(b"\r\n", MAX_HEAD, "the end of its answer"):
                    pass
                return bytes(body)
            body += self._exactly(size)
            if self._exactly(2) != b"\r\n":
                raise Internal("the plugin answered with a chunk that is longer than its size")

    def _upto(self, end: bytes, limit: int, what: str, *, first: bool = False) -> bytes:
        begin = 0
        while (at := self._buffer.find(end, begin)) < 0:
            if first and not b"HTTP/1.".startswith(bytes(self._buffer[:7])):
                raise _garbage(bytes(self._buffer[:60]))
            if len(self._buffer) > limit:
                break
            begin = max(0, len(self._buffer) - len(end))
            self._more()
        if at < 0 or at > limit:
            raise Internal(f"the plugin answered with more than {limit} bytes in {what}")
        found = bytes(self._buffer[:at])
        del self._buffer[:at + len(end)]
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        found = bytes(self._buffer[:size])
        del self._buffer[:size]
        return found

    def _to_the_end(self) -> bytes:
        while piece := self._piece():
            self._buffer += piece
            _check_size(len(self._buffer))
        found = bytes(self._buffer)
        self._buffer.clear()
        return found

    def _more(self) -> None:
        piece = self._piece()
        if not piece:
            raise Lost("the connection was closed " + ("within the answer" if self._buffer else "before the answer"))
        self._buffer += piece

    def _piece(self) -> bytes:
        left = None if self._until is None else self._until - time.monotonic()
        if left is not None and left <= 0:
            raise TimeoutError
        try:
            return self._stream.receive(_PIECE, left)
        except TimeoutError:
            raise
        except OSError as error:
            raise Lost(f"{type(error).__name__}: {error}") from None


def _length(value: bytes) -> int:
    if not (value.isascii() and value.isdigit()):
        raise Internal(f"the plugin answered with a content-length that is no number: {value[:40]!r}")
    # Python converts no number of thousands of digits; one of so many is too large anyway.
    _check_size(int(value.lstrip(b"0")[:20] or b"0"))
    return int(value)


def _check_size(size: int) -> None:
    if size > MAX_ANSWER:
        raise Internal(f"the plugin answered with {size} bytes or more; at most {MAX_ANSWER} are read",
                       hint="Answer with a page and a cursor, or with a location.")


def _garbage(start: bytes) -> Internal:
    return Internal(f"the plugin answered with something that is no HTTP: {start[:60]!r}",
                    hint="Something else than the serve runtime writes to its connection.")
