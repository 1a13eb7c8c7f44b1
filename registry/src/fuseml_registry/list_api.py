"""Lists: the version check (end-1), tags (end-8) and repositories."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from fuseml_registry import checks
from fuseml_registry.access.gate import Gate
from fuseml_registry.access.identity import SCOPE_KEY
from fuseml_registry.routing import PREFIX
from fuseml_registry.storage import Storage
from fuseml_registry.tags import Tags


class ListApi:
    """Handlers for `/`, `/_catalog` and `/<name>/tags/list`."""

    def __init__(self, storage: Storage, tags: Tags, gate: Gate | None = None) -> None:
        self._storage, self._tags, self._gate = storage, tags, gate

    async def ping(self, request: Request, path: Mapping[str, str]) -> ASGIApp:  # noqa: ARG002
        """Answer that this is a registry (end-1)."""
        return JSONResponse({})

    async def tags(self, request: Request, path: Mapping[str, str]) -> ASGIApp:
        """Answer with the tags of a repository in ASCII order (end-8)."""
        name = await asyncio.to_thread(checks.known, self._storage, path["name"])
        names = await asyncio.to_thread(self._tags.names, name)
        return _page(request, names, f"{name}/tags/list", lambda page: {"name": name, "tags": page})

    async def repositories(self, request: Request, path: Mapping[str, str]) -> ASGIApp:  # noqa: ARG002
        """Answer with all repositories that one may pull from; not in the specification, but everywhere."""
        names = await asyncio.to_thread(self._storage.repositories)
        if self._gate:
            names = self._gate.visible(request.scope[SCOPE_KEY], names)
        return _page(request, names, "_catalog", lambda page: {"repositories": page})


def _page(request: Request, names: list[str], path: str, body: Any) -> Response:
    """Cut `n` names after `last` out of a sorted list; a Link header leads to the next page."""
    size, last = checks.count(request.query_params.get("n")), request.query_params.get("last", "")
    rest = [name for name in names if name > last]
    page = rest if size is None else rest[:size]
    response = JSONResponse(body(page))
    if page and len(page) < len(rest):
        response.headers["Link"] = f'<{PREFIX}/{path}?{urlencode({"n": size, "last": page[-1]})}>; rel="next"'
    return response
