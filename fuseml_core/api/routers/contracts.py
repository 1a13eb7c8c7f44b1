"""The contract between the server and its plugins."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from fuseml_core.api.routers.application import App

router = APIRouter(tags=["plugins"])


@router.get("/contract")
def get_contract(app: App) -> dict[str, Any]:
    """The contract that the server speaks: hooks with their schemas, errors and file formats."""
    return app.contracts.ours()


@router.get("/contract/plugins")
def compare_contracts(app: App, extension: Annotated[str, Query(max_length=100)] = "") -> list[dict[str, Any]]:
    """What each plugin speaks, held against what the server speaks; nothing is started."""
    return app.contracts.compare(extension)
