"""`fuseml artifact|model|dataset|runnable`: what FuseML knows about immutable objects at rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fuseml_core.cli.cells import moment, size
from fuseml_core.cli.context import connect, enter, project_option
from fuseml_core.cli.render import Column, output_option, show_item, show_list
from fuseml_core.domain.errors import Invalid

if TYPE_CHECKING:
    from fuseml_core.cli.client import Client


def made_by(item: dict[str, Any]) -> str:
    """The run and step that made an artifact; empty if it was pushed."""
    producer = item.get("producer") or {}
    return " ".join(part for part in (producer.get("run"), producer.get("step")) if part)


LIST: list[Column] = [
    ("Address", "short"),
    ("Type", "type"),
    ("Size", lambda item: size(item.get("size"))),
    ("Made by", made_by),
    ("Created", lambda item: moment(item.get("created_at"))),
]
ITEM: list[Column] = [
    ("Address", "address"), ("Short", "short"), ("Kind", "kind"), ("Project", "project"), ("Name", "name"),
    ("Type", "type"), ("Size", lambda item: size(item.get("size"))), ("Location", "location"), ("Store", "store"),
    ("Aliases", "aliases"), ("Labels", "labels"), ("Metadata", lambda item: item.get("metadata")),
    ("Made by", made_by), ("Change", "change"),
    ("Created", lambda item: moment(item.get("created_at"))),
]
#: Kinds of runnables; `store` is what the stores of extensions have.
RUNNABLE_KINDS = ("builder", "trainer", "predictor", "transformer", "validator", "explainer", "notebook", "converter",
                  "agent", "store", "custom")
#: Kinds and how their addresses begin.
SCHEMES = {"codeset": "code", "runnable": "runnable", "model": "model", "dataset": "dataset"}


def fetch(client: Client, query: dict[str, Any], limit: int) -> list[dict[str, Any]]:
    """Artifacts that match, page by page until `limit`."""
    found: list[dict[str, Any]] = []
    cursor: Any = None
    while len(found) < limit:
        page = client.get("artifacts", query={**query, "limit": min(limit - len(found), 500), "cursor": cursor})
        found += page["items"]
        cursor = page.get("cursor")
        if not cursor or not page["items"]:
            break
    return found


def resolve(client: Client, project: str, kind: str, name: str) -> dict[str, Any]:
    """The artifact at an address, or the newest one of a kind with a name in a project.

    Raises:
        Invalid: No kind is given, and what is named is not an address.
    """
    if not kind and "://" not in name:
        raise Invalid(f"{name!r} is not an address.", hint="An address is such as model://myproj/churn.")
    address = name if "://" in name else f"{SCHEMES[kind]}://{project}/{name}"
    found: dict[str, Any] = client.get("artifacts", "resolve", query={"address": address, "project": project})
    return found


def _list(*, kind: str | None, type_: str | None, name: str | None, limit: int, everywhere: bool,
          project: str | None, output: str) -> None:
    """Print artifacts of a project, or of all."""
    if everywhere:
        client, project, place = connect(), None, "on this server"
    else:
        client, project = enter(project)
        place = f"in project {project}"
    items = fetch(client, {"kind": kind, "type": type_, "name": name, "project": project}, limit)
    what = "".join([f" of kind {type_ or kind}" if type_ or kind else "", f" named {name}" if name else ""])
    show_list(items, output, LIST, empty=f"There are no artifacts{what} {place}.")


def _noun(kind: str | None) -> click.Group:
    """The group for a kind, with `list` and `get`; None: for all kinds."""
    word = kind or "artifact"
    group = click.Group(word, help=f"List and inspect {word}s{'' if kind else ' of every kind'}.")

    def list_(*, limit: int, everywhere: bool, project: str | None, output: str, name: str | None = None,
              kinds: str | None = kind, type_: str | None = None) -> None:
        _list(kind=kinds, type_=type_, name=name, limit=limit, everywhere=everywhere, project=project, output=output)

    def get(name: str, project: str | None, output: str) -> None:
        client, project = enter(project)
        show_item(resolve(client, project, kind or "", name), output, ITEM)

    command = output_option(project_option(list_))
    command = click.option("--all-projects", "-A", "everywhere", is_flag=True, help="In all projects.")(command)
    command = click.option("--limit", type=click.IntRange(1, 1_000_000), default=100, show_default=True,
                           help="How many at most, newest first.")(command)
    command = click.option("--name", help="Only those with this name.")(command)
    if kind is None:
        command = click.option("--kind", "kinds", help="Only this kind: codeset, runnable, model, dataset.")(command)
    if kind == "runnable":
        command = click.option("--kind", "type_", type=click.Choice(RUNNABLE_KINDS), metavar="KIND",
                               help=f"Only this kind: {', '.join(RUNNABLE_KINDS)}.")(command)
    group.command("list", help=f"List {word}s, newest first.")(command)
    metavar, what = ("ADDRESS", "the artifact at ADDRESS") if kind is None else (
        "NAME|ADDRESS", f"a {kind}: the newest version of NAME, or the one at ADDRESS")
    group.command("get", help=f"Show {what}, such as {SCHEMES[kind or 'model']}://myproj/churn.")(
        click.argument("name", metavar=metavar)(output_option(project_option(get))))
    return group


artifact = _noun(None)
model = _noun("model")
dataset = _noun("dataset")
runnable = _noun("runnable")
