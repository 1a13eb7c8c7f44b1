"""`fuseml pipeline`: templates bound to a project."""

from __future__ import annotations

from typing import Any

import click

from fuseml_core.cli.cells import bindings, moment
from fuseml_core.cli.context import connect, enter, project_option
from fuseml_core.cli.follow import follow, say_decisions, wait_options
from fuseml_core.cli.pairs import as_mapping, binding_options
from fuseml_core.cli.render import Column, echo, output_option, show_data, show_item, show_list, table

COLUMNS: list[Column] = [
    ("Name", "name"), ("Template", "template"), ("State", "state"), ("Inputs", "inputs"),
    ("Parameters", "parameters"), ("Runs", "runs"), ("Created", lambda item: moment(item.get("created_at"))),
]
ITEM: list[Column] = [*COLUMNS, ("Project", "project"), ("Template digest", "template_digest"),
                      ("Extension digest", "extension_digest")]
TEMPLATES: list[Column] = [
    ("Name", "short"), ("Extension", lambda item: f"{item['extension']} {item.get('version', '')}".strip()),
    ("Inputs", lambda item: _declared(item.get("inputs"), "kind")),
    ("Outputs", lambda item: list(item.get("outputs") or {})),
    ("Summary", "summary"),
]


@click.group()
def pipeline() -> None:
    """Add pipelines from templates, pause, resume, update and remove them, show their results."""


@pipeline.command("add")
@click.argument("template")
@click.option("--name", help="Name of the pipeline; by default the template's.")
@binding_options
@click.option("--existing", type=click.Choice(["latest", "none", "all"]), default="latest", show_default=True,
              help="Which versions that exist already start a run.")
@wait_options
@project_option
@output_option
def add(*, template: str, name: str | None, inputs: tuple[tuple[str, str], ...], params: tuple[tuple[str, str], ...],
        existing: str, wait: bool, timeout: float | None, project: str | None, output: str) -> None:
    """Bind TEMPLATE to the project; from then on it runs for every version its inputs match.

    For instance: fuseml pipeline add mlflow-training --name training-pipeline --input mlflow_code='code://*'
    """
    client, project = enter(project)
    body = {"template": template, "name": name or template.rpartition("/")[2], "existing": existing,
            "inputs": as_mapping(inputs, "--input"), "parameters": as_mapping(params, "--param")}
    added = client.post("projects", project, "pipelines", body=body, timeout=120.0)
    if output == "table":
        echo(f"Pipeline {body['name']} added to project {project} ({added['pipeline']['template']}).")
        say_decisions(added.get("decisions") or [])
    else:
        show_data(added, output)
    if wait and added.get("change") and added.get("started"):
        follow(client, added["change"], timeout=timeout, err=output != "table")


@pipeline.command("list")
@project_option
@output_option
def list_(project: str | None, output: str) -> None:
    """List the pipelines of the project."""
    client, project = enter(project)
    show_list(client.get("projects", project, "pipelines"), output, COLUMNS,
              empty=f"There are no pipelines in project {project}. Add one: fuseml pipeline add TEMPLATE "
                    "(fuseml pipeline template list shows what there is).")


@pipeline.command("get")
@click.argument("name")
@project_option
@output_option
def get(name: str, project: str | None, output: str) -> None:
    """Show the pipeline NAME."""
    client, project = enter(project)
    show_item(client.get("projects", project, "pipelines", name), output, ITEM)


@pipeline.command("remove")
@click.argument("name")
@project_option
def remove(name: str, project: str | None) -> None:
    """Remove the pipeline NAME; what its runs made stays."""
    client, project = enter(project)
    client.delete("projects", project, "pipelines", name, timeout=120.0)
    echo(f"Pipeline {name} removed from project {project}.")


@pipeline.command("pause")
@click.argument("name")
@project_option
def pause(name: str, project: str | None) -> None:
    """Let new versions start no runs of the pipeline NAME until it is resumed."""
    client, project = enter(project)
    client.post("projects", project, "pipelines", name, "pause", repeatable=True)
    echo(f"Pipeline {name} is paused. Go on with: fuseml pipeline resume {name}")


@pipeline.command("resume")
@click.argument("name")
@project_option
def resume(name: str, project: str | None) -> None:
    """Let new versions start runs of the pipeline NAME again."""
    client, project = enter(project)
    client.post("projects", project, "pipelines", name, "resume", repeatable=True)
    echo(f"Pipeline {name} is active.")


@pipeline.command("update")
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@project_option
@output_option
def update(name: str, dry_run: bool, project: str | None, output: str) -> None:
    """Bind the pipeline NAME to its template as the extension that is installed now has it.

    Pipelines keep the version of the extension that they were added with, whatever is installed since.
    """
    client, project = enter(project)
    done = client.post("projects", project, "pipelines", name, "update", query={"dry_run": dry_run}, timeout=120.0)
    if output != "table":
        show_data(done, output)
        return
    for line in done["changes"]:
        echo(line)
    if not done["changes"]:
        echo(f"Pipeline {name} is up to date.")
    elif dry_run:
        echo("Nothing was changed.")
    else:
        echo(f"Pipeline {name} is updated; new runs use {done['extension']} {done['to']}.")


@pipeline.group("template")
def template_group() -> None:
    """Look at the templates that installed extensions bring."""


@template_group.command("list")
@output_option
def template_list(output: str) -> None:
    """List the templates that can be added."""
    show_list(connect().get("templates"), output, TEMPLATES,
              empty="There are no templates. Install an extension: fuseml extension install REFERENCE")


@template_group.command("get")
@click.argument("name")
@output_option
def template_get(name: str, output: str) -> None:
    """Show the template NAME (`mlflow-training`, or `mlflow/mlflow-training` where several share the short name)."""
    found = connect().get("templates", *name.split("/"))
    if output != "table":
        show_data(found, output)
        return
    show_item(found, output, [("Name", "name"), ("Summary", "summary"), ("Version", "version"),
                              ("Inputs", lambda item: _declared(item.get("inputs"), "kind")),
                              ("Parameters", lambda item: _declared(item.get("parameters"), "type")),
                              ("Steps", lambda item: list(item.get("steps") or {})),
                              ("Outputs", lambda item: _declared(item.get("outputs"), "from"))])


@pipeline.group("results")
def results() -> None:
    """Look at what pipelines made."""


@results.command("show")
@click.option("--pipeline", "name", help="Only results of this pipeline.")
@click.option("--current-code", is_flag=True, help="Only what came from the newest version of the code.")
@click.option("--recursive", is_flag=True, help="Also what came from those results, such as services of models.")
@project_option
@output_option
def show(name: str | None, current_code: bool, recursive: bool, project: str | None, output: str) -> None:
    """Show runs with their inputs and outputs."""
    client, project = enter(project)
    found = client.get("projects", project, "results", query={"pipeline": name, "current_code": current_code,
                                                              "recursive": recursive})
    if output != "table":
        show_data(found, output)
    elif found["items"]:
        echo(table(["Pipeline/Run", "Inputs", "Outputs"], [_result(item) for item in found["items"]]))
    else:
        click.echo(f"There are no results in project {project}{' for the current code' if current_code else ''}.",
                   err=True)


def _result(item: dict[str, Any]) -> list[Any]:
    outputs = bindings(item.get("outputs"))
    if item.get("state") != "succeeded":
        outputs.append(f"({item.get('state')})")
    return [item["run"], bindings(item.get("inputs")) or "-", outputs or "-"]


def _declared(entries: Any, key: str) -> list[str]:
    """Declared inputs, parameters or outputs as `name: what (default …)` lines."""
    lines = []
    for name, entry in (entries or {}).items():
        facts = entry if isinstance(entry, dict) else {}
        default = facts.get("default_from") or facts.get("default")
        shown = "" if default is None or default == "" else f" (default {default})"
        lines.append(f"{name}: {facts.get(key) or ''}{shown}")
    return lines
