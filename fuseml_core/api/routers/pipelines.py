"""Templates and pipelines."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from fuseml_core.api.routers.application import App
from fuseml_core.engine.creation import RunMode
from fuseml_core.service.views import pipeline_view

router = APIRouter(tags=["pipelines"])


class NewPipeline(BaseModel):
    """A template to bind to a project."""

    template: str
    name: str
    inputs: dict[str, str] = Field(default_factory=dict)
    parameters: dict[str, Any] = Field(default_factory=dict)
    existing: str = "latest"


class NewRun(BaseModel):
    """A run to start by hand."""

    inputs: dict[str, str] = Field(default_factory=dict)
    parameters: dict[str, Any] = Field(default_factory=dict)
    no_cache: bool = False
    only: str = Field("", description="the one step to execute")
    stepping: bool = Field(False, description="hold each step until it is released")


class NewSweep(BaseModel):
    """Runs to start for each combination of values."""

    inputs: dict[str, str] = Field(default_factory=dict)
    grid: dict[str, list[Any]] = Field(description="values by parameter")


@router.get("/templates")
def list_templates(app: App) -> list[dict[str, Any]]:
    """Templates of the installed extensions."""
    return app.pipelines.templates()


@router.get("/templates/{name:path}")
def get_template(app: App, name: str) -> dict[str, Any]:
    """One template, by `<extension>/<name>` or by its short name."""
    return app.pipelines.template(name)


@router.get("/projects/{project}/pipelines")
def list_pipelines(app: App, project: str) -> list[dict[str, Any]]:
    """Pipelines of a project."""
    return app.pipelines.all(project)


@router.post("/projects/{project}/pipelines", status_code=201)
def add_pipeline(app: App, project: str, pipeline: NewPipeline) -> dict[str, Any]:
    """Bind a template; it fires for what its selectors match already."""
    return app.pipelines.add(project, pipeline.template, pipeline.name, pipeline.inputs, pipeline.parameters,
                             pipeline.existing)


@router.get("/projects/{project}/pipelines/{name}")
def get_pipeline(app: App, project: str, name: str) -> dict[str, Any]:
    """One pipeline."""
    return pipeline_view(app.pipelines.get(project, name))


@router.delete("/projects/{project}/pipelines/{name}", status_code=204)
def remove_pipeline(app: App, project: str, name: str) -> Response:
    """Remove a pipeline with its runs and services; artifacts stay."""
    app.pipelines.remove(project, name)
    return Response(status_code=204)


@router.post("/projects/{project}/pipelines/{name}/pause")
def pause_pipeline(app: App, project: str, name: str) -> dict[str, Any]:
    """Let nothing trigger a pipeline."""
    return app.pipelines.set_state(project, name, "paused")


@router.post("/projects/{project}/pipelines/{name}/resume")
def resume_pipeline(app: App, project: str, name: str) -> dict[str, Any]:
    """Let artifacts trigger a pipeline again."""
    return app.pipelines.set_state(project, name, "active")


@router.post("/projects/{project}/pipelines/{name}/update")
def update_pipeline(app: App, project: str, name: str, dry_run: bool = False) -> dict[str, Any]:
    """Bind a pipeline to its template as the extension that is installed now has it; answers what changes."""
    return app.pipeline_updates.update(project, name, dry_run=dry_run)


@router.post("/projects/{project}/pipelines/{name}/runs", status_code=201)
def start_run(app: App, project: str, name: str, run: NewRun) -> dict[str, Any]:
    """Start a run by hand."""
    mode = RunMode(no_cache=run.no_cache, only=run.only, stepping=run.stepping)
    return app.runs.view(app.manual_runs.start(project, name, run.inputs, run.parameters, mode))


@router.post("/projects/{project}/pipelines/{name}/sweeps", status_code=201)
def start_sweep(app: App, project: str, name: str, sweep: NewSweep) -> dict[str, Any]:
    """Start one run for each combination of parameter values."""
    runs = app.manual_runs.sweep(project, name, sweep.inputs, sweep.grid)
    return {"change": runs[0].change, "runs": [r.name for r in runs]}


@router.get("/projects/{project}/results")
def get_results(app: App, project: str, pipeline: str = "", current_code: bool = False,
                recursive: bool = False) -> dict[str, Any]:
    """Runs with inputs and outputs, what followed from each below it."""
    app.projects.get(project)
    return {"items": app.runs.results(project, pipeline=pipeline, current_code=current_code, recursive=recursive)}
