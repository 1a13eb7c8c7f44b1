"""Changes: everything that follows from one root event."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from fuseml_core.api.routers.application import App

router = APIRouter(tags=["changes"])


@router.get("/changes/{change}")
def follow_change(app: App, change: str, after: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
                  wait: Annotated[float, Query(ge=0, le=30)] = 0.0) -> dict[str, Any]:
    """What happened after a sequence number; waits up to `wait` seconds for news unless the change has settled."""
    return app.runs.change(change, after, wait)
