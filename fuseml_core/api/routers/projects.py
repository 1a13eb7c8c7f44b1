"""Projects and their codesets."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from fuseml_core.api.routers.application import App
from fuseml_core.service.views import decision_view, version_view

router = APIRouter(tags=["projects"])


class NewProject(BaseModel):
    """A project to create."""

    name: str
    description: str = ""


class ChosenStore(BaseModel):
    """Where new artifacts of a kind go."""

    store: str = Field("", description="such as `shelf/shelf`; empty: the built-in one")


class NewCodeset(BaseModel):
    """A codeset to create."""

    name: str


class PushedVersion(BaseModel):
    """A commit that was pushed."""

    commit: str = Field(description="full object id")
    branch: str = "main"


@router.get("/projects")
def list_projects(app: App) -> list[dict[str, Any]]:
    """All projects."""
    return app.projects.all()


@router.post("/projects", status_code=201)
def create_project(app: App, project: NewProject) -> dict[str, Any]:
    """Create a project; 409 when the name is taken."""
    return app.projects.create(project.name, project.description)


@router.get("/projects/{project}")
def get_project(app: App, project: str) -> dict[str, Any]:
    """One project."""
    return app.projects.get(project)


@router.put("/projects/{project}/stores/{kind}")
def set_store(app: App, project: str, kind: str, chosen: ChosenStore) -> dict[str, Any]:
    """Let new artifacts of a kind go to a store; those that are there stay where they lie."""
    return app.projects.set_store(project, kind, chosen.store)


@router.delete("/projects/{project}", status_code=204)
def delete_project(app: App, project: str, force: bool = False) -> Response:
    """Delete a project; refused while it has something, unless forced."""
    app.projects.delete(project, force=force)
    return Response(status_code=204)


@router.get("/projects/{project}/codesets")
def list_codesets(app: App, project: str) -> list[dict[str, Any]]:
    """Codesets of a project with their current versions."""
    return app.codesets.all(project)


@router.post("/projects/{project}/codesets", status_code=201)
def create_codeset(app: App, project: str, codeset: NewCodeset) -> dict[str, Any]:
    """Make the repository of a codeset; made already is fine."""
    return app.codesets.create(project, codeset.name)


@router.get("/projects/{project}/codesets/{name}")
def get_codeset(app: App, project: str, name: str) -> dict[str, Any]:
    """One codeset."""
    return app.codesets.get(project, name)


@router.delete("/projects/{project}/codesets/{name}", status_code=204)
def delete_codeset(app: App, project: str, name: str) -> Response:
    """Delete a codeset's repository; its versions stay as records."""
    app.codesets.delete(project, name)
    return Response(status_code=204)


@router.post("/projects/{project}/codesets/{name}/versions")
def push_version(app: App, project: str, name: str, pushed: PushedVersion) -> dict[str, Any]:
    """Register a pushed commit and let every pipeline look at it; registered already is fine.

    `retyped`: it was there already, and now that builders could look at it, it has another type.
    """
    registered = app.codesets.push(project, name, pushed.commit, pushed.branch)
    return {"artifact": version_view(registered.version), "new": registered.new, "change": registered.change,
            "retyped": registered.retyped,
            "decisions": [decision_view(d) for d in registered.decisions]}
