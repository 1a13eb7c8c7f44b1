"""Runs in a person's hands: started, swept over parameters, resumed, taken step by step, with a component swapped."""

from __future__ import annotations

import itertools
import math
import time
import uuid
from collections.abc import Callable
from typing import Any

from fuseml_core.domain.addresses import parse_address, scheme_of
from fuseml_core.domain.errors import Conflict, Invalid, NotFound
from fuseml_core.domain.records import Pipeline, Run, RunState, StepState, Version
from fuseml_core.engine import triggers
from fuseml_core.engine.creation import RunMode, create_run
from fuseml_core.engine.registration import new_change
from fuseml_core.engine.resolution import resolve
from fuseml_core.service.compilation import check_replacement
from fuseml_core.service.components import Catalog
from fuseml_core.service.data_parameters import place_datasets
from fuseml_core.service.pipelines import Pipelines, check_known, check_parameters
from fuseml_core.service.ports import Ledger, Transaction

#: Runs that one sweep may start.
MAX_TRIALS = 1000


class ManualRuns:
    """Use cases around runs that somebody asks for."""

    def __init__(self, ledger: Ledger, pipelines: Pipelines, catalog: Catalog, wake: Callable[[], None]) -> None:
        self._ledger = ledger
        self._pipelines = pipelines
        self._catalog = catalog
        self._wake = wake

    def start(self, project: str, name: str, inputs: dict[str, str], parameters: dict[str, Any],
              mode: RunMode | None = None) -> Run:
        """Start a run, with other inputs or parameters where given.

        Raises:
            Invalid, NotFound: An input, parameter or step does not fit, or an input has nothing to bind.
        """
        return self._start(project, name, inputs, [parameters], mode or RunMode())[0]

    def sweep(self, project: str, name: str, inputs: dict[str, str], grid: dict[str, list[Any]]) -> list[Run]:
        """Start one run for each combination of parameter values, all in one change.

        Raises:
            Invalid: No parameter has several values, or there are too many combinations.
        """
        count = math.prod(len(values) for values in grid.values()) if grid else 0
        if not count:
            raise Invalid("a sweep needs values to try", hint="Give them with --param alpha=0.1,0.5,0.9.")
        if count > MAX_TRIALS:
            raise Invalid(f"{count} combinations are too many for one sweep", hint=f"Try at most {MAX_TRIALS}.")
        trials = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
        return self._start(project, name, inputs, trials, RunMode())

    def _start(self, project: str, name: str, inputs: dict[str, str], trials: list[dict[str, Any]],
               mode: RunMode) -> list[Run]:
        pipeline = self._pipelines.get(project, name)
        check_known(pipeline.spec["inputs"], inputs, "input", pipeline.template)
        if mode.only:
            check_known(pipeline.spec["steps"], {mode.only: ""}, "step", pipeline.template)
        placed = [place_datasets(pipeline.spec, inputs, parameters, pipeline.template) for parameters in trials]
        checked = [(given, check_parameters(pipeline.spec, values, pipeline.template)) for given, values in placed]
        change = new_change()
        with self._ledger.begin() as tx:
            tx.pipelines.decide_alone()
            bound: dict[tuple[tuple[str, str], ...], dict[str, Version]] = {}
            runs = []
            for given, parameters in checked:
                key = tuple(sorted(given.items()))
                if key not in bound:  # most trials of a sweep differ in parameters only
                    bound[key] = _complete(tx, pipeline, given)
                runs.append(create_run(tx, pipeline, bound[key], parameters, change=change, nonce=uuid.uuid4().hex,
                                       mode=mode)[0])
        self._wake()
        return runs

    def resume(self, project: str, pipeline: str, number: int) -> Run:
        """Start a run with the inputs and parameters of one that failed; steps that succeeded are reused.

        Raises:
            NotFound: There is no such run.
            Conflict: The run has not failed.
        """
        with self._ledger.begin() as tx:
            failed = _find(tx, project, pipeline, number)
            if failed.state not in (RunState.FAILED, RunState.CANCELLED):
                state = "is running" if failed.state == RunState.RUNNING else f"has {failed.state}"
                raise Conflict(f"the run {failed.name} {state}; only a failed or cancelled one resumes")
            found = tx.pipelines.by_id(failed.pipeline_id)
            assert found is not None
            versions = {n: tx.artifacts.get(i) for n, i in tx.runs.inputs(failed.id).items()}
            given = {n: e["value"] for n, e in failed.parameters.items() if not e["default"]}
            run, _ = create_run(tx, found, {n: v for n, v in versions.items() if v}, given, change=new_change(),
                                nonce=uuid.uuid4().hex)
            tx.feed.add(run.change, "run", f"{run.name} resumes {failed.name}", now=time.time(), run=run.name,
                        state="running")
        self._wake()
        return run

    def step(self, project: str, pipeline: str, number: int, *, rest: bool = False) -> Run:
        """Release the next step of a run that is taken step by step, or all the rest.

        Raises:
            Conflict: The run has ended, or is not taken step by step.
        """
        with self._ledger.begin() as tx:
            run = _find(tx, project, pipeline, number)
            if run.state != RunState.RUNNING or not run.stepping:
                raise Conflict(f"the run {run.name} holds no step",
                               hint=f"Start one that does: fuseml run start {pipeline} --step-by-step.")
            begun = sum(s.state != StepState.WAITING for s in tx.steps.of_run(run.id))
            tx.runs.set(run.id, released=begun + 1, stepping=not rest)
        self._wake()
        return run

    def swap(self, project: str, pipeline: str, number: int, step: str, runnable: str) -> Run:
        """Let a step that has not started run another runnable; what follows takes its outputs as before.

        Raises:
            NotFound: There is no such run, step or runnable.
            Conflict: The step has started.
            Invalid: The runnable does not take or put out what the step must.
        """
        with self._ledger.begin() as tx:
            run = _find(tx, project, pipeline, number)
            found = tx.pipelines.by_id(run.pipeline_id)
            assert found is not None
            steps = {s.name: s for s in tx.steps.of_run(run.id)}
            if step not in steps:
                raise NotFound(f"the run {run.name} has no step {step!r}", hint=f"It has {', '.join(steps)}.")
            if steps[step].state != StepState.WAITING:
                raise Conflict(
                    f"the step {step} of {run.name} is {steps[step].state}; only a waiting one can be swapped",
                    hint=f"Start a run that holds its steps: fuseml run start {pipeline} --step-by-step.")
            entry = self._catalog.runnable(runnable, found.extension)
            check_replacement(found.spec["steps"][step], entry, step)
            tx.runs.set(run.id, swaps={**run.swaps, step: entry})
            tx.feed.add(run.change, "step", f"{run.name} {step}: swapped by hand to {entry['address']}",
                        now=time.time(), run=run.name, step=step, state="waiting")
        self._wake()
        return run


def _find(tx: Transaction, project: str, pipeline: str, number: int) -> Run:
    """A run, kept from changing until the transaction ends."""
    found = tx.runs.get(project, pipeline, number)
    run = tx.runs.lock(found.id) if found else None
    if run is None:
        raise NotFound(f"there is no run {pipeline}/{number} in project {project!r}", hint="See `fuseml run list`.")
    return run


def _complete(tx: Transaction, pipeline: Pipeline, inputs: dict[str, str]) -> dict[str, Version]:
    """The version that each input is bound to: the given one, else the newest that fits."""
    bound = {n: _bind(tx, pipeline, n, text) for n, text in inputs.items()}
    complete, missing = triggers.complete(tx, pipeline, bound, wait=False)
    if missing:
        raise Invalid(f"{pipeline.name} cannot start: it {missing}", hint="Give it with --input <name>=<address>.")
    return complete


def _bind(tx: Transaction, pipeline: Pipeline, name: str, text: str) -> Version:
    wanted, given = pipeline.spec["inputs"][name]["kind"], parse_address(text, pipeline.project).kind
    if given != wanted:
        raise Invalid(f"the input {name} takes a {wanted}, and {text} is the address of a {given}",
                      hint=f"Give an address like {scheme_of(wanted)}://{pipeline.project}/<name>.")
    version = resolve(tx, text, pipeline.project)
    refusal = triggers.type_refusal(tuple(pipeline.spec["inputs"][name].get("types", [])), version)
    if refusal:
        raise Invalid(f"{version.short} cannot be the input {name}: it {refusal}")
    return version
