"""HTTP with a small pool of kept connections."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from fuseml_core.host.answers import Answer, Lost, Receiver, encode
from fuseml_core.host.streams import Connect, Stream

__all__ = ["Answer", "ConnectionPool", "Lost", "Unsent"]

#: Idle connections kept open.
KEPT = 32
#: Seconds that a connection may rest and be used again without a look whether the other side has closed it meanwhile,
#: as servers do after some seconds.
RESTED = 0.01


class Unsent(Exception):
    """The request never reached the other side whole, so it was not acted upon."""


class ConnectionPool:
    """Connections to one plugin. Closing it ends requests that still wait.

    Args:
        connect: Makes a connection.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._open: set[Stream] = set()
        # Taking one and giving it back are one step of the interpreter each, and need no lock.
        self._idle: list[tuple[Stream, float]] = []
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
            stream, fresh = self._take(timeout)
            try:
                stream.send(encode(method, path, stream.host, headers, body), timeout)
            except TimeoutError:
                self._discard(stream)
                raise
            except OSError as error:
                self._discard(stream)
                if fresh:
                    raise Unsent(str(error)) from None
                continue  # A kept connection that the other side has closed meanwhile.
            except BaseException:
                self._discard(stream)
                raise
            return self._receive(stream, until)

    def close(self) -> None:
        """Refuse new requests and end those that wait: the process is gone."""
        with self._lock:
            self._closed = True
            for stream in self._open:
                stream.hang_up()
        self._close_idle()

    def _receive(self, stream: Stream, until: float | None) -> Answer:
        try:
            answer, keep = Receiver(stream, until).receive()
        except BaseException:
            self._discard(stream)  # The other side sees that we have given up.
            raise
        if keep and len(self._idle) < KEPT:
            self._idle.append((stream, time.monotonic()))
            if self._closed:
                self._close_idle()
        else:
            self._discard(stream)
        return answer

    def _take(self, timeout: float | None) -> tuple[Stream, bool]:
        if self._closed:
            raise Unsent("the process has ended")
        while True:
            try:
                stream, since = self._idle.pop()
            except IndexError:
                return self._fresh(timeout), True
            if time.monotonic() - since < RESTED or stream.is_quiet():
                return stream, False
            # Servers close connections that rest, some with a farewell; neither is the answer to a request.
            self._discard(stream)

    def _fresh(self, timeout: float | None) -> Stream:
        try:
            stream = self._connect(timeout)
        except TimeoutError:
            raise
        except OSError as error:
            raise Unsent(str(error)) from None
        with self._lock:
            if not self._closed:
                self._open.add(stream)
                return stream
        stream.close()
        raise Unsent("the process has ended")

    def _close_idle(self) -> None:
        while self._idle:
            try:
                stream, _ = self._idle.pop()
            except IndexError:  # somebody else took the last one
                return
            self._discard(stream)

    def _discard(self, stream: Stream) -> None:
        with self._lock:
            self._open.discard(stream)
        stream.close()
