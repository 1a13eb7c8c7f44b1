"""Runs and their logs."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel

from fuseml_core.api.routers.application import App

router = APIRouter(tags=["runs"], prefix="/projects/{project}/runs")


#: Numbers of runs are 32-bit integers in the database.
Number = Annotated[int, Path(ge=1, le=2**31 - 1)]


class Release(BaseModel):
    """How many steps to release: the next one, or all the rest."""

    rest: bool = False


class Swap(BaseModel):
    """What to swap."""

    step: str
    runnable: str


@router.get("")
def list_runs(app: App, project: str, pipeline: str = "", state: str = "",
              limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> list[dict[str, Any]]:
    """Runs of a project, newest first."""
    app.projects.get(project)
    return app.runs.page(project, pipeline=pipeline, state=state, limit=limit)


@router.get("/{pipeline}/{number}")
def get_run(app: App, project: str, pipeline: str, number: Number) -> dict[str, Any]:
    """One run with its steps."""
    return app.runs.get(project, pipeline, number)


@router.post("/{pipeline}/{number}/cancel")
def cancel_run(app: App, project: str, pipeline: str, number: Number) -> dict[str, Any]:
    """Ask for a run to be cancelled."""
    return app.runs.cancel(project, pipeline, number)


@router.post("/{pipeline}/{number}/resume", status_code=201)
def resume_run(app: App, project: str, pipeline: str, number: Number) -> dict[str, Any]:
    """Start a run that goes on where a failed one stopped."""
    return app.runs.view(app.manual_runs.resume(project, pipeline, number))


@router.post("/{pipeline}/{number}/step")
def release_step(app: App, project: str, pipeline: str, number: Number, release: Release) -> dict[str, Any]:
    """Release the next step of a run that is taken step by step, or all the rest."""
    return app.runs.view(app.manual_runs.step(project, pipeline, number, rest=release.rest))


@router.post("/{pipeline}/{number}/swap")
def swap_step(app: App, project: str, pipeline: str, number: Number, swap: Swap) -> dict[str, Any]:
    """Let a step that has not started run another runnable."""
    return app.runs.view(app.manual_runs.swap(project, pipeline, number, swap.step, swap.runnable))


@router.get("/{pipeline}/{number}/logs")
def get_logs(app: App, project: str, pipeline: str, number: Number, step: str = "", cursor: str = "",
             limit: Annotated[int, Query(ge=1, le=1 << 20)] = 65536) -> dict[str, Any]:
    """A piece of the log of one step, or of all of them one after the other."""
    return app.runs.logs(project, pipeline, number, step, cursor, limit)
