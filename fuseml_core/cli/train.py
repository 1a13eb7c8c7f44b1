"""`fuseml train`: for who has code and wants a model, and no more (R188)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fuseml_core.cli.codeset import push_version, say_version
from fuseml_core.cli.context import enter, project_option
from fuseml_core.cli.follow import follow
from fuseml_core.cli.pairs import Folder, Pair, as_mapping
from fuseml_core.cli.render import echo, fields, output_option, show_data, table
from fuseml_core.cli.run import load
from fuseml_core.cli.shapes import TRAIN, Chosen, check_possible, choose
from fuseml_core.cli.sweeps import metrics_of

if TYPE_CHECKING:
    from fuseml_core.cli.client import Client


@click.command()
@click.argument("folder", type=Folder())
@click.option("--name", help="Name of the codeset; by default the folder's.")
@click.option("--param", "--parameter", "params", type=Pair(), multiple=True,
              help="Value of a parameter for this run. Repeatable.")
@click.option("--template", help="Which template trains it, where several would.")
@click.option("--no-wait", is_flag=True, help="Do not wait until the model is there.")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
              help="Stop waiting after so long; the runs go on.")
@project_option
@output_option
def train(*, folder: Path, name: str | None, params: tuple[tuple[str, str], ...], template: str | None,
          no_wait: bool, timeout: float | None, project: str | None, output: str) -> None:
    """Train the code in FOLDER: push it, run a pipeline that trains it, show the metrics and the model.

    A pipeline of the project that trains this code is used; if there is none, one is added from the only template
    that takes it. For instance: fuseml train examples/diabetes --param alpha=0.5
    """
    parameters, err = as_mapping(params, "--param"), output != "table"
    client, project = enter(project)
    check_possible(client, project, TRAIN, template)
    client, project, version, pushed = push_version(folder, name, project)
    say_version(version, pushed, hint=False, expects_pipeline=False, err=err)
    chosen = choose(client, project, TRAIN, version["artifact"], template=template, err=err)
    run = _run(client, project, chosen, version, parameters, err=err)
    if not no_wait:
        follow(client, run["change"], timeout=timeout, err=err)
        run = load(client, project, run["name"])
    if output != "table":
        show_data(run, output)
    elif no_wait:
        echo(f"Watch it: fuseml run watch {run['name']}")
    else:
        _show(run)


def _run(client: Client, project: str, chosen: Chosen, version: dict[str, Any], parameters: dict[str, str], *,
         err: bool) -> dict[str, Any]:
    """The run that the push started, unless parameters ask for one of their own; else a run started by hand."""
    if version.get("new") and not parameters:
        for decision in version.get("decisions") or []:
            if decision["pipeline"] == chosen.pipeline and decision.get("run"):
                return load(client, project, decision["run"])
    body = {"inputs": {chosen.input: version["artifact"]["address"]}, "parameters": parameters}
    run: dict[str, Any] = client.post("projects", project, "pipelines", chosen.pipeline, "runs", body=body)
    echo(f"Run {run['name']} started.", err=err)
    return run


def _show(run: dict[str, Any]) -> None:
    """Metrics and models of a run."""
    metrics = metrics_of(run)
    if metrics:
        echo("\n" + table(["Metric", "Value"], [[name, f"{value:g}"] for name, value in metrics.items()]))
    models = [output["short"] for output in run["outputs"] if str(output["value"]).startswith("model://")]
    echo("\n" + fields([("Run", run["name"]), ("Model", models or "none: the script logged no model")]))
    if models:
        echo(f"Serve it: fuseml serve {models[-1]}")
