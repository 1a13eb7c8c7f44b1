"""Services."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from fuseml_core.api.routers.application import App

router = APIRouter(tags=["services"], prefix="/projects/{project}/services")


@router.get("")
def list_services(app: App, project: str) -> list[dict[str, Any]]:
    """Services of a project."""
    app.projects.get(project)
    return app.services.all(project)


@router.get("/{name}")
def get_service(app: App, project: str, name: str) -> dict[str, Any]:
    """One service."""
    return app.services.get(project, name)


@router.get("/{name}/logs")
def get_service_logs(app: App, project: str, name: str, cursor: str = "",
                     limit: Annotated[int, Query(ge=1, le=1 << 20)] = 65536) -> dict[str, Any]:
    """A piece of the log of the newest instance."""
    return app.services.logs(project, name, cursor, limit)


@router.post("/{name}/stop")
def stop_service(app: App, project: str, name: str) -> dict[str, Any]:
    """Stop a service and leave it stopped."""
    return app.services.stop(project, name)


@router.post("/{name}/start")
def start_service(app: App, project: str, name: str) -> dict[str, Any]:
    """Start a stopped service again."""
    return app.services.start(project, name)
