"""uvicorn's HTTP protocol with bounds that it lacks: time and bytes for the head of a request."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Bytes of a request's target and headers, and how many headers.
MAX_HEAD, MAX_HEADERS = 64 << 10, 200
#: Seconds from a connection, or from an answer, until the next request's head is complete.
HEAD_TIMEOUT = 30.0
#: Seconds for a client to end a connection over TLS in order.
FAREWELL = 1.0


class PatientlessProtocol(HttpToolsProtocol):
    """Closes connections that send no complete head in time, and answers 431 to heads that are too large."""

    _head = 0
    _count = 0
    _timer: asyncio.TimerHandle | None = None
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for a request."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop to wait."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; after a refusal none."""
        if not self._refused:
            super().data_received(data)

    def on_message_begin(self) -> None:
        """Start to count."""
        self._head = self._count = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Count a part of the target."""
        self._add(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header."""
        self._count += 1
        self._add(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is there; what follows has limits of its own."""
        self._stop_waiting()
        if not self._refused:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        if not self._refused:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if self.transport is not None and not self.transport.is_closing():
            self._wait()

    def shutdown(self) -> None:
        """End an idle connection when the server stops; over TLS, without waiting for the client's farewell."""
        super().shutdown()
        if self.transport.is_closing():
            self.loop.call_later(FAREWELL, self.transport.abort)

    def _add(self, count: int) -> None:
        self._head += count
        if (self._head > MAX_HEAD or self._count > MAX_HEADERS) and not self._refused:
            self._refused = True
            body = b'{"errors": [{"code": "UNSUPPORTED", "message": "the head of the request is too large"}]}'
            self.transport.write(b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\n"
                                 b"content-length: %d\r\nconnection: close\r\n\r\n%b" % (len(body), body))
            self.transport.close()

    def _wait(self) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(HEAD_TIMEOUT, self._give_up)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.abort()


def protocol() -> Any:
    """The class, as uvicorn's configuration wants it."""
    return PatientlessProtocol
