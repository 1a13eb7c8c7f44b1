"""`fuseml codeset`: code and its versions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fuseml_core.cli.artifact import fetch, resolve
from fuseml_core.cli.cells import moment
from fuseml_core.cli.context import enter, project_option
from fuseml_core.cli.follow import follow, say_decisions, wait_options
from fuseml_core.cli.pairs import Folder
from fuseml_core.cli.render import Column, echo, output_option, show_data, show_item, show_list

if TYPE_CHECKING:
    from fuseml_core.cli.client import Client
    from fuseml_core.cli.snapshot import Pushed

COLUMNS: list[Column] = [("Name", "name"), ("Current version", "short"), ("Type", "type"),
                         ("Clone URL", "clone_url"), ("Created", lambda item: moment(item.get("created_at")))]
VERSIONS: list[Column] = [("Address", "short"), ("Type", "type"), ("Change", "change"),
                          ("Created", lambda item: moment(item.get("created_at")))]
ITEM: list[Column] = [("Address", "address"), ("Short", "short"), ("Type", "type"), ("Location", "location"),
                      ("Aliases", "aliases"), ("Labels", "labels"), ("Metadata", "metadata"), ("Change", "change"),
                      ("Created", lambda item: moment(item.get("created_at")))]


@click.group()
def codeset() -> None:
    """Push code, list and inspect its versions."""


@codeset.command("push")
@click.argument("folder", type=Folder())
@click.option("--name", help="Name of the codeset; by default the folder's.")
@click.option("--branch", default="main", show_default=True, help="Branch at the server.")
@click.option("--message", "-m", default="", help="Message of the snapshot's commit.")
@click.option("--snapshot", is_flag=True, help="Push the files as a snapshot even if the folder is a clean git root.")
@wait_options
@project_option
@output_option
def push(*, folder: Path, name: str | None, branch: str, message: str, snapshot: bool, wait: bool,
         timeout: float | None, project: str | None, output: str) -> None:
    """Push FOLDER as a new version of a codeset and start what depends on it.

    A clean git root is pushed as its own HEAD; any other folder as a snapshot without what .gitignore and
    .fusemlignore exclude. Your repository is never touched. The same contents again make no new version.
    """
    client, project, version, pushed = push_version(folder, name, project, branch=branch, message=message,
                                                    snapshot=snapshot)
    if output == "table":
        say_version(version, pushed, hint=not wait)
    else:
        show_data(version, output)
    change = version.get("change") or version["artifact"].get("change")
    if wait and change and (version.get("new") or client.get("changes", change)["state"] == "active"):
        follow(client, change, timeout=timeout, err=output != "table")


@codeset.command("list")
@project_option
@output_option
def list_(project: str | None, output: str) -> None:
    """List the codesets of the project."""
    client, project = enter(project)
    show_list(client.get("projects", project, "codesets"), output, COLUMNS,
              empty=f"There are no codesets in project {project}. Push one: fuseml codeset push FOLDER --name NAME")


@codeset.command("get")
@click.argument("name", metavar="NAME|ADDRESS")
@project_option
@output_option
def get(name: str, project: str | None, output: str) -> None:
    """Show the codeset NAME and its newest versions, or the one version at ADDRESS (code://myproj/myapp/f3b0924)."""
    client, project = enter(project)
    if "://" in name:
        show_item(resolve(client, project, "codeset", name), output, ITEM)
        return
    found = client.get("projects", project, "codesets", name)
    versions = fetch(client, {"kind": "codeset", "project": project, "name": name}, 20)
    if output != "table":
        show_data({**found, "versions": versions}, output)
        return
    show_item(found, output, [*COLUMNS, ("Type because", "detection")])
    echo("")
    show_list(versions, output, VERSIONS, empty="It has no versions yet.")


@codeset.command("delete")
@click.argument("name")
@project_option
def delete(name: str, project: str | None) -> None:
    """Delete the codeset NAME with its repository; what was made from it stays."""
    client, project = enter(project)
    client.delete("projects", project, "codesets", name, timeout=120.0)
    echo(f"Codeset {name} deleted from project {project}.")


def push_version(folder: Path, name: str | None, project: str | None, *, branch: str = "main", message: str = "",
                 snapshot: bool = False) -> tuple[Client, str, dict[str, Any], Pushed]:
    """Push a folder as a version of a codeset.

    Args:
        folder: What to push.
        name: Of the codeset; None: the folder's.
        project: As `--project` gives it.
        branch: At the server.
        message: Of the snapshot's commit.
        snapshot: Push the files as they are even if the folder is a clean git root.

    Returns:
        The client, the project, the version as the API shows it with `new` and `decisions`, and what git did.
    """
    from fuseml_core.cli.snapshot import Remote, check_branch
    from fuseml_core.cli.snapshot import push as push_folder
    from fuseml_core.cli.survey import survey

    check_branch(branch)
    found = survey(folder, snapshot=snapshot)
    for warning in found.warnings:
        echo(f"Warning: {warning}", err=True)
    name = found.folder.name.lower() if name is None else name
    client, project = enter(project)
    made = client.post("projects", project, "codesets", body={"name": name}, repeatable=True)
    pushed = push_folder(found, Remote(_git_url(client, made, project, name), branch), message)
    version = client.post("projects", project, "codesets", name, "versions", timeout=120.0, repeatable=True,
                          body={"commit": pushed.commit, "branch": branch})
    if pushed.new and not version.get("new"):
        version = _noticed(client, version)
    return client, project, version, pushed


def _noticed(client: Client, version: dict[str, Any]) -> dict[str, Any]:
    """The answer for a version that the server noticed in its git before it was told: new all the same."""
    artifact = version["artifact"]
    followed = client.get("changes", artifact["change"]) if artifact.get("change") else {}
    decisions = [entry for entry in followed.get("decisions") or [] if entry.get("address") == artifact["address"]]
    return {**version, "new": True, "change": artifact.get("change"), "decisions": decisions}


def _git_url(client: Client, made: dict[str, Any], project: str, name: str) -> str:
    """Where to push: below the base URL that the CLI itself uses, which the server need not know."""
    if client.settings.url or not made.get("clone_url"):
        return f"{client.base_url()}/git/{project}/{name}.git"
    return str(made["clone_url"])


def say_version(version: dict[str, Any], pushed: Pushed, *, hint: bool, expects_pipeline: bool = True,
                err: bool = False) -> None:
    """Print the address, which pipelines started, and which did not and why."""
    artifact = version["artifact"]
    new = bool(version["new"])
    echo(f"{artifact['short']}{'' if new else ' (unchanged: no new version)'}", err=err)
    if pushed.note:
        echo(f"  {pushed.note}", err=err)
    _say_failures(artifact, err)
    if version.get("retyped"):
        why = (artifact.get("metadata") or {}).get("detection") or "a builder says so"
        echo(f"  It is of type {artifact.get('type') or 'none'} now: {why}", err=err)
    decisions = version.get("decisions") or [] if new or version.get("retyped") else []
    say_decisions(decisions, err=err)
    if new and not decisions and expects_pipeline:
        echo("  No active pipeline takes it. Add one: fuseml pipeline add TEMPLATE --input NAME='code://*'")
    if hint and any(decision.get("decision") == "fired" for decision in decisions):
        echo(f"  Watch: fuseml change watch {version['change']}")


def _say_failures(artifact: dict[str, Any], err: bool) -> None:
    """Print which builders could not look at what was pushed and why, and what it counts as meanwhile."""
    failures = (artifact.get("metadata") or {}).get("detection_failures") or []
    for failure in failures:
        echo(f"  Warning: the builder {failure['builder']} could not look at it: {failure['error']}", err=err)
        echo(f"    {failure['hint']}", err=err)
    if failures and artifact.get("type"):
        echo(f"  Another builder recognised it: it is of type {artifact['type']}.", err=err)
    elif failures:
        echo("  It is registered without a type: only pipelines that ask for none take it. When the builder works, "
             "push again.", err=err)
