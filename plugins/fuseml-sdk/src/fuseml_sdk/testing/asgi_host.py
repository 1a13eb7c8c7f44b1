"""The ASGI runtime as a host of the kit: driven in this process, so that no server has to be installed for it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuseml_sdk.serve.asgi import AsgiRuntime
from fuseml_sdk.serve.configuration import Configuration
from fuseml_sdk.testing.exchanges import Answer
from fuseml_sdk.testing.hosts import DRAIN_SECONDS
from fuseml_sdk.testing.rules import Trait
from fuseml_sdk.testing.served import ServedPlugin


@dataclass(frozen=True)
class AsgiHost:
    """The plugin behind :class:`fuseml_sdk.serve.asgi.AsgiRuntime`."""

    plugin: str
    name: str = "asgi"
    traits: frozenset[Trait] = frozenset({"restart"})

    def start(self, folder: Path, config: Mapping[str, Any]) -> ServedPlugin:
        """See :class:`fuseml_sdk.testing.hosts.Host`."""
        state = folder / "state"
        copy = json.loads(json.dumps(dict(config)))
        loop = _Loop(AsgiRuntime(self.plugin, Configuration(copy, str(state), DRAIN_SECONDS)))
        return ServedPlugin(self.name, loop.exchange, state, close=loop.close)


class _Loop:
    """An event loop in a thread, with one application."""

    def __init__(self, application: AsgiRuntime) -> None:
        self._application = application
        self._loop = asyncio.new_event_loop()
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fuseml-testing-asgi", daemon=True)
        self._thread.start()
        self._living = asyncio.run_coroutine_threadsafe(self._live(), self._loop)
        self._put({"type": "lifespan.startup"})

    def exchange(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str],
                 seconds: float) -> Answer:
        """Send one request; see :class:`fuseml_sdk.testing.exchanges.Exchange`."""
        asked = asyncio.run_coroutine_threadsafe(self._ask(method, path, body or b"", headers), self._loop)
        try:
            return asked.result(seconds)
        except TimeoutError:
            asked.cancel()
            raise

    def close(self) -> None:
        """Shut down as a server does, and end the loop."""
        self._put({"type": "lifespan.shutdown"})
        self._living.result(DRAIN_SECONDS + 20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _put(self, event: dict[str, Any]) -> None:
        self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def _live(self) -> None:
        async def send(message: MutableMapping[str, Any]) -> None:
            del message

        await self._application({"type": "lifespan", "asgi": {"version": "3.0"}}, self._events.get, send)

    async def _ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        sent: list[MutableMapping[str, Any]] = []
        told = {**headers, "content-length": str(len(body))}
        scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
                 "raw_path": path.encode(), "query_string": b"", "scheme": "http", "root_path": "",
                 "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in told.items()]}
        requests = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> MutableMapping[str, Any]:
            for message in requests:
                return message
            await asyncio.Event().wait()  # The client stays until it is answered.
            return {"type": "http.disconnect"}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        await self._application(scope, receive, send)
        start = next(message for message in sent if message["type"] == "http.response.start")
        text = b"".join(message.get("body", b"") for message in sent if message["type"] == "http.response.body")
        return Answer(start["status"], text, {k.decode(): v.decode("latin-1") for k, v in start["headers"]})
