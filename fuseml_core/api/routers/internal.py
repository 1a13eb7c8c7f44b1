"""What launcher and data process ask; reachable on the private socket only."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from fuseml_core.api.routers.application import App
from fuseml_core.domain.errors import Unavailable

router = APIRouter(include_in_schema=False)


class Shutdown(BaseModel):
    """What to stop before the processes end."""

    stop_services: bool = True
    cancel_jobs: bool = False


@router.get("/healthz")
def healthz() -> dict[str, str]:
    """The process lives."""
    return {"status": "ok"}


@router.get("/readyz")
def readyz(app: App) -> dict[str, str]:
    """The engine moves."""
    if not app.alive():
        raise Unavailable("the engine does not move", hint="See `fuseml server logs`.")
    return {"status": "ok"}


@router.get("/internal/activity")
def activity(app: App) -> dict[str, Any]:
    """Jobs that run now."""
    return {"jobs": app.activity()}


@router.post("/internal/shutdown")
def shutdown(app: App, wanted: Shutdown) -> dict[str, Any]:
    """Stop services, and jobs when asked; both start again with the server. `left` is what could not be ended."""
    left = app.stop_workloads(wanted.cancel_jobs) if wanted.stop_services else []
    return {"jobs": app.activity(), "left": left}
