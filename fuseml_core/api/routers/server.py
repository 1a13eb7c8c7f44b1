"""The server itself and its components."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from fuseml_core.api.routers.application import App

router = APIRouter(tags=["server"])


@router.get("/server")
def get_server(app: App) -> dict[str, Any]:
    """Version, home, URLs, limits and process ids."""
    return app.describe()


@router.get("/agents")
def list_agents(app: App) -> list[dict[str, Any]]:
    """Every component, with where it runs, its state and its last crash; starts none of them."""
    return app.plugins.list()
