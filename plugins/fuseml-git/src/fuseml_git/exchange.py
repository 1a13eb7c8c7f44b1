"""One request answered by one git process: the body to its input, its output to the client, both as streams."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import zlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

log = logging.getLogger(__name__)

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: Seconds without a byte from the client, or from git when the client has sent all.
IDLE_TIMEOUT = 600.0
#: Seconds between asking git to end and ending it.
TERM_GRACE = 5.0
CHUNK = 256 * 1024
INFLATE_LIMIT = 1 << 20
STDERR_LIMIT = 16 * 1024
#: Answers must not be kept by anybody (gitprotocol-http(5)).
HEADERS = [(b"cache-control", b"no-cache, max-age=0, must-revalidate"), (b"pragma", b"no-cache"),
           (b"expires", b"Fri, 01 Jan 1980 00:00:00 GMT")]


class ClientGone(Exception):
    """The client closed its connection."""


class Exchange:
    """Runs git for one request.

    Args:
        command: Program and arguments.
        variables: Its whole environment.
        media: Content type of the answer.
        greeting: Bytes before git's output.
        compressed: The request's body is compressed with gzip.
        finish: Let git finish when the client leaves after its last byte: a push that is complete is carried out and
            its hook tells so.
    """

    def __init__(self, command: list[str], variables: dict[str, str], media: str, *, greeting: bytes = b"",
                 compressed: bool = False, finish: bool = False) -> None:
        self._command = command
        self._variables = variables
        self._media = media
        self._greeting = greeting
        self._inflate = zlib.decompressobj(16 + zlib.MAX_WBITS) if compressed else None
        self._finish = finish
        self._body_complete = False

    async def run(self, receive: Receive, send: Send) -> None:
        """Answer the request. Git and all it started are gone afterwards, however it ends."""
        process = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, env=self._variables, start_new_session=True, limit=2 * CHUNK)
        errors = asyncio.ensure_future(_read_errors(process))
        feeder = asyncio.ensure_future(self._feed(receive, process))
        answer = asyncio.ensure_future(self._answer(send, process))
        try:
            await asyncio.wait({feeder, answer}, return_when=asyncio.FIRST_COMPLETED)
            given_up = not answer.done() and not (self._finish and self._body_complete)
            if given_up:
                log.info("git %s was given up: %s", self._command[1], feeder.exception())
            elif not await answer:
                await self._fail(send, process, errors)
        finally:
            for task in (feeder, answer):
                task.cancel()
            await self._end(process)
            await asyncio.gather(feeder, answer, errors, return_exceptions=True)

    async def _feed(self, receive: Receive, process: asyncio.subprocess.Process) -> None:
        """Pass the body on, then watch for a client that leaves."""
        assert process.stdin is not None
        complete = False
        while not complete:
            async with asyncio.timeout(IDLE_TIMEOUT):
                message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone("the client left in the middle of its request")
            complete = not message.get("more_body", False)
            with contextlib.suppress(ConnectionError):  # git may end early; its answer says why
                for piece in self._plain(message.get("body", b"")):
                    process.stdin.write(piece)
                    await process.stdin.drain()
        self._body_complete = True
        with contextlib.suppress(ConnectionError):
            process.stdin.close()
        while (await receive())["type"] != "http.disconnect":
            pass
        raise ClientGone("the client left before the answer was complete")

    def _plain(self, data: bytes) -> Iterator[bytes]:
        if not self._inflate:
            if data:
                yield data
            return
        while data:
            yield self._inflate.decompress(data, INFLATE_LIMIT)
            data = self._inflate.unconsumed_tail

    async def _answer(self, send: Send, process: asyncio.subprocess.Process) -> bool:
        """Pass git's output on. Returns False when there was none, so that an error can be answered."""
        piece = await self._read(process)
        if not piece:
            return False
        await send({"type": "http.response.start", "status": 200,
                    "headers": [(b"content-type", self._media.encode()), *HEADERS]})
        await send({"type": "http.response.body", "body": self._greeting + piece, "more_body": True})
        while piece := await self._read(process):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        code = await process.wait()
        if code:
            log.warning("%s ended with %d", self._command[1], code)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return True

    async def _read(self, process: asyncio.subprocess.Process) -> bytes:
        """Read what git has written; while the body is coming, its own time limit counts."""
        assert process.stdout is not None
        while True:
            try:
                async with asyncio.timeout(IDLE_TIMEOUT):
                    return await process.stdout.read(CHUNK)
            except TimeoutError:
                if self._body_complete:
                    raise

    async def _fail(self, send: Send, process: asyncio.subprocess.Process, errors: asyncio.Future[bytes]) -> None:
        code = await process.wait()
        text = (await errors).decode("utf-8", "replace").strip()
        if code == 0:  # a request that has no answer, such as an empty one
            await send({"type": "http.response.start", "status": 200,
                        "headers": [(b"content-type", self._media.encode()), *HEADERS]})
            await send({"type": "http.response.body", "body": self._greeting})
            return
        log.warning("%s ended with %d: %s", self._command[1], code, text)
        body = f"git {self._command[1]} failed: {text}\n".encode()
        # 507 says what git's own client does not pass on of a body: there is no space left.
        full = any(words in text for words in ("No space left", "Disk quota exceeded"))
        await send({"type": "http.response.start", "status": 507 if full else 500,
                    "headers": [(b"content-type", b"text/plain; charset=utf-8"), *HEADERS]})
        await send({"type": "http.response.body", "body": body})

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """End git and all it started: by the end of its input, by a signal, by force.

        At the end of an incomplete input receive-pack removes what it received; a signal to it and its children at
        once would leave that behind.
        """
        if not self._body_complete and process.stdin is not None:
            process.stdin.close()
            if await _ended(process):
                return
        for number in (signal.SIGTERM, signal.SIGKILL):
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
                await _ended(process)


async def _ended(process: asyncio.subprocess.Process) -> bool:
    """Wait up to `TERM_GRACE` for the end of a process."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(TERM_GRACE):
            await process.wait()
    return process.returncode is not None


async def _read_errors(process: asyncio.subprocess.Process) -> bytes:
    """Read standard error to its end, keeping the last of it."""
    assert process.stderr is not None
    kept = b""
    while data := await process.stderr.read(CHUNK):
        kept = (kept + data)[-STDERR_LIMIT:]
    return kept
