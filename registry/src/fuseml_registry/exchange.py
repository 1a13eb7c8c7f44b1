"""One request and its answer: how long a client may take, how many bytes go, and what came of it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from starlette.types import Message, Receive, Scope, Send

from fuseml_registry.configuration import Limits


@dataclass(slots=True)
class Exchange:
    """Wraps the two channels of an ASGI request.

    Attributes:
        scope: Of the request.
        limits: How slow a client may be.
        status: Of the answer; 0 before it.
        code: Error code of the answer, if it is an error.
        received, sent: Bytes of both bodies so far.
        began: Monotonic time at which it came.
    """

    scope: Scope
    receive_next: Receive
    send_next: Send
    limits: Limits
    noun: str = "unknown"
    status: int = 0
    code: str = ""
    received: int = 0
    sent: int = 0
    began: float = field(default_factory=time.monotonic)

    async def receive(self) -> Message:
        """Pass on the next part of the body.

        Raises:
            TimeoutError: The client sends nothing, or too little to ever end.
        """
        async with asyncio.timeout(self.limits.idle):
            message = await self.receive_next()
        self.received += len(message.get("body", b""))
        if time.monotonic() - self.began > self.limits.idle + self.received / self.limits.slowest:
            raise TimeoutError
        return message

    async def send(self, message: Message) -> None:
        """Pass on a part of the answer.

        Raises:
            TimeoutError: The client does not take it.
        """
        body = message.get("body", b"")
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", []), (b"docker-distribution-api-version", b"registry/2.0")]
            message = {**message, "headers": headers}
        async with asyncio.timeout(self.limits.idle + len(body) / self.limits.slowest):
            await self.send_next(message)
        self.sent += len(body)

    @property
    def seconds(self) -> float:
        """Seconds since the request came."""
        return time.monotonic() - self.began

    @property
    def address(self) -> str:
        """IP address of the client; empty on a Unix socket."""
        client = self.scope.get("client")
        return str(client[0]) if client else ""
