"""Keep-alive HTTP/1.1 connections to services and to the control process, on h11."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
import sys
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import h11

from fuseml_core.gateway.endpoint import Endpoint

CONNECT_TIMEOUT = 5.0
RESPONSE_TIMEOUT = 300.0
#: Idle connections kept for each endpoint, and seconds before an idle one is not used again.
POOL_SIZE = 32
IDLE_LIMIT = 4.0
READ_SIZE = 256 * 1024


class Refused(Exception):
    """No connection could be made: nothing was sent."""


class ClosedEarly(Exception):
    """The connection ended before the head of a response came."""


class Broken(Exception):
    """The response does not follow HTTP/1.1, or ended in its middle."""


class Connection:
    """One connection, used for one exchange at a time."""

    def __init__(self, endpoint: Endpoint, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.endpoint = endpoint
        self.idle_since = 0.0
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT)

    def write(self, *events: h11.Request | h11.Data | h11.EndOfMessage) -> None:
        """Queue parts of a request without waiting. Raises ClosedEarly when the connection is gone."""
        try:
            self._writer.write(b"".join([self._http.send(event) or b"" for event in events]))
        except (OSError, RuntimeError, h11.LocalProtocolError) as error:
            raise ClosedEarly(str(error)) from None

    async def drain(self) -> None:
        """Wait until the peer has taken most of what was written."""
        try:
            async with asyncio.timeout(RESPONSE_TIMEOUT):
                await self._writer.drain()
        except OSError as error:
            raise ClosedEarly(str(error)) from None

    async def head(self) -> h11.Response:
        """Return the head of the response; informational ones are passed over.

        Raises:
            ClosedEarly: The connection ended first.
            TimeoutError: Nothing came within `RESPONSE_TIMEOUT`.
            Broken: What came is not HTTP.
        """
        async with asyncio.timeout(RESPONSE_TIMEOUT):
            while True:
                event = self._next()
                if event is h11.NEED_DATA:
                    await self._read(ClosedEarly)
                elif isinstance(event, h11.Response):
                    return event
                elif not isinstance(event, h11.InformationalResponse):
                    raise ClosedEarly("closed before the response")

    async def body(self) -> AsyncGenerator[tuple[bytes, bool], None]:
        """Yield pieces of the body as they come, each with whether more follows; the last says False."""
        piece = b""
        while True:
            event = self._next()
            if isinstance(event, h11.Data):
                if piece:
                    yield piece, True
                piece = bytes(event.data)
            elif event is h11.NEED_DATA:
                if piece:
                    yield piece, True
                    piece = b""
                async with asyncio.timeout(RESPONSE_TIMEOUT):
                    await self._read(Broken)
            else:
                yield piece, False
                return

    def abort(self) -> None:
        """Drop the connection at once; whoever reads from it sees its end."""
        with contextlib.suppress(Exception):
            self._writer.transport.abort()

    def renew(self) -> bool:
        """Make the connection ready for another exchange. Returns False when it has to be dropped."""
        if self._writer.is_closing() or self._reader.at_eof():
            return False
        try:
            self._http.start_next_cycle()
        except h11.LocalProtocolError:
            return False
        self.idle_since = time.monotonic()
        return True

    @property
    def fresh(self) -> bool:
        """Whether an idle connection can be expected to work still."""
        return (not self._reader.at_eof() and not self._writer.is_closing()
                and time.monotonic() - self.idle_since < IDLE_LIMIT)

    def _next(self) -> object:
        try:
            return self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise Broken(str(error)) from None

    async def _read(self, ended: type[Exception]) -> None:
        try:
            data = await self._reader.read(READ_SIZE)
        except OSError as error:
            raise ended(str(error)) from None
        if not data and ended is ClosedEarly:
            raise ended("closed before the response")
        try:
            self._http.receive_data(data)
        except h11.RemoteProtocolError as error:
            raise Broken(str(error)) from None


class Pool:
    """Idle connections by endpoint. Used from one event loop only."""

    def __init__(self) -> None:
        self._idle: defaultdict[Endpoint, list[Connection]] = defaultdict(list)

    async def acquire(self, endpoint: Endpoint, *, new: bool = False) -> Connection:
        """Return a connection: the idle one used last, or a new one (`new` forces it).

        Raises:
            Refused: Nobody listens, or the connection was not made within `CONNECT_TIMEOUT`.
        """
        idle = self._idle.get(endpoint)
        while idle and not new:
            connection = idle.pop()
            if connection.fresh:
                return connection
            connection.abort()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                return await _connect(endpoint)
        except (OSError, TimeoutError) as error:
            raise Refused(str(error) or "no answer") from None

    def release(self, connection: Connection) -> None:
        """Take a connection back after a complete exchange, for the next one."""
        idle = self._idle[connection.endpoint]
        if len(idle) < POOL_SIZE and connection.renew():
            idle.append(connection)
        else:
            connection.abort()

    def keep_only(self, endpoints: set[Endpoint]) -> None:
        """Close idle connections to every other endpoint."""
        for endpoint in [e for e in self._idle if e not in endpoints]:
            for connection in self._idle.pop(endpoint):
                connection.abort()

    def close(self) -> None:
        """Close all idle connections."""
        self.keep_only(set())


async def _connect(endpoint: Endpoint) -> Connection:
    if endpoint.path:
        with _without_links(endpoint.path) as path:
            reader, writer = await asyncio.open_unix_connection(path, limit=2 * READ_SIZE)
    else:
        reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port, limit=2 * READ_SIZE)
    return Connection(endpoint, reader, writer)


@contextlib.contextmanager
def _without_links(path: str) -> Iterator[str]:
    """A path to the very socket that lies there, as long as this is open.

    An agent that is confined could put a link where its socket was, to that of the control process. The host has
    looked at the path and written it without links.

    Raises:
        OSError: There is no socket, or a link on the way.
    """
    if sys.platform != "linux":
        yield path
        return
    held = os.open("/", os.O_PATH | os.O_CLOEXEC)
    try:
        for name in Path(path).parts[1:]:
            inner = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=held)
            os.close(held)
            held = inner
        if not stat.S_ISSOCK(os.fstat(held).st_mode):
            raise ConnectionRefusedError(errno.ECONNREFUSED, "is no socket", path)
        yield f"/proc/self/fd/{held}"
    finally:
        os.close(held)
