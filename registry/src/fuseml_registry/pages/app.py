"""The marketplace pages as an ASGI application, mounted at `/marketplace` by the entry point group `fuseml.http`."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuseml_registry.storage import Storage

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

#: Requests that are worked on at the same time; the registry's own threads are not used up by visitors.
THREADS = 4


class MarketplaceApp:
    """Loads what it needs with the first request, so that a server without visitors starts fast and stays small.

    Args:
        storage: Of the registry.
        engine: Version of the FuseML server, empty for a registry that stands alone.
        keys: Folder of public keys that the server knows; None for none.
        external_url: Base URL that visitors use; empty takes that of each request.
    """

    def __init__(self, storage: Storage, engine: str, keys: Path | None, external_url: str) -> None:
        self._make = functools.partial(_load, storage, engine, keys, external_url)
        self._app: ASGIApp | None = None
        self._lock = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        app = self._app if self._app is not None else await asyncio.to_thread(self._loaded)
        await app(scope, receive, send)

    def _loaded(self) -> ASGIApp:
        with self._lock:
            app = self._app if self._app is not None else self._make()
            self._app = app
            return app


def create_app(config: Mapping[str, Any]) -> MarketplaceApp:
    """Make the application.

    Args:
        config: `root`: directory of the registry. `engine`: version of the FuseML server that has it built in
            (default: it stands alone). `keys`: folder of public keys (`*.pub`) that the server knows. `external_url`:
            base URL that visitors use, when a proxy stands before it.
    """
    keys = config.get("keys")
    return MarketplaceApp(Storage(Path(config["root"])), str(config.get("engine") or ""), Path(keys) if keys else None,
                          str(config.get("external_url") or ""))


def _load(storage: Storage, engine: str, keys: Path | None, external_url: str) -> ASGIApp:
    from fuseml_registry.pages.routes import make_routes

    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="marketplace")
    return make_routes(storage, engine, keys, external_url, pool)
