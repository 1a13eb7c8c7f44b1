"""Following a change until everything that follows from it has settled (`--wait`, R186)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fuseml_core.cli.render import echo
from fuseml_core.domain.errors import Failed, FusemlError, Unavailable

if TYPE_CHECKING:
    from fuseml_core.cli.client import Client

Command = TypeVar("Command", bound=Callable[..., Any])
#: Seconds of one long poll.
POLL = 5
#: Seconds without an event after which a line says that work goes on.
QUIET = 4.5
#: Seconds for which a server that does not answer is asked again: it may be starting after a crash or an upgrade.
PATIENCE = 60.0


def timeout_option(command: Command) -> Command:
    """Decorator: the option `--timeout` of commands that only watch, as argument `timeout`."""
    return click.option("--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
                        help="Stop watching after so long; the runs go on.")(command)


def wait_options(command: Command) -> Command:
    """Decorator: the options `--wait` and `--timeout` (seconds) as arguments `wait` and `timeout`."""
    command = click.option("--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
                           help="With --wait: give up waiting after so long; the runs go on.")(command)
    return click.option("--wait", is_flag=True, help="Wait until all runs that follow have ended, showing their "
                                                     "steps; fail if one fails.")(command)


def follow(client: Client, change: str, *, timeout: float | None = None, err: bool = False,
           counted: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Print every event of a change as it happens, until the change has settled.

    Args:
        client: For the server.
        change: Identifier of the change.
        timeout: Seconds to wait at most; None: as long as it takes.
        err: Print to stderr, because stdout carries data.
        counted: Runs whose ends are counted, such as `(2 of 3)`.

    Returns:
        Summaries of the runs that belong to the change.

    Raises:
        Failed: A run failed or was cancelled; its step, exit code and last log lines have been printed.
        Unavailable: The time is over.
    """
    try:
        runs = _watch(client, change, timeout, err, _Count(counted))
    except KeyboardInterrupt:
        click.echo(f"\nThe runs go on. Watch again: fuseml change watch {change}", err=True)
        raise
    failed = [run for run in runs if run.get("state") in ("failed", "cancelled")]
    for run in failed:
        explain(client, run)
    if failed:
        names = ", ".join(f"{run['name']} ({run['state']})" for run in failed)
        raise Failed(f"{len(failed)} of {len(runs)} runs did not succeed: {names}",
                     hint=f"All of its output: fuseml run logs {failed[0]['name']} --project {failed[0]['project']}")
    return runs


def explain(client: Client, run: Mapping[str, Any]) -> None:
    """Print on stderr why a run did not succeed: each failed step with reason, exit code and last log lines."""
    pipeline, _, number = str(run["name"]).rpartition("/")
    try:
        full = client.get("projects", run["project"], "runs", pipeline, number)
    except FusemlError as error:
        click.echo(f"{run['name']}: {error.message}", err=True)
        return
    failed = [step for step in full.get("steps") or [] if step.get("state") == "failed"]
    for step in failed:
        echo(f"{run['name']}: {failure(step)}", err=True)
        for line in step.get("log_tail") or []:
            echo(f"    {line}", err=True)
    if not failed and full.get("error"):
        echo(f"{run['name']}: {full['error']}", err=True)


def failure(step: Mapping[str, Any]) -> str:
    """A failed step in a sentence: exit code, and the reason if it says more than that."""
    why, code = step.get("message") or step.get("reason") or "", step.get("exit_code")
    if code is None:
        return f"step {step['name']} failed{': ' + why if why else ''}"
    more = f": {why}" if why and f"exit code {code}" not in why else ""
    return f"step {step['name']} failed with exit code {code}{more}"


def say_decisions(decisions: Sequence[Mapping[str, Any]], *, err: bool = False) -> None:
    """Print which pipelines started a run and which did not and why."""
    for decision in decisions:
        if decision.get("decision") == "fired":
            echo(f"  {decision['pipeline']}: started {decision.get('run') or 'a run'}", err=err)
        else:
            echo(f"  {decision['pipeline']}: not run: {decision.get('reason') or 'no reason given'}", err=err)


def _watch(client: Client, change: str, timeout: float | None, err: bool, count: _Count) -> list[dict[str, Any]]:
    began, cursor, clock = time.monotonic(), 0, _Clock()
    while True:
        left = POLL if timeout is None else min(POLL, began + timeout - time.monotonic())
        if left < 0:
            raise Unavailable(f"The runs have not ended within {timeout:g} s; they go on.",
                              hint=f"Watch again: fuseml change watch {change}")
        state = client.get("changes", change, query={"after": cursor, "wait": round(max(left, 0.01), 2)},
                           timeout=POLL + 30.0, patience=PATIENCE)
        for event in state.get("events") or []:
            echo(f"{clock.tell(event):8.1f} s  {event.get('text') or _text(event)}{count.after(event)}", err=err)
        cursor = max(cursor, int(state.get("cursor") or 0))
        if state.get("state") == "settled" and not state.get("more"):
            return list(state.get("runs") or [])
        if clock.silence() >= QUIET:
            running = [_doing(run) for run in state.get("runs") or [] if run.get("state") in ("pending", "running")]
            echo(f"{clock.tell({}):8.1f} s  ... {', '.join(running) or 'still working'}", err=err)


def _doing(run: Mapping[str, Any]) -> str:
    """A run that is not over, and what it waits for if it is not working: a person, or room at an agent."""
    waits = [f"{step['name']} {step['phase']}" for step in run.get("steps") or [] if step.get("phase")
             and step.get("state") in ("waiting", "queued")]
    return f"{run['name']} ({'; '.join(waits)})" if waits else str(run["name"])


class _Count:
    """How many of some runs have ended."""

    def __init__(self, runs: Sequence[str]) -> None:
        self._all, self._ended = set(runs), set[str]()

    def after(self, event: Mapping[str, Any]) -> str:
        """What to print after an event: the count if it is the end of one of the runs."""
        run = event.get("run")
        if event.get("kind") != "run" or run not in self._all or event.get("state") in ("pending", "running"):
            return ""
        self._ended.add(str(run))
        return f"  ({len(self._ended)} of {len(self._all)})"


class _Clock:
    """Seconds since a change's first event, by the server's clock, and since the last line by ours."""

    def __init__(self) -> None:
        self._first: float | None = None
        self._elapsed = 0.0
        self._spoke = time.monotonic()

    def silence(self) -> float:
        """Seconds since the last line."""
        return time.monotonic() - self._spoke

    def tell(self, event: Mapping[str, Any]) -> float:
        """The time to print before an event, or before a line of our own if it has none."""
        at = event.get("at")
        if isinstance(at, int | float):
            self._first = at if self._first is None else self._first
            self._elapsed = max(self._elapsed, at - self._first)
        else:
            self._elapsed += self.silence()
        self._spoke = time.monotonic()
        return self._elapsed


def _text(event: Mapping[str, Any]) -> str:
    """A line for an event without a text."""
    return " ".join(str(event[key]) for key in ("run", "step", "state") if event.get(key))
