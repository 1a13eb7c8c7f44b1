"""The ASGI lifespan protocol from the server's side, for applications inside another one.

https://asgi.readthedocs.io/en/latest/specs/lifespan.html
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fuseml_core.domain.errors import Internal
from fuseml_core.gateway.asgi import ASGIApp, Message

TIMEOUT = 30.0


@contextlib.asynccontextmanager
async def lifespan(app: ASGIApp) -> AsyncIterator[None]:
    """Start an application, and stop it at the end of the block. One that knows no lifespan is left alone.

    Raises:
        Internal: The application says that it cannot start.
    """
    inbox: asyncio.Queue[Message] = asyncio.Queue()
    outbox: asyncio.Queue[Message] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
    task = asyncio.ensure_future(app(scope, inbox.get, outbox.put))
    try:
        supported = await _step("startup", inbox, outbox, task)
        yield
        if supported:
            await _step("shutdown", inbox, outbox, task)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task


async def _step(name: str, inbox: asyncio.Queue[Message], outbox: asyncio.Queue[Message],
                task: asyncio.Future[None]) -> bool:
    await inbox.put({"type": f"lifespan.{name}"})
    answer = asyncio.ensure_future(outbox.get())
    try:
        waiting: set[asyncio.Future[Any]] = {answer, task}
        await asyncio.wait(waiting, timeout=TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            return False
        if answer.result()["type"] == f"lifespan.{name}.failed":
            raise Internal(f"An application failed at {name}: {answer.result().get('message', '')}")
        return True
    finally:
        answer.cancel()
