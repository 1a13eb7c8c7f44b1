"""Passing one request on to an endpoint and its answer back, both as streams."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import h11

from fuseml_core.domain.errors import Unavailable
from fuseml_core.gateway.asgi import ClientGone, Receive, Scope, Send, header
from fuseml_core.gateway.connections import Broken, ClosedEarly, Connection, Pool, Refused
from fuseml_core.gateway.endpoint import Endpoint
from fuseml_core.gateway.forwarding import request_head, response_headers
from fuseml_core.gateway.problems import answer_problem

log = logging.getLogger(__name__)

#: A body up to this many bytes is kept until the answer comes, so that the request can be sent a second time.
REPLAY_LIMIT = 1 << 20
#: Seconds before the second attempt when the route has not changed.
RETRY_DELAY = 0.05
END = h11.EndOfMessage()


@dataclass(frozen=True, slots=True)
class Hop:
    """Where a request goes next.

    Attributes:
        endpoint: Address of the next hop.
        target: Path and query as the next hop sees them.
        prefix: Path prefix taken away from the request.
        what: What answers there, for error messages: "service myproj/churn".
        hint: What a person can do when it does not answer.
        once: Never send a second time what may have arrived.
        instance: Name under which requests in flight are counted; empty for none.
    """

    endpoint: Endpoint
    target: bytes
    prefix: str
    what: str
    hint: str = ""
    once: bool = False
    instance: str = ""


class _Again(Exception):
    """The attempt failed in a way that allows a second one."""


@dataclass(slots=True)
class _Body:
    """The request's body: what was read so far, and whether that is all."""

    present: bool
    start: bytes
    complete: bool


class Proxy:
    """Passes requests on over pooled connections.

    Args:
        in_flight: Where requests that wait for an instance's answer are counted.
    """

    def __init__(self, in_flight: Counter[str]) -> None:
        self.pool = Pool()
        self.in_flight = in_flight

    async def forward(self, scope: Scope, receive: Receive, send: Send, resolve: Callable[[], Hop]) -> None:
        """Answer a request with what the next hop answers.

        A connection that is refused, or ends before the answer begins, is tried once more with what `resolve`
        returns then: a service that was replaced meanwhile loses no request.

        Args:
            scope: The request (ASGI), as are the next two.
            receive: Gives the body.
            send: Takes the answer.
            resolve: Returns the next hop as it is now; may raise.

        Raises:
            ClientGone: The client left before the answer was complete.
            FusemlError: As `resolve` raises.
        """
        body = await _read_start(scope, receive)
        for last in (False, True):
            hop = resolve()
            self.in_flight[hop.instance] += 1  # no await since resolve(): draining can rely on the count
            try:
                await self._attempt(scope, receive, send, hop, body, last)
            except _Again:
                await _pause(hop, resolve)
            else:
                return
            finally:
                self._count_down(hop.instance)

    async def _attempt(self, scope: Scope, receive: Receive, send: Send, hop: Hop, body: _Body, last: bool) -> None:
        try:
            connection = await self.pool.acquire(hop.endpoint, new=last or hop.once)
        except Refused as error:
            if not last:
                raise _Again from None
            raise Unavailable(f"The {hop.what} does not answer: {error}", hint=hop.hint) from None
        try:
            await self._exchange(connection, scope, receive, send, hop, body)
        except ClosedEarly as error:
            if not last and not hop.once and body.complete:
                raise _Again from None
            raise Unavailable(f"The {hop.what} closed the connection: {error}", hint=hop.hint) from None

    async def _exchange(self, connection: Connection, scope: Scope, receive: Receive, send: Send, hop: Hop,
                        body: _Body) -> None:
        helper = None
        complete = False
        try:
            helper = _send_request(connection, scope, receive, hop, body)
            head = await connection.head()
            complete = await _send_answer(connection, head, send, hop)
        except ClosedEarly:
            if helper and helper.done() and helper.result():
                raise ClientGone from None
            raise
        except TimeoutError:
            await answer_problem(send, 504, "unavailable", f"The {hop.what} did not answer in time")
        except Broken as error:
            await answer_problem(send, 502, "unavailable", f"The {hop.what} sent a broken answer: {error}")
        finally:
            if helper:
                helper.cancel()
            if complete:
                self.pool.release(connection)
            else:
                connection.abort()

    def _count_down(self, instance: str) -> None:
        self.in_flight[instance] -= 1
        if not self.in_flight[instance]:
            del self.in_flight[instance]


async def _read_start(scope: Scope, receive: Receive) -> _Body:
    """Read the body until its end or `REPLAY_LIMIT`."""
    length = header(scope, b"content-length")
    if not length and not header(scope, b"transfer-encoding"):
        return _Body(present=False, start=b"", complete=True)
    start = b""
    complete = False
    while not complete and len(start) < REPLAY_LIMIT:
        chunk, complete = await _chunk(receive)
        start += chunk
        if not complete and not length:
            break  # an endless stream of unknown length must begin to flow at once
    return _Body(present=True, start=start, complete=complete)


async def _chunk(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message.get("body", b""), not message.get("more_body", False)


def _send_request(connection: Connection, scope: Scope, receive: Receive, hop: Hop,
                  body: _Body) -> asyncio.Task[bool]:
    """Write what is known of the request; the task sends the rest and watches for a client that leaves."""
    if not body.present:
        connection.write(request_head(scope, hop.target, hop.prefix, -1), END)
    elif body.complete:
        head = request_head(scope, hop.target, hop.prefix, len(body.start))
        connection.write(head, h11.Data(data=body.start), END)
    else:
        length = header(scope, b"content-length")
        head = request_head(scope, hop.target, hop.prefix, int(length) if length else None)
        connection.write(head, h11.Data(data=body.start))
    return asyncio.ensure_future(_accompany(connection, receive, body.complete))


async def _accompany(connection: Connection, receive: Receive, complete: bool) -> bool:
    """Send the rest of the body, then wait. Returns True when the client left, having dropped the connection."""
    try:
        while not complete:
            chunk, complete = await _chunk(receive)
            if chunk:
                connection.write(h11.Data(data=chunk))
                await connection.drain()
            if complete:
                connection.write(END)
        while (await receive())["type"] != "http.disconnect":
            pass
    except (ClosedEarly, TimeoutError):
        connection.abort()
        return False  # whoever waits for the answer sees the end of the connection and says so
    except ClientGone:
        pass
    connection.abort()
    return True


async def _send_answer(connection: Connection, head: h11.Response, send: Send, hop: Hop) -> bool:
    """Pass the answer on. Returns False when it ended in its middle; the server then cuts the client off."""
    await send({"type": "http.response.start", "status": head.status_code,
                "headers": response_headers(list(head.headers))})
    try:
        async with contextlib.aclosing(connection.body()) as pieces:
            async for piece, more in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": more})
    except (Broken, TimeoutError) as error:
        log.warning("the answer of %s ended early: %s", hop.what, error)
        return False
    return True


async def _pause(hop: Hop, resolve: Callable[[], Hop]) -> None:
    if resolve().endpoint == hop.endpoint:
        await asyncio.sleep(RETRY_DELAY)
