"""Runs, their logs, results, and following a change until it has settled."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from fuseml_core.domain.errors import Conflict, Invalid, NotFound
from fuseml_core.domain.records import Run, RunState, Step
from fuseml_core.service.components import Components
from fuseml_core.service.ports import Ledger, Transaction
from fuseml_core.service.views import RunViews, decision_view, feed_view, run_summary
from fuseml_sdk.errors import NotFound as WorkloadGone

#: Longest time one request waits for news, in seconds.
MAX_WAIT = 30.0
POLL = 0.1
#: Lines of a change that one answer has; `more` says that others wait.
MAX_EVENTS = 500
#: Seconds after the end of a step in which its log may still grow, whatever its agent says.
LATE_LOG = 30.0
_NAME = re.compile(r"^([^/]+)/([1-9]\d*)$")


class Runs:
    """Use cases around runs."""

    def __init__(self, ledger: Ledger, components: Components, wake: Callable[[], None]) -> None:
        self._ledger = ledger
        self._components = components
        self._wake = wake

    def page(self, project: str, *, pipeline: str = "", state: str = "", limit: int = 100) -> list[dict[str, Any]]:
        """Runs of a project, newest first.

        Raises:
            Invalid: The state is none that a run can have.
        """
        if state and state not in set(RunState):
            raise Invalid(f"a run cannot be {state!r}", hint=f"Choose one of {', '.join(RunState)}.")
        with self._ledger.read() as tx:
            found = tx.runs.page(project=project, pipeline=pipeline, state=state, limit=limit)
            views = RunViews(tx, found)
            return [views.row(r) for r in found]

    def get(self, project: str, pipeline: str, number: int) -> dict[str, Any]:
        """One run with its steps."""
        with self._ledger.read() as tx:
            run = self._find(tx, project, pipeline, number)
            return RunViews(tx, [run], with_steps=True).full(run)

    def view(self, run: Run) -> dict[str, Any]:
        """The same for a run at hand."""
        return self.get(run.project, run.pipeline, run.number)

    def _find(self, tx: Transaction, project: str, pipeline: str, number: int) -> Run:
        run = tx.runs.get(project, pipeline, number)
        if run is None:
            raise NotFound(
                f"there is no run {pipeline}/{number} in project {project!r}", hint="See `fuseml run list`."
            )
        return run

    def cancel(self, project: str, pipeline: str, number: int) -> dict[str, Any]:
        """Ask for a run to be cancelled: running steps are stopped, waiting ones skipped.

        Raises:
            Conflict: The run has ended.
        """
        with self._ledger.begin() as tx:
            run = self._find(tx, project, pipeline, number)
            if run.state != RunState.RUNNING:
                verb = "was" if run.state == RunState.CANCELLED else "has"
                raise Conflict(f"the run {run.name} {verb} {run.state} already")
            tx.runs.set(run.id, cancel_requested=True)
            tx.feed.add(
                run.change,
                "run",
                f"{run.name}: cancellation was asked for",
                now=time.time(),
                run=run.name,
                state="running",
            )
        self._wake()
        return self.get(project, pipeline, number)

    def logs(self, project: str, pipeline: str, number: int, step: str, cursor: str, limit: int) -> dict[str, Any]:
        """A piece of the log of one step, or of the steps one after the other when `step` is empty.

        Raises:
            NotFound: There is no such run or step, or the log is gone.
        """
        with self._ledger.read() as tx:
            run = self._find(tx, project, pipeline, number)
            steps = tx.steps.of_run(run.id)
        if step and step not in {s.name for s in steps}:
            raise NotFound(
                f"the run {run.name} has no step {step!r}", hint=f"It has {', '.join(s.name for s in steps)}."
            )
        wanted = [s for s in steps if s.name == step] if step else steps
        return self._read_log(run, wanted, cursor, limit, titled=not step)

    def _read_log(self, run: Run, steps: list[Step], cursor: str, limit: int, *, titled: bool) -> dict[str, Any]:
        """The cursor is `<index of the step>:<cursor of the agent>`."""
        index, _, inner = cursor.partition(":")
        position = int(index) if index.isdigit() else 0
        text = ""
        while position < len(steps):
            step = steps[position]
            if titled and not inner:
                text += f"==> {step.name}{': ' + step.why if step.reused else ''}\n"
            chunk, inner, complete = self._chunk(step, inner, limit)
            text += chunk
            if not complete or chunk:
                return {"text": text, "cursor": f"{position}:{inner or '0'}", "complete": False}
            position, inner = position + 1, ""
        return {"text": text, "cursor": f"{position}:", "complete": run.state != RunState.RUNNING}

    def _chunk(self, step: Step, cursor: str, limit: int) -> tuple[str, str, bool]:
        ended = step.ended_at is not None
        if not step.workload:
            return (f"{step.message}\n" if step.message and not cursor else ""), "0", ended
        try:
            chunk = self._components.agent(step.agent).logs(step.workload, "" if cursor == "0" else cursor, limit)
        except WorkloadGone:
            return "", "0", ended
        # An agent may never say that a log is complete: who follows it waits a while for what comes late.
        late = step.ended_at is not None and not chunk.text and time.time() - step.ended_at > LATE_LOG
        return chunk.text, chunk.cursor, ended and (chunk.complete or late)

    def change(self, change: str, after: int, wait: float) -> dict[str, Any]:
        """What happened in a change after a sequence number, waiting for news if there is none.

        Raises:
            NotFound: There is no such change.
        """
        until = time.monotonic() + min(max(wait, 0.0), MAX_WAIT)
        while True:
            with self._ledger.read() as tx:
                # All runs with all steps are read only when there is something to tell.
                quiet = tx.runs.any_active(change) and not tx.feed.after(change, after, 1)
            if not quiet or time.monotonic() >= until:
                return self._change(change, after)
            time.sleep(POLL)

    def _change(self, change: str, after: int) -> dict[str, Any]:
        with self._ledger.read() as tx:
            active = tx.runs.any_active(change)
            runs = tx.runs.page(change=change, limit=1000)
            steps = tx.steps.of_runs(r.id for r in runs)
            events = tx.feed.after(change, after, MAX_EVENTS)
            decisions = tx.pipelines.decisions(change=change)
            if not runs and not events and not decisions and not tx.feed.after(change, 0, 1):
                raise NotFound(f"there is no change {change!r}")
            views = [
                {
                    **run_summary(r),
                    "steps": [
                        {
                            "name": s.name,
                            "state": str(s.state),
                            "exit_code": s.exit_code,
                            "message": s.message,
                            "phase": s.phase,
                            "log_tail": list(s.log_tail),
                        }
                        for s in steps.get(r.id, [])
                    ],
                }
                for r in reversed(runs)
            ]
        return {
            "id": change,
            "state": "active" if active else "settled",
            "more": len(events) == MAX_EVENTS,
            "cursor": events[-1].seq if events else after,
            "events": [feed_view(e) for e in events],
            "runs": views,
            "decisions": [decision_view(d) for d in decisions],
        }

    def results(
        self, project: str, *, pipeline: str = "", current_code: bool = False, recursive: bool = False
    ) -> list[dict[str, Any]]:
        """The table of results: runs with inputs and outputs, parents before children.

        Args:
            project: Name of the project.
            pipeline: Only runs of this pipeline, and with `recursive` what follows from them.
            current_code: Only runs whose inputs reach the tip of the default branch of a codeset of the project.
            recursive: Follow outputs into the runs that took them.
        """
        with self._ledger.read() as tx:
            roots = self._roots(tx, project, pipeline, current_code=current_code)
            runs = self._followed(tx, roots) if recursive else roots
            views = RunViews(tx, runs)
            return [views.result(run) for run in runs]

    def _roots(self, tx: Transaction, project: str, pipeline: str, *, current_code: bool) -> list[Run]:
        if not current_code:
            return sorted(tx.runs.page(project=project, pipeline=pipeline, limit=1000), key=lambda r: r.id)
        tips = [
            tx.artifacts.current("codeset", project, row["name"])
            for row in tx.artifacts.names("codeset", project)
        ]
        found = tx.runs.consuming([t.id for t in tips if t is not None])
        inputs = tx.runs.inputs_of(run.id for run in found)
        latest: dict[tuple[str, tuple[int, ...]], Run] = {}
        for run in sorted(found, key=lambda r: r.id):
            if not pipeline or run.pipeline == pipeline:
                latest[(run.pipeline, tuple(inputs.get(run.id, {}).values()))] = run
        return sorted(latest.values(), key=lambda r: r.id)

    def _followed(self, tx: Transaction, roots: list[Run]) -> list[Run]:
        children = _descendants(tx, roots)
        ordered: list[Run] = []
        seen: set[int] = set()
        todo = list(reversed(roots))
        while todo:  # not recursive: what follows from what may be longer than Python's stack
            run = todo.pop()
            if run.id not in seen:
                seen.add(run.id)
                ordered.append(run)
                todo += reversed(children.get(run.id, []))
        return ordered


def _descendants(tx: Transaction, roots: list[Run]) -> dict[int, list[Run]]:
    """Runs that took what a run put out, by that run, oldest first; one generation after the other."""
    children: dict[int, list[Run]] = {}
    generation = {run.id: run for run in roots}
    while generation:
        produced = tx.runs.produced(generation)
        takers = {run.id: run for run in tx.runs.consuming(sorted({v for ids in produced.values() for v in ids}))}
        inputs = tx.runs.inputs_of(takers)
        by_version: dict[int, list[Run]] = {}
        for run_id in sorted(takers):
            for version_id in set(inputs[run_id].values()):
                by_version.setdefault(version_id, []).append(takers[run_id])
        for run_id in generation:
            found = {run.id: run for v in produced.get(run_id, []) for run in by_version.get(v, [])}
            children[run_id] = [found[i] for i in sorted(found)]
        generation = {i: run for i, run in takers.items() if i not in children}
    return children


def parse_run_name(text: str) -> tuple[str, int]:
    """Split `training-pipeline/1`.

    Raises:
        Invalid: It is not the name of a run.
    """
    match = _NAME.match(text)
    if not match:
        raise Invalid(
            f"{text!r} is not the name of a run", hint="Write <pipeline>/<number>, such as training-pipeline/1."
        )
    return match[1], int(match[2])
