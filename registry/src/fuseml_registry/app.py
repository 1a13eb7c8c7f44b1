"""The registry as an ASGI application (OCI distribution-spec 1.1 and the current draft)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from fuseml_registry.access.gate import Gate
from fuseml_registry.access.needs import need_of
from fuseml_registry.audit import AuditLog, describe
from fuseml_registry.configuration import Configuration, configure
from fuseml_registry.errors import FULL, RegistryError, storage_full, unavailable
from fuseml_registry.exchange import Exchange
from fuseml_registry.keeper import Keeper
from fuseml_registry.metrics import Metrics
from fuseml_registry.parts import Parts, make_parts
from fuseml_registry.routing import Route, find

log = logging.getLogger(__name__)
_CHANGES = frozenset({"PUT", "POST", "PATCH", "DELETE"})
#: Facts about the server in the configuration of every application that the data process mounts.
SERVER_FACTS = frozenset({"prefix", "engine", "keys"})


class RegistryApp:
    """Dispatches requests below `/v2`, lets in who may, turns errors into answers, and keeps house in between."""

    def __init__(self, config: Configuration, parts: Parts) -> None:
        self._config, self._routes = config, parts.routes
        self._gate: Gate | None = parts.gate
        self._metrics: Metrics = parts.metrics
        self._audit: AuditLog = parts.audit
        self._keeper: Keeper = parts.keeper
        self._active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or live through the server's life span."""
        if scope["type"] == "lifespan":
            await self._keeper.live(receive, send)
        elif scope["type"] == "http":
            await self._observe(Exchange(scope, receive, send, self._config.limits))

    async def _observe(self, exchange: Exchange) -> None:
        path: dict[str, str] = {}
        self._metrics.began()
        self._active += 1
        try:
            await self._answer(exchange, path)
        except ClientDisconnect:
            pass
        finally:
            self._active -= 1
            self._metrics.ended(exchange)
            if self._audit.wants(exchange):
                await asyncio.shield(asyncio.to_thread(self._audit.write, describe(exchange, path)))

    async def _answer(self, exchange: Exchange, path: dict[str, str]) -> None:
        """Send the answer, or the error instead of it."""
        try:
            await self._dispatch(exchange, path)
            return
        except RegistryError as error:
            problem = error
        except TimeoutError:
            problem = RegistryError(408, "BLOB_UPLOAD_INVALID", "the body came too slowly; what arrived is kept",
                                    headers={"Connection": "close"})
        except OSError as error:
            problem = storage_full("free space and send the request again") if error.errno in FULL else _failure()
        except ClientDisconnect:
            raise
        except Exception:
            problem = _failure()
        if exchange.status:
            raise ClientDisconnect  # the answer has begun: all that can be done is to end it
        exchange.code = problem.code
        await problem.response()(exchange.scope, exchange.receive, exchange.send)

    async def _dispatch(self, exchange: Exchange, path: dict[str, str]) -> None:
        if self._active > self._config.limits.requests:
            raise unavailable("too many requests at the same time", code="TOOMANYREQUESTS")
        if not self._keeper.ready:
            raise unavailable("the registry is starting")
        route, found = find(self._routes, exchange.scope)
        exchange.noun = route.noun
        path.update(found)
        request = Request(exchange.scope, exchange.receive)
        await self._admit(request, route, found)
        answer: ASGIApp = await route.handlers[request.method](request, found)
        await answer(exchange.scope, exchange.receive, exchange.send)

    async def _admit(self, request: Request, route: Route, path: Mapping[str, str]) -> None:
        need = need_of(route.noun, request.method, path)
        if self._gate and need:
            await self._gate.admit(request, need)
        if self._config.read_only and need and request.method in _CHANGES:
            raise RegistryError(405, "UNSUPPORTED", "this registry is read-only", headers={"Allow": "GET, HEAD"})


def _failure() -> RegistryError:
    """Say in the log what went wrong, and to the client only that it did."""
    log.exception("a request failed")
    return RegistryError(500, "UNKNOWN", "the registry failed; its log says why")


def create_app(config: Mapping[str, Any]) -> RegistryApp:
    """Make the application that is mounted at `/v2`.

    Args:
        config: `root`: directory for everything the registry keeps; the rest as in `Configuration`. What the data
            process tells every application about the server (`SERVER_FACTS`) is passed over.
    """
    settings = configure({name: value for name, value in config.items() if name not in SERVER_FACTS})
    return RegistryApp(settings, make_parts(settings))


def standalone_app(config: Mapping[str, Any]) -> ASGIApp:
    """Make an application that is a registry and nothing else, for a server of its own; `config` as above."""
    from fuseml_registry.standalone.site import Site

    return Site(configure(config))
