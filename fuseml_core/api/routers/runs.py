"""Runs and their logs."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from fuseml_core.api.routers.application import App

router = APIRouter(tags=["runs"], prefix="/projects/{project}/runs")


@router.get("")
def list_runs(app: App, project: str, pipeline: str = "", state: str = "",
              limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> list[dict[str, Any]]:
    """Runs of a project, newest first."""
    app.projects.get(project)
    return app.runs.page(project, pipeline=pipeline, state=state, limit=limit)


@router.get("/{pipeline}/{number}")
def get_run(app: App, project: str, pipeline: str, number: int) -> dict[str, Any]:
    """One run with its steps."""
    return app.runs.get(project, pipeline, number)


@router.post("/{pipeline}/{number}/cancel")
def cancel_run(app: App, project: str, pipeline: str, number: int) -> dict[str, Any]:
    """Ask for a run to be cancelled."""
    return app.runs.cancel(project, pipeline, number)


@router.get("/{pipeline}/{number}/logs")
def get_logs(app: App, project: str, pipeline: str, number: int, step: str = "", cursor: str = "",
             limit: Annotated[int, Query(ge=1, le=1 << 20)] = 65536) -> dict[str, Any]:
    """A piece of the log of one step, or of all of them one after the other."""
    return app.runs.logs(project, pipeline, number, step, cursor, limit)
