"""`fuseml service`: served models."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from fuseml_core.cli.context import enter, project_option
from fuseml_core.cli.render import Column, echo, output_option, show_item, show_list
from fuseml_core.domain.errors import Failed, FusemlError, Invalid, NotFound, Unavailable

if TYPE_CHECKING:
    from fuseml_core.cli.client import Client

COLUMNS: list[Column] = [
    ("Name", "name"), ("State", "state"), ("URL", "url"),
    ("Model", lambda item: item.get("short") or item.get("model")),
    ("Pipeline", "pipeline"), ("Restarts", "restarts"), ("Message", "message"),
]
ITEM: list[Column] = [
    ("Name", "name"), ("Project", "project"), ("State", "state"), ("URL", "url"), ("Model", "model"),
    ("Pipeline", "pipeline"), ("Run", "run"), ("Instance", "instance"), ("Restarts", "restarts"),
    ("Message", "message"),
]


@click.group()
def service() -> None:
    """List served models, read their logs, ask them for predictions, stop and start them."""


@service.command("list")
@project_option
@output_option
def list_(project: str | None, output: str) -> None:
    """List the services of the project."""
    client, project = enter(project)
    show_list(client.get("projects", project, "services"), output, COLUMNS,
              empty=f"There are no services in project {project}.")


@service.command("get")
@click.argument("name")
@project_option
@output_option
def get(name: str, project: str | None, output: str) -> None:
    """Show the service NAME."""
    client, project = enter(project)
    show_item(client.get("projects", project, "services", name), output, ITEM)


@service.command("logs")
@click.argument("name")
@click.option("--follow", "-f", "following", is_flag=True, help="Go on until stopped with Ctrl-C.")
@project_option
def logs(name: str, following: bool, project: str | None) -> None:
    """Print what the service NAME wrote."""
    from fuseml_core.cli.logs import print_growing

    client, project = enter(project)
    print_growing(client, ("projects", project, "services", name, "logs"), {}, following=following)


@service.command("stop")
@click.argument("name")
@project_option
def stop(name: str, project: str | None) -> None:
    """Stop the service NAME; it stays stopped, after a restart too, until started again."""
    client, project = enter(project)
    client.post("projects", project, "services", name, "stop", timeout=120.0, repeatable=True)
    echo(f"Service {name} is stopped.")


@service.command("start")
@click.argument("name")
@project_option
def start(name: str, project: str | None) -> None:
    """Start the service NAME again."""
    client, project = enter(project)
    found = client.post("projects", project, "services", name, "start", timeout=120.0, repeatable=True) or {}
    echo(f"Service {name} is {found.get('state') or 'starting'}. {found.get('url') or ''}".rstrip())


@service.command("predict")
@click.argument("name")
@click.option("--data", "-d", metavar="JSON|@FILE|-",
              help="Rows as JSON, @ and the name of a file with them, or - for standard input.")
@click.option("--example", is_flag=True, help="Send the rows that were saved with the model as its input example.")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), default=60.0, show_default=True,
              metavar="SECONDS", help="How long the answer may take.")
@project_option
def predict(*, name: str, data: str | None, example: bool, timeout: float, project: str | None) -> None:
    """Send rows to the service NAME and print its answer.

    Rows are a list of lists, a list of objects, or a document of the Open Inference protocol.
    """
    if example is (data is not None):
        raise click.UsageError("Give either --data or --example.")
    rows = None if data is None else _document(data)
    client, project = enter(project)
    found = client.get("projects", project, "services", name)
    if found.get("state") == "stopped":
        raise Unavailable(f"Service {name} is stopped.", hint=f"Start it: fuseml service start {name}")
    if rows is None:
        rows = example_rows(client, found)
        click.echo(f"Rows: {json.dumps(rows)}", err=True)
    path = f"/serve/{quote(project, safe='')}/{quote(name, safe='')}/predict"
    status, answer = client.raw("POST", path, rows, timeout=timeout)
    text = answer.decode(errors="replace").strip()
    if status >= 400:
        raise _refusal(name, status, text)
    echo(text, raw=True)


def example_rows(client: Client, found: Mapping[str, Any], most: int = 3) -> Any:
    """The first rows of the input example that was saved with a service's model.

    Args:
        client: For the server.
        found: The service.
        most: How many rows.

    Raises:
        NotFound: The model was saved without an example, or with a large one.
    """
    model = client.get("artifacts", "resolve", query={"address": found["model"], "project": found["project"]})
    example = (model.get("metadata") or {}).get("input_example")
    if not example:
        raise NotFound(f"The model of service {found['name']} was saved without an input example.",
                       hint="Give the rows yourself: --data '[[1.0, 2.0]]'")
    return first_rows(example, most)


def first_rows(example: Any, most: int) -> Any:
    """Plain rows out of an input example of MLflow: a data frame in split form, `inputs`, `instances` or rows."""
    if not isinstance(example, dict):
        return example[:most] if isinstance(example, list) else example
    for key in ("dataframe_split", "dataframe_records", "inputs", "instances"):
        if key in example:
            return first_rows(example[key], most)
    if "columns" in example and "data" in example:
        return [dict(zip(example["columns"], row, strict=True)) for row in example["data"][:most]]
    return example


def _refusal(name: str, status: int, text: str) -> FusemlError:
    """The error for an answer that is no prediction: the gateway's problem document, or what the model server says."""
    from fuseml_core.cli.client import problem_error

    try:
        problem = json.loads(text)
    except ValueError:
        problem = None
    if isinstance(problem, dict) and problem.get("code"):
        return problem_error(problem, status)
    said = problem["error"] if isinstance(problem, dict) and isinstance(problem.get("error"), str) else text[:2000]
    if status >= 500:
        return Unavailable(f"Service {name} failed (HTTP status {status}): {said}",
                           hint=f"See: fuseml service logs {name}")
    return Failed(f"Service {name} refused the rows (HTTP status {status}): {said}",
                  hint="The model's columns and types are in its signature: fuseml model list, fuseml model get NAME")


def _document(data: str) -> Any:
    """The JSON document that `--data` gives or names.

    Raises:
        Invalid: It is not JSON, or the file cannot be read.
    """
    source = "--data"
    if data == "-":
        data, source = sys.stdin.read(), "standard input"
    elif data.startswith("@"):
        source = data[1:]
        try:
            with open(source, encoding="utf-8") as file:  # noqa: PTH123 - the user's own spelling of the path
                data = file.read()
        except (OSError, UnicodeDecodeError) as error:
            raise Invalid(f"{source} cannot be read: {error}") from None
    try:
        return json.loads(data)
    except ValueError as error:
        raise Invalid(f"{source} is not JSON: {error}", hint="For instance: --data '[[5.1, 3.5]]'") from None
