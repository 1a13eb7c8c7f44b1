"""Artifacts of every kind."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from fuseml_core.api.routers.application import App

router = APIRouter(tags=["artifacts"])


@router.get("/artifacts")
def list_artifacts(app: App, kind: str = "", project: str = "", name: str = "",
                   type_: Annotated[str, Query(alias="type")] = "", limit: int = 100,
                   cursor: str = "") -> dict[str, Any]:
    """Versions, newest first; `type` is the kind of a runnable (`trainer`, `agent`), the format of a model."""
    return app.artifacts.page(kind=kind, project=project, name=name, type_=type_, limit=limit, cursor=cursor)


@router.get("/artifacts/resolve")
def resolve_artifact(app: App, address: str, project: str = "default") -> dict[str, Any]:
    """The version that an address means; `project` stands in where the address names none."""
    return app.artifacts.resolve(address, project)
