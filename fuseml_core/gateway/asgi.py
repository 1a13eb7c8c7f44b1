"""The few words of ASGI that the data process needs.

https://asgi.readthedocs.io/en/latest/specs/www.html
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from fuseml_core.domain.errors import Invalid

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Header = tuple[bytes, bytes]
Headers = Iterable[Header]


class ClientGone(Exception):
    """The client closed its connection before the request was complete."""


def header(scope: Scope, name: bytes) -> str:
    """Return the first value of a request header, or the empty string. `name` is in lower case."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value).decode("latin-1")
    return ""


def from_unix_socket(scope: Scope) -> bool:
    """Whether the request came over the private Unix socket, as the server itself says (never a header)."""
    server = scope.get("server")
    return server is not None and server[1] is None


async def answer(send: Send, status: int, body: bytes, *, media: str = "application/json",
                 headers: Headers = ()) -> None:
    """Send a whole response with a known body."""
    await send({"type": "http.response.start", "status": status, "headers": [
        (b"content-type", media.encode()), (b"content-length", str(len(body)).encode()), *headers]})
    await send({"type": "http.response.body", "body": body})


async def answer_json(send: Send, value: Any, status: int = 200) -> None:
    """Send a value as JSON."""
    await answer(send, status, json.dumps(value).encode())


async def read_body(receive: Receive, limit: int) -> bytes:
    """Read a whole request body.

    Raises:
        Invalid: It is longer than `limit` bytes.
        ClientGone: The client closed the connection.
    """
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise Invalid(f"The request body is longer than {limit} bytes")
        if not message.get("more_body", False):
            return b"".join(parts)
