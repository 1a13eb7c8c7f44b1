"""Plugins under development: `fuseml plugin dev` keeps them known for as long as it runs."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from fuseml_core.api.routers.application import App
from fuseml_core.service.development import Developed, DevelopedComponent

router = APIRouter(tags=["plugins"])


class Component(BaseModel):
    """One component that an author runs."""

    family: Literal["store", "agent", "builder"]
    name: str
    address: str = Field(description="`unix:<path>` of the socket on which it is served")


class Renewal(BaseModel):
    """What an author runs of an extension."""

    version: str
    components: list[Component]
    start: int = Field(0, description="counts how often it was started; another number may mean other hooks")


@router.put("/plugins/development/{extension}")
def hold_development(app: App, extension: str, renewal: Renewal) -> dict[str, Any]:
    """Use the components of an extension from where an author runs them, until this is not repeated in time."""
    components = tuple(DevelopedComponent(each.family, each.name, each.address) for each in renewal.components)
    return app.development.hold(Developed(extension, renewal.version, components, renewal.start))


@router.delete("/plugins/development/{extension}", status_code=204)
def release_development(app: App, extension: str) -> Response:
    """Forget an extension under development; forgotten already is fine."""
    app.development.release(extension)
    return Response(status_code=204)
