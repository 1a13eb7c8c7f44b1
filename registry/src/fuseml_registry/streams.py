"""Bodies in both directions, in pieces of some MiB, with disk and hash work in threads."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from fuseml_oci.digests import BUFFER
from fuseml_registry.errors import RegistryError, manifest_invalid


async def feed(request: Request, sink: Callable[[bytes | bytearray], None]) -> int:
    """Hand the body of a request to `sink`, piece by piece, in a thread, while the next piece arrives.

    Args:
        request: Its body must not have been read.
        sink: Called with about 1 MiB at a time, in order, never twice at once.

    Returns:
        Bytes received.

    Raises:
        ClientDisconnect: The client went away; what had arrived was handed over.
        TimeoutError: The client sends too slowly; likewise.
    """
    batch, total = bytearray(), 0
    pending: asyncio.Task[None] | None = None

    async def flush() -> None:
        nonlocal batch, pending
        if pending is not None:
            task, pending = pending, None
            await task
        if batch:
            pending, batch = asyncio.create_task(asyncio.to_thread(sink, batch)), bytearray()

    try:
        async for piece in request.stream():
            total += len(piece)
            batch += piece
            if len(batch) >= BUFFER:
                await flush()
        await flush()
    except (ClientDisconnect, TimeoutError):
        await flush()
        raise
    finally:
        if pending is not None:
            await pending
    return total


async def small_body(request: Request, limit: int) -> bytes:
    """Return the body of a request whole.

    Raises:
        RegistryError: MANIFEST_INVALID with status 413 if it is larger than `limit` bytes.
    """
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > limit:
            raise manifest_invalid(f"the manifest is larger than {limit} bytes", 413)
    return bytes(body)


#: Bytes sent at a time to few clients, and to each of many: two pieces are in memory for each.
_LARGE, _SMALL = 4 * BUFFER, BUFFER
#: How many clients are few.
_FEW = 8


class FileAnswer:
    """An ASGI response with a part of a file.

    Args:
        path: The file; it may be deleted while it is sent.
        status: 200 or 206.
        headers: All headers.
        start, stop: First byte and the one after the last.
        head: Send headers only.
    """

    _sending = 0

    def __init__(self, path: Path, status: int, headers: dict[str, str], span: tuple[int, int], *,
                 head: bool) -> None:
        self._path, self._status, self._headers, self._span, self._head = path, status, headers, span, head

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send it."""
        try:
            handle = await asyncio.to_thread(os.open, self._path, os.O_RDONLY)
        except FileNotFoundError:
            raise RegistryError(404, "BLOB_UNKNOWN", "the content has just been deleted") from None
        try:
            start, stop = self._span
            headers = {**self._headers, "Content-Length": str(stop - start)}
            await send({"type": "http.response.start", "status": self._status,
                        "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in headers.items()]})
            if not self._head:
                await self._send_contents(handle, start, stop, send)
            await send({"type": "http.response.body", "body": b""})
        finally:
            os.close(handle)

    async def _send_contents(self, handle: int, start: int, stop: int, send: Send) -> None:
        """Send one piece while the next is read."""
        def read() -> asyncio.Future[bytes]:
            size = min(_LARGE if FileAnswer._sending <= _FEW else _SMALL, stop - start)
            return asyncio.get_running_loop().run_in_executor(None, os.pread, handle, size, start)

        FileAnswer._sending += 1
        pending = read() if start < stop else None
        try:
            while pending is not None:
                data, pending = await pending, None
                if not data:
                    raise OSError(f"{self._path} became shorter while it was sent")
                start += len(data)
                pending = read() if start < stop else None
                await send({"type": "http.response.body", "body": data, "more_body": True})
        finally:
            FileAnswer._sending -= 1
            if pending is not None:  # the client went away: the descriptor must not be closed under the reader
                await asyncio.wait([pending])
