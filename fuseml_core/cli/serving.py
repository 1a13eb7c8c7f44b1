"""`fuseml serve MODEL`: for who has a model and wants its URL, and no more (R188)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fuseml_core.cli.artifact import resolve
from fuseml_core.cli.context import enter
from fuseml_core.cli.follow import follow
from fuseml_core.cli.render import echo, fields, show_data
from fuseml_core.cli.shapes import SERVE, choose
from fuseml_core.domain.errors import Failed, Invalid

if TYPE_CHECKING:
    from fuseml_core.cli.client import Client


def serve_model(model: str, *, name: str | None, project: str | None, timeout: float | None, output: str) -> None:
    """Serve a model by a pipeline of the project, wait until it answers, print its URL.

    Args:
        model: Its address, or its name in the project.
        name: Of the pipeline; None: any that serves the model, else one that is added.
        project: As `--project` gives it.
        timeout: Seconds to wait; None: as long as it takes.
        output: `table`, `json` or `yaml`.

    Raises:
        Invalid: The address is not that of a model, or no template, or several, would serve it.
        Failed: The model does not serve.
    """
    err = output != "table"
    client, project = enter(project)
    found = resolve(client, project, "model", model)
    if found["kind"] != "model":
        raise Invalid(f"{model} is a {found['kind']}; only a model can be served.",
                      hint="See: fuseml model list")
    chosen = choose(client, project, SERVE, found, name=name, err=err)
    service = _serving(client, project, found, chosen.pipeline)
    if service is None or service["state"] != "ready":
        body = {"inputs": {chosen.input: found["address"]}}
        run = client.post("projects", project, "pipelines", chosen.pipeline, "runs", body=body)
        follow(client, run["change"], timeout=timeout, err=err)
        service = _serving(client, project, found, chosen.pipeline)
    if service is None:
        raise Failed(f"The pipeline {chosen.pipeline} has succeeded but serves another model by now.",
                     hint="See: fuseml service list")
    if output != "table":
        show_data(service, output)
        return
    echo("\n" + fields([("Service", service["name"]), ("Model", service["short"]), ("URL", service["url"])]))
    echo(f"Try it: fuseml service predict {service['name']} --example")


def _serving(client: Client, project: str, model: dict[str, Any], pipeline: str) -> dict[str, Any] | None:
    """The service of a pipeline that serves exactly this model."""
    for service in client.get("projects", project, "services"):
        if service["pipeline"] == pipeline and service["model"] == model["address"]:
            return dict(service)
    return None
