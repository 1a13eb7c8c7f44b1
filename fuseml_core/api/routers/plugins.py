"""Plugins as they run: list, look into, read logs, trace calls, start anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse

from fuseml_core.api.routers.application import App

router = APIRouter(tags=["plugins"])
#: Beside the API: where Prometheus looks for it.
metrics_router = APIRouter(tags=["server"])
Limit = Annotated[int, Query(ge=1, le=1000)]


@router.get("/plugins")
def list_plugins(app: App) -> list[dict[str, Any]]:
    """Every plugin, with where it runs, its state and its last crash; starts none of them."""
    return app.plugins.list()


@router.get("/plugin-calls")
def list_calls(app: App, plugin: str = "", after: float = 0.0, limit: Limit = 100) -> Sequence[dict[str, Any]]:
    """The last hook calls, oldest first, of a plugin or of all; `after`: only those that ended later."""
    return app.plugins.calls(plugin, after, limit)


@router.get("/plugin-statistics")
def list_statistics(app: App, plugin: str = "") -> Sequence[dict[str, Any]]:
    """Rate, errors and duration by hook since the plugin was loaded, of a plugin or of all."""
    return app.plugins.statistics(plugin)


@router.get("/plugins/{name:path}/logs")
def read_logs(app: App, name: str, cursor: str = "", limit: int = 65536) -> dict[str, Any]:
    """A piece of what a plugin's processes wrote: `text` and the next `cursor`; without cursor the last lines."""
    return app.plugins.logs(name, cursor, limit)


@router.post("/plugins/{name:path}/restart")
def restart_plugin(app: App, name: str) -> dict[str, Any]:
    """Start a plugin anew, also one that failed so often that it is not started by itself; answers like GET."""
    return app.plugins.restart(name)


@router.get("/plugins/{name:path}")
def get_plugin(app: App, name: str) -> dict[str, Any]:
    """One plugin: hooks, contract, process, crashes, statistics, permissions; starts it not."""
    return app.plugins.get(name)


@metrics_router.get("/metrics", response_class=PlainTextResponse)
def metrics(app: App) -> PlainTextResponse:
    """Calls of plugins by hook, and their states, in the text format of Prometheus."""
    return PlainTextResponse(app.plugins.metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")
