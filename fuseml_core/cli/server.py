"""`fuseml server` and `fuseml serve`: the local server's processes."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from fuseml_core.cli.context import project_option
from fuseml_core.cli.render import output_option, show_item
from fuseml_core.settings import Settings

#: Log files by the process that writes them.
PROCESSES = ("launcher", "control", "data")
FOLLOW_POLL = 0.3


@click.group()
def server() -> None:
    """The local server: start, stop, status, logs."""


@server.command()
@click.option("--timeout", default=60.0, show_default=True, help="Seconds until it must answer.")
@click.option("--no-extensions", is_flag=True, help="Safe mode: load nothing of installed extensions.")
def start(timeout: float, no_extensions: bool) -> None:
    """Start the server in the background; one that runs already is fine.

    A process of the server that died again and again, so that it is not started any more, is started once more.
    """
    from dataclasses import replace

    from fuseml_core.launcher import start as start_server
    from fuseml_core.launcher import status as server_status

    settings = _settings()
    settings = replace(settings, no_extensions=settings.no_extensions or no_extensions)
    before = server_status(settings)
    found = start_server(settings, timeout)
    if settings.no_extensions and not found.safe_mode:
        from fuseml_core.domain.errors import Conflict

        raise Conflict(f"The server runs already, with extensions: {found.base_url}",
                       hint="Stop it first: fuseml server stop, then fuseml server start --no-extensions")
    without = " without extensions" if found.safe_mode else ""
    runs = "runs again" if before and before.given_up else "runs already" if before else "runs"
    click.echo(f"The server {runs}{without}: {found.base_url} (state in {settings.home})")
    if before and found.safe_mode and not settings.no_extensions:
        click.echo("To load extensions again: fuseml server stop, then fuseml server start")
    for name in before.given_up if before else ():
        click.echo(f"Started once more: the {name} process, {found.pids[name]}. Why it died: fuseml server logs {name}")


@server.command()
@click.option("--wait", is_flag=True, help="Wait until running jobs have ended.")
@click.option("--force", is_flag=True, help="Cancel running jobs; stop a server that does not answer.")
@click.option("--timeout", default=120.0, show_default=True, help="Seconds for everything, waiting included.")
def stop(wait: bool, force: bool, timeout: float) -> None:
    """Stop services, agents and the server; refused while jobs run unless --wait or --force."""
    from fuseml_core.launcher import stop as stop_server

    stopped = stop_server(_settings(), wait=wait, force=force, timeout=timeout)
    click.echo("The server is stopped." if stopped else "No server was running.")


@server.command()
@output_option
def status(output: str) -> int:
    """Show whether the server runs.

    The exit code is 1 when it does not, or when a process of it is not started any more.
    """
    from dataclasses import asdict

    from fuseml_core.launcher import status as server_status

    settings = _settings()
    found = server_status(settings)
    item: dict[str, Any] = asdict(found) if found else {"state": "stopped", "home": str(settings.home)}
    show_item(item, output, [
        ("State", "state"), ("URL", "base_url"), ("Marketplace", _marketplace), ("Home", "home"),
        ("Version", "version"), ("Since", _since),
        ("Extensions", lambda item: "not loaded: safe mode" if item.get("safe_mode") else ""),
        ("Processes", "pids"), ("Problems", "problems"), ("What to do", _advice)])
    return 0 if found and not found.given_up else 1


@server.command()
@click.argument("process", type=click.Choice(PROCESSES), required=False)
@click.option("--lines", "-n", default=50, show_default=True, help="Lines of each log to show.")
@click.option("--follow", "-f", is_flag=True, help="Go on showing what is written.")
def logs(process: str | None, lines: int, follow: bool) -> None:
    """Show the logs of the server's processes, or of one."""
    from fuseml_core.cli.logs import shown
    from fuseml_core.launcher.logs import last_lines

    paths = [_settings().path("logs", f"{name}.log") for name in ([process] if process else PROCESSES)]
    for path in paths:
        if not process:
            click.echo(f"==> {path} <==")
        for line in last_lines(path, lines):
            click.echo(shown(line))
    if follow:
        _follow(paths)


@click.command()
@click.argument("model", metavar="[MODEL]", required=False)
@click.option("--name", help="With MODEL: name of the pipeline that serves it; by default any that does.")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
              help="With MODEL: stop waiting after so long; the run goes on.")
@project_option
@output_option
@click.pass_context
def serve(context: click.Context, *, model: str | None, name: str | None, timeout: float | None, project: str | None,
          output: str) -> None:
    """Serve MODEL, an address or a name, and print its URL; without MODEL, run the server in the foreground.

    Every later version of the model's name replaces it. The server in the foreground writes its output to the
    terminal and to the logs, until Ctrl-C.
    """
    if model is not None:
        from fuseml_core.cli.serving import serve_model

        serve_model(model, name=name, project=project, timeout=timeout, output=output)
        return
    given = [o for o in ("name", "timeout", "project", "output")
             if context.get_parameter_source(o) == click.core.ParameterSource.COMMANDLINE]
    if given:
        raise click.UsageError(f"--{given[0]} goes with a MODEL; alone, `fuseml serve` runs the server.")
    _run_in_foreground()


def _run_in_foreground() -> None:
    from fuseml_core.launcher.supervisor import Supervisor

    settings = _settings()
    Supervisor(settings, echo=True).run(
        lambda state: click.echo(f"The server runs: {state.base_url} (state in {settings.home}). Ctrl-C stops it."))
    click.echo("The server is stopped.")


def _settings() -> Settings:
    from fuseml_core.settings import from_environment

    return from_environment()


def _marketplace(item: dict[str, Any]) -> str:
    return f"{item['base_url']}/marketplace/" if item.get("base_url") else ""


def _advice(item: dict[str, Any]) -> list[str]:
    return [f"See why: fuseml server logs {' '.join(item['given_up'])}" if len(item["given_up"]) == 1 else
            "See why: fuseml server logs", "Start it once more: fuseml server start"] if item.get("given_up") else []


def _since(item: dict[str, Any]) -> str:
    started = item.get("started_at")
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(started)) if started else ""


def _follow(paths: list[Any]) -> None:
    """Print what is added to files, also after they were moved aside, until Ctrl-C."""
    from fuseml_core.cli.logs import shown

    places = {path: path.stat().st_size if path.exists() else 0 for path in paths}
    while True:
        for path, place in places.items():
            size = path.stat().st_size if path.exists() else 0
            if size == place:
                continue
            with path.open("rb") as file:
                file.seek(place if size > place else 0)
                data = file.read(1 << 20)
                places[path] = file.tell()
            sys.stdout.write(shown(data.decode("utf-8", "replace")))
            sys.stdout.flush()
        time.sleep(FOLLOW_POLL)
