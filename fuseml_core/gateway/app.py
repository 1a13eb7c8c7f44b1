"""The data process as an ASGI application."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import AsyncIterator

from fuseml_core import __version__
from fuseml_core.domain.errors import FusemlError, NotFound
from fuseml_core.gateway.asgi import ClientGone, Receive, Scope, Send, answer_json, from_unix_socket, header
from fuseml_core.gateway.control import answer_from_control, is_for_control
from fuseml_core.gateway.hosts import HostPolicy
from fuseml_core.gateway.internal import answer_internal
from fuseml_core.gateway.mounts import Mount, load_mounts, running
from fuseml_core.gateway.problems import answer_error, answer_problem
from fuseml_core.gateway.proxy import Proxy
from fuseml_core.gateway.routes import RouteTable
from fuseml_core.gateway.serving import PREFIX, Serving
from fuseml_core.settings import Settings

log = logging.getLogger(__name__)


class Gateway:
    """Sends each request where it belongs: a mounted application, a service, or the control process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.routes = RouteTable()
        self.proxy = Proxy(self.routes.in_flight)
        self.serving = Serving(self.routes, self.proxy)
        self.hosts = HostPolicy(settings.domain)
        self.mounts: dict[str, Mount] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or live through the server's life span."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if scope["type"] != "http":
            await _refuse_websocket(receive, send)
            return
        try:
            if await self._admit(scope, send):
                await self._dispatch(scope, receive, send)
        except FusemlError as error:
            await answer_error(send, error)
        except ClientGone:
            return

    async def _admit(self, scope: Scope, send: Send) -> bool:
        """Answer on TCP only to our own names, and never to `/internal`."""
        if from_unix_socket(scope):
            return True
        host = header(scope, b"host")
        if not self.hosts.allows(host):
            await answer_problem(send, 421, "refused", f"This server does not answer for the host {host!r}",
                                 hint="Use 127.0.0.1 or localhost, or set FUSEML_DOMAIN to the server's own domain.")
            return False
        if not self.hosts.allows_origin(scope["method"], header(scope, b"origin")):
            await answer_problem(send, 403, "refused", "A page of another site may not change anything here")
            return False
        if scope["path"].startswith("/internal/"):
            raise NotFound(f"There is no {scope['path']}")
        return True

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        name = self.hosts.prefix(header(scope, b"host"))
        if name:
            await self.serving.by_host(scope, receive, send, name)
        elif path.startswith(PREFIX):
            await self.serving.by_path(scope, receive, send)
        elif path.startswith("/internal/"):
            await answer_internal(scope, receive, send, self.routes, self.proxy.pool)
        elif is_for_control(path):
            await answer_from_control(scope, receive, send, self.proxy, self.settings.control_socket)
        elif mount := self.mounts.get(path.split("/", 2)[1]):
            await _answer_mounted(mount, scope, receive, send)
        elif path in ("/", "/healthz"):
            await answer_json(send, {"status": "ok", "process": "data", "pid": os.getpid(), "version": __version__,
                                     "paths": ["/api/v1", PREFIX, *(f"/{name}/" for name in self.mounts)]})
        else:
            raise NotFound(f"There is no {path}")

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with self._alive():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    @contextlib.asynccontextmanager
    async def _alive(self) -> AsyncIterator[None]:
        self.routes.load(self.settings.path("run", "routes.json"))
        self.mounts = load_mounts(self.settings.home)
        async with running(self.mounts):
            try:
                yield
            finally:
                self.proxy.pool.close()


def create_app(settings: Settings) -> Gateway:
    """Make the data process's application.

    Args:
        settings: Where state and sockets are, and the domain for service hosts.
    """
    return Gateway(settings)


async def _answer_mounted(mount: Mount, scope: Scope, receive: Receive, send: Send) -> None:
    if not mount.app:
        await answer_problem(send, 503, "unavailable", f"/{mount.prefix} is not available: {mount.error}")
        return
    await mount.app({**scope, "root_path": f"{scope.get('root_path', '')}/{mount.prefix}"}, receive, send)


async def _refuse_websocket(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.close", "code": 1003, "reason": "websockets are not passed on"})
