"""`fuseml run`: executions of pipelines, named such as `training-pipeline/1`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fuseml_core.cli.cells import bindings, duration, moment
from fuseml_core.cli.context import enter, project_option
from fuseml_core.cli.follow import failure, follow, timeout_option, wait_options
from fuseml_core.cli.pairs import Pair, as_mapping, binding_options
from fuseml_core.cli.render import Column, echo, fields, output_option, show_data, show_list, table
from fuseml_core.domain.errors import Failed, Invalid, NotFound

if TYPE_CHECKING:
    from fuseml_core.cli.client import Client

STATES = ["pending", "running", "succeeded", "failed", "cancelled"]
COLUMNS: list[Column] = [
    ("Run", "name"),
    ("State", "state"),
    ("Started", lambda item: moment(item.get("started_at") or item.get("created_at"))),
    ("Duration", duration),
    ("Inputs", lambda item: bindings(item.get("inputs"))),
    ("Error", "error"),
]


@click.group()
def run() -> None:
    """List, inspect, start and cancel runs of pipelines."""


@run.command("list")
@click.option("--pipeline", help="Only runs of this pipeline.")
@click.option("--state", type=click.Choice(STATES), help="Only runs in this state.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many at most.")
@project_option
@output_option
def list_(pipeline: str | None, state: str | None, limit: int, project: str | None, output: str) -> None:
    """List runs, newest first."""
    client, name = enter(project)
    runs = client.get("projects", name, "runs", query={"pipeline": pipeline, "state": state, "limit": limit})
    such = "such " if pipeline or state else ""
    show_list(runs, output, COLUMNS, empty=f"There are no {such}runs in project {name}.")


@run.command("get")
@click.argument("name", metavar="RUN")
@project_option
@output_option
def get(name: str, project: str | None, output: str) -> None:
    """Show a run with its steps. RUN is PIPELINE/NUMBER, or PIPELINE for its newest run."""
    client, project = enter(project)
    found = load(client, project, name)
    if output == "table":
        _show(found)
    else:
        show_data(found, output)


@run.command("logs")
@click.argument("name", metavar="RUN")
@click.option("--step", help="Only the output of this step.")
@click.option("--follow", "-f", "following", is_flag=True, help="Go on until the run has ended.")
@project_option
def logs(name: str, step: str | None, following: bool, project: str | None) -> None:
    """Print what the steps of a run wrote."""
    from fuseml_core.cli.logs import print_logs

    client, project = enter(project)
    found = load(client, project, name)
    print_logs(client, found, step, following=following)


@run.command("start")
@click.argument("pipeline")
@binding_options
@click.option("--no-cache", is_flag=True, help="Execute every step, whatever results there are.")
@click.option("--only", metavar="STEP", default="", help="Execute one step alone, on the results of earlier runs.")
@click.option("--step-by-step", "stepping", is_flag=True, help="Hold each step until `fuseml run step` releases it.")
@wait_options
@project_option
@output_option
def start(*, pipeline: str, inputs: tuple[tuple[str, str], ...], params: tuple[tuple[str, str], ...],
          no_cache: bool, only: str, stepping: bool, wait: bool, timeout: float | None, project: str | None,
          output: str) -> None:
    """Start a run of PIPELINE by hand, with other inputs or parameters if given."""
    client, project = enter(project)
    body = {"inputs": as_mapping(inputs, "--input"), "parameters": as_mapping(params, "--param"), "no_cache": no_cache,
            "only": only, "stepping": stepping}
    started = client.post("projects", project, "pipelines", pipeline, "runs", body=body)
    if output == "table":
        echo(f"Run {started['name']} started.")
    if wait:
        follow(client, started["change"], timeout=timeout, err=output != "table")
    if output != "table":
        show_data(load(client, project, started["name"]), output)
    elif not wait:
        echo(f"Watch it: fuseml run watch {started['name']}")


@run.command("sweep")
@click.argument("pipeline")
@click.option("--param", "--parameter", "params", type=Pair(), metavar="NAME=V1,V2,…", multiple=True, required=True,
              help="Values to try for a parameter. Repeatable: every combination is tried.")
@click.option("--input", "inputs", type=Pair(), multiple=True, help="Another artifact for an input. Repeatable.")
@click.option("--metric", help="Show the trials in the order of this metric, the best first.")
@click.option("--lowest", is_flag=True, help="With --metric: the lowest value is the best.")
@timeout_option
@project_option
@output_option
def sweep(*, pipeline: str, params: tuple[tuple[str, str], ...], inputs: tuple[tuple[str, str], ...],
          metric: str | None, lowest: bool, timeout: float | None, project: str | None, output: str) -> None:
    """Start one run of PIPELINE for each combination of values, wait, and compare the metrics.

    For instance: fuseml run sweep training-pipeline --param alpha=0.1,0.5 --metric r2
    """
    from fuseml_core.cli.sweeps import compare, read_grid

    if lowest and not metric:
        raise click.UsageError("--lowest goes with --metric.")
    grid, err = read_grid(as_mapping(params, "--param")), output != "table"
    client, project = enter(project)
    started = client.post("projects", project, "pipelines", pipeline, "sweeps",
                          body={"grid": grid, "inputs": as_mapping(inputs, "--input")})
    names = started["runs"]
    echo(f"{len(names)} run{'s' if len(names) > 1 else ''} started: {', '.join(names)}", err=err)
    failed: Failed | None = None
    try:
        follow(client, started["change"], timeout=timeout, err=err, counted=names)
    except Failed as error:  # the trials that did succeed are worth comparing all the same
        failed = error
    trials = compare([load(client, project, name) for name in names], sorted(grid), metric, lowest=lowest)
    _compare(trials, metric, output)
    if failed is not None:
        raise failed


def _compare(trials: list[dict[str, Any]], metric: str | None, output: str) -> None:
    """Print the trials, and which one is the best."""
    from fuseml_core.cli.sweeps import columns

    if output != "table":
        show_data(trials, output)
    else:
        echo("\n" + table(*columns(trials, metric)))
    if metric is None:
        return
    best = trials[0]
    if metric not in best["metrics"]:
        known = sorted({name for trial in trials for name in trial["metrics"]})
        there = f"There are {', '.join(known)}." if known else "There are none at all."
        echo(f"No trial has the metric {metric!r}. {there}", err=True)
    elif output == "table":
        values = ", ".join(f"{name}={value}" for name, value in best["parameters"].items())
        echo(f"\nBest: {best['run']} ({values}), {metric} {best['metrics'][metric]:.6g}")


@run.command("resume")
@click.argument("name", metavar="RUN")
@wait_options
@project_option
def resume(name: str, wait: bool, timeout: float | None, project: str | None) -> None:
    """Start a run that goes on where RUN failed: steps that succeeded are not executed again."""
    client, project = enter(project)
    pipeline, number = parse(client, project, name)
    started = client.post("projects", project, "runs", pipeline, number, "resume")
    echo(f"Run {started['name']} resumes {pipeline}/{number}.")
    if wait:
        follow(client, started["change"], timeout=timeout)


@run.command("step")
@click.argument("name", metavar="RUN")
@click.option("--rest", is_flag=True, help="Release all steps that are left.")
@project_option
def step_(name: str, rest: bool, project: str | None) -> None:
    """Release the next step of RUN, which was started with --step-by-step."""
    client, project = enter(project)
    pipeline, number = parse(client, project, name)
    found = client.post("projects", project, "runs", pipeline, number, "step", body={"rest": rest})
    held = [entry["name"] for entry in found["steps"] if entry["phase"].startswith("held")]
    what = "All steps that are left" if rest else f"The step {held[0]}" if held else "The next step"
    echo(f"{what} of {pipeline}/{number} may start. Watch: fuseml run watch {pipeline}/{number}")


@run.command("swap")
@click.argument("name", metavar="RUN")
@click.argument("step")
@click.argument("runnable")
@project_option
def swap(name: str, step: str, runnable: str, project: str | None) -> None:
    """Let STEP of RUN, which has not started, execute another RUNNABLE (EXTENSION/NAME)."""
    client, project = enter(project)
    pipeline, number = parse(client, project, name)
    client.post("projects", project, "runs", pipeline, number, "swap", body={"step": step, "runnable": runnable})
    echo(f"The step {step} of {pipeline}/{number} will run {runnable}.")


@run.command("cancel")
@click.argument("name", metavar="RUN")
@project_option
def cancel(name: str, project: str | None) -> None:
    """Cancel a run; steps that have ended keep their results."""
    client, project = enter(project)
    pipeline, number = parse(client, project, name)
    client.post("projects", project, "runs", pipeline, number, "cancel", repeatable=True)
    echo(f"Run {pipeline}/{number} is being cancelled.")


@run.command("watch")
@click.argument("name", metavar="RUN")
@timeout_option
@project_option
def watch(name: str, timeout: float | None, project: str | None) -> None:
    """Print the steps of a run, and of the runs that follow from it, as they happen."""
    client, project = enter(project)
    follow(client, load(client, project, name)["change"], timeout=timeout)


def load(client: Client, project: str, name: str) -> dict[str, Any]:
    """The full record of a run named `PIPELINE/NUMBER`, or of the newest run of `PIPELINE`."""
    pipeline, number = parse(client, project, name)
    found: dict[str, Any] = client.get("projects", project, "runs", pipeline, number)
    return found


def parse(client: Client, project: str, name: str) -> tuple[str, str]:
    """Pipeline and number of a run.

    Raises:
        Invalid: The name is not of the form `PIPELINE/NUMBER`.
        NotFound: Only a pipeline is named, and it has no runs.
    """
    pipeline, slash, number = name.partition("/")
    if slash or not name:
        if not pipeline or not number.isdecimal():
            raise Invalid(f"{name!r} is not the name of a run.", hint="A run is named such as training-pipeline/1.")
        return pipeline, number
    newest = client.get("projects", project, "runs", query={"pipeline": pipeline, "limit": 1})
    if not newest:
        raise NotFound(f"Pipeline {pipeline} has no runs in project {project}.",
                       hint="See: fuseml pipeline list, fuseml run list")
    return pipeline, str(newest[0]["number"])


def _show(found: dict[str, Any]) -> None:
    """A run as text: its own facts, then a table of its steps, then why they did what they did."""
    pairs = [("Run", found["name"]), ("Project", found["project"]), ("State", found["state"]),
             ("Created", moment(found.get("created_at"))), ("Duration", duration(found)),
             ("Inputs", bindings(found.get("inputs"))), ("Parameters", bindings(found.get("parameters"))),
             ("Outputs", bindings(found.get("outputs"))), ("Change", found.get("change") or ""),
             ("Error", found.get("error") or "")]
    echo(fields([(header, value) for header, value in pairs if value]))
    steps = found.get("steps") or []
    if steps:
        echo("\n" + table(["Step", "State", "Duration", "Attempt", "Agent", "Why"], [_step(step) for step in steps]))
    for step in steps:
        _details(step)


def _step(step: dict[str, Any]) -> list[Any]:
    state = f"{step['state']} (reused)" if step.get("reused") else step["state"]
    return [step["name"], state, duration(step) or "-", str(step.get("attempt") or "-"), step.get("agent") or "-",
            step.get("why") or step.get("message") or step.get("phase") or "-"]


def _details(step: dict[str, Any]) -> None:
    """Warnings, metrics and, for a failed step, the end of its log."""
    for warning in step.get("warnings") or []:
        echo(f"\nWarning of step {step['name']}: {warning}")
    metrics = step.get("metrics") or []
    if metrics:
        echo(f"\nMetrics of step {step['name']}:")
        echo(table(["Name", "Value", "Step"],
                   [[str(m.get("key", "")), str(m.get("value", "")), str(m.get("step") or 0)] for m in metrics]))
    if step.get("state") == "failed":
        sentence = failure(step)
        echo(f"\n{sentence[0].upper()}{sentence[1:]}")
        for line in step.get("log_tail") or []:
            echo(f"    {line}")
