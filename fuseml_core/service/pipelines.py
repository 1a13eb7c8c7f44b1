"""Pipelines: adding a template to a project, starting runs by hand, pausing, removing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from fuseml_core.domain.addresses import parse_selector, scheme_of
from fuseml_core.domain.errors import Conflict, FusemlError, Invalid, NotFound, Refused
from fuseml_core.domain.names import check_name
from fuseml_core.domain.parameters import check_free, convert
from fuseml_core.domain.records import Decision, Pipeline, Trigger, Version
from fuseml_core.engine import triggers
from fuseml_core.engine.creation import create_run
from fuseml_core.engine.naming import MODEL_NAME
from fuseml_core.engine.registration import new_change, settle
from fuseml_core.engine.resolution import resolve
from fuseml_core.service.compilation import compile_template, outputs_by_kind, spec_digest
from fuseml_core.service.components import Catalog
from fuseml_core.service.data_parameters import place_datasets
from fuseml_core.service.ports import Ledger, Transaction
from fuseml_core.service.projects import Projects
from fuseml_core.service.views import decision_view, pipeline_view
from fuseml_sdk.manifest import explain
from fuseml_sdk.templates import PipelineTemplate

EXISTING = ("latest", "none", "all")


class Pipelines:
    """Use cases around pipelines."""

    def __init__(
        self,
        ledger: Ledger,
        catalog: Catalog,
        projects: Projects,
        wake: Callable[[], None],
        stop_services: Callable[[int], None],
    ) -> None:
        self._ledger = ledger
        self._catalog = catalog
        self._projects = projects
        self._wake = wake
        self._stop_services = stop_services

    def templates(self) -> list[dict[str, Any]]:
        """Every template of the installed extensions."""
        return [self._template_view(t) for t in self._catalog.templates()]

    def template(self, name: str) -> dict[str, Any]:
        """One template."""
        return self._template_view(self._catalog.template(name))

    def _template_view(self, entry: dict[str, Any]) -> dict[str, Any]:
        try:
            gives = outputs_by_kind(self.compile_entry(entry))
        except FusemlError:
            # It lacks a runnable of another extension: adding it says which, showing it must not fail.
            gives = {}
        return {**_template_view(entry), "gives": gives}

    def add(
        self,
        project: str,
        template: str,
        name: str,
        inputs: dict[str, str],
        parameters: dict[str, Any],
        existing: str = "latest",
    ) -> dict[str, Any]:
        """Bind a template to a project; it fires once for what its selectors match already.

        Args:
            project: Name of the project; `default` is made on first use.
            template: `<extension>/<template>`, or the short name where it is unique.
            name: Name of the pipeline.
            inputs: Selector or address by input.
            parameters: Value by parameter.
            existing: `latest` fires for the current version of every name, `all` for every version, `none` not at all.

        Returns:
            `pipeline`, `decisions`, `started` (run names) and `change`.

        Raises:
            Invalid, NotFound, Conflict: Something does not fit; nothing is added.
        """
        check_name(name, "pipeline")
        if existing not in EXISTING:
            raise Invalid(f"existing cannot be {existing!r}", hint=f"Choose one of {', '.join(EXISTING)}.")
        entry = self._catalog.template(template)
        spec = self.compile_entry(entry)
        inputs, parameters = place_datasets(spec, inputs, parameters, entry["name"])
        check_inputs(spec, inputs, project, entry["name"])
        checked = check_parameters(spec, parameters, entry["name"])
        self._projects.ensure(project)
        change = new_change()
        with self._ledger.begin() as tx:
            tx.pipelines.decide_alone()
            if tx.projects.get(project) is None:
                raise NotFound(f"the project {project!r} was deleted meanwhile")
            inputs = _pinned(tx, project, inputs)
            check_service_owner(tx, project, name, spec, inputs)
            pipeline = self._insert(tx, project, name, entry, spec, inputs, checked)
            decisions = _fire_for_existing(tx, pipeline, inputs, existing, change)
        self._wake()
        return {
            "pipeline": pipeline_view(pipeline),
            "decisions": [decision_view(d) for d in decisions],
            "started": [d.run for d in decisions if d.decision == "fired" and d.run],
            "change": change,
        }

    def compile_entry(self, entry: dict[str, Any]) -> dict[str, Any]:
        """A template of the catalog as a specification, every runnable pinned.

        Raises:
            Invalid, NotFound: The template is wrong, or a runnable of it is not installed.
        """
        try:
            template = PipelineTemplate.model_validate(entry["template"])
        except ValidationError as error:
            raise Invalid(explain(error, f"template {entry['name']}")) from None
        return compile_template(template, lambda name: self._catalog.runnable(name, entry["extension"]))

    def _insert(
        self,
        tx: Transaction,
        project: str,
        name: str,
        entry: dict[str, Any],
        spec: dict[str, Any],
        inputs: dict[str, str],
        parameters: dict[str, Any],
    ) -> Pipeline:
        added = tx.pipelines.add(
            {
                "project": project,
                "name": name,
                "template": entry["name"],
                "template_digest": spec_digest(spec),
                "extension": entry["extension"],
                "extension_digest": entry["extension_digest"],
                "spec": spec,
                "inputs": inputs,
                "parameters": parameters,
                "created_at": time.time(),
            }
        )
        if added is None:
            raise Conflict(
                f"the pipeline {name!r} exists already in project {project!r}",
                hint=f"Choose another --name, or remove it: fuseml pipeline remove {name}.",
            )
        pipeline = tx.pipelines.by_id(added)
        assert pipeline is not None
        for input_, text in inputs.items():
            if not triggers.is_fixed(text):
                tx.pipelines.add_trigger(
                    pipeline,
                    input_,
                    spec["inputs"][input_]["kind"],
                    text,
                    list(spec["inputs"][input_].get("types", [])),
                )
        return pipeline

    def all(self, project: str) -> list[dict[str, Any]]:
        """Pipelines of a project."""
        self._projects.get(project)
        with self._ledger.read() as tx:
            return [pipeline_view(p) for p in tx.pipelines.all(project)]

    def get(self, project: str, name: str) -> Pipeline:
        """One pipeline.

        Raises:
            NotFound: There is none of this name; the message lists what there is.
        """
        self._projects.get(project)
        with self._ledger.read() as tx:
            pipeline = tx.pipelines.get(project, name)
            if pipeline is not None:
                return pipeline
            known = ", ".join(p.name for p in tx.pipelines.all(project)) or "none"
        raise NotFound(f"there is no pipeline {name!r} in project {project!r}", hint=f"Known there: {known}.")

    def set_state(self, project: str, name: str, state: str) -> dict[str, Any]:
        """Pause a pipeline, so that nothing triggers it, or make it active again."""
        pipeline = self.get(project, name)
        with self._ledger.begin() as tx:
            tx.pipelines.set_state(pipeline.id, state)
        return pipeline_view(self.get(project, name))

    def remove(self, project: str, name: str) -> None:
        """Remove a pipeline with its runs and the services it owns; artifacts stay.

        Raises:
            Refused: A run of it is active.
        """
        pipeline = self.get(project, name)
        with self._ledger.begin() as tx:
            tx.pipelines.decide_alone()
            refuse_active(tx, pipeline)
            tx.pipelines.set_state(pipeline.id, "paused")  # nothing starts while its services are stopped
        try:
            self._stop_services(pipeline.id)
            with self._ledger.begin() as tx:
                tx.pipelines.decide_alone()
                refuse_active(tx, pipeline)
                tx.pipelines.remove(pipeline.id)
        except FusemlError:
            with self._ledger.begin() as tx:
                tx.pipelines.set_state(pipeline.id, pipeline.state)
            raise


def refuse_active(tx: Transaction, pipeline: Pipeline) -> None:
    """Refuse while a run of the pipeline is active."""
    active = [r.name for r in tx.runs.page(project=pipeline.project, pipeline=pipeline.name, state="running", limit=5)]
    if active:
        raise Refused(
            f"runs of the pipeline {pipeline.name!r} are active: {', '.join(active)}",
            hint="Wait, or cancel them: fuseml run cancel <run>.",
        )


def _fire_for_existing(
    tx: Transaction, pipeline: Pipeline, inputs: dict[str, str], existing: str, change: str
) -> list[Decision]:
    found = tx.pipelines.triggers_of(pipeline.id)
    if not found:
        bound, missing = triggers.complete(tx, pipeline, {})
        if missing or not inputs:
            return []
        run, _ = create_run(tx, pipeline, bound, {}, change=change)
        first = next(iter(bound.values()))
        return [Decision(pipeline.name, "fired", "every input is given", run.name, first.address)]
    decisions = []
    for trigger in found if existing != "none" else []:
        selector = parse_selector(trigger.selector, trigger.project)
        for version in _existing(tx, trigger, existing):
            event = tx.artifacts.last_event(version.id)
            if event is None:
                continue
            match = triggers.match_one(tx, trigger, selector, version, "", "")
            decided = settle(tx, match, version, event[0], change)
            if decided is not None:
                decisions.append(decided)
    return decisions


def _pinned(tx: Transaction, project: str, inputs: dict[str, str]) -> dict[str, str]:
    """Inputs that name one version, as its full address; selectors as they are.

    Raises:
        NotFound, Conflict: There is no such version, or there are several.
    """
    return {n: resolve(tx, text, project).address if triggers.is_fixed(text) else text for n, text in inputs.items()}


def _existing(tx: Transaction, trigger: Trigger, existing: str) -> list[Version]:
    selector = parse_selector(trigger.selector, trigger.project)
    found = []
    for row in tx.artifacts.names(selector.kind, None):
        if selector.covers(selector.kind, row["project"], row["name"]):
            current = tx.artifacts.current(selector.kind, row["project"], row["name"])
            found += (
                tx.artifacts.page(kind=selector.kind, project=row["project"], name=row["name"], limit=1000)
                if existing == "all"
                else [current]
                if current
                else []
            )
    return sorted(found, key=lambda v: v.id)


def check_known(declared: dict[str, Any], given: dict[str, Any], what: str, template: str) -> None:
    """Refuse names that a template does not declare."""
    unknown = sorted(set(given) - set(declared))
    if unknown:
        raise Invalid(
            f"the template {template} has no {what} {unknown[0]!r}", hint=f"It has {', '.join(declared) or 'none'}."
        )


def check_inputs(spec: dict[str, Any], inputs: dict[str, str], project: str, template: str) -> None:
    """Refuse inputs that a template does not declare, of another kind, or missing ones."""
    check_known(spec["inputs"], inputs, "input", template)
    for name, declared in spec["inputs"].items():
        text = inputs.get(name)
        example = f"--input {name}='{scheme_of(declared['kind'])}://*'"
        if text is None:
            if not declared.get("optional"):
                raise Invalid(
                    f"the input {name} of the template {template} is not bound", hint=f"Give it with {example}."
                )
            continue
        kind = triggers.bound_kind(text, project)
        if kind != declared["kind"]:
            raise Invalid(
                f"the input {name} takes a {declared['kind']}, and {text!r} selects {kind}s",
                hint=f"Give it with {example}.",
            )


def check_parameters(spec: dict[str, Any], given: dict[str, Any], template: str) -> dict[str, Any]:
    """Convert parameters to their declared types; refuse those that the template does not know."""
    if not spec.get("open_parameters"):
        check_known(spec["parameters"], given, "parameter", template)
    declared = spec["parameters"]
    return {n: convert(n, declared[n], v) if n in declared else check_free(n, v) for n, v in given.items()}


def check_service_owner(
    tx: Transaction, project: str, name: str, spec: dict[str, Any], inputs: dict[str, str]
) -> None:
    """Refuse a second owner of a service as far as it can be seen now: same fixed name, or overlapping selectors."""
    mine = _service_claims(spec, inputs)
    for other in tx.pipelines.all(project) if mine else []:
        for fixed, selector in _service_claims(other.spec, other.inputs):
            for my_fixed, my_selector in mine:
                of_model = MODEL_NAME in fixed
                clash = fixed == my_fixed and (not of_model or _overlap(selector, my_selector))
                if clash and other.name != name:
                    raise Conflict(
                        f"the pipeline {other.name} serves {selector if of_model else 'the service ' + fixed} already",
                        hint="A service has one owner: narrow the input, or remove the other pipeline.",
                    )


def _service_claims(spec: dict[str, Any], inputs: dict[str, str]) -> list[tuple[str, str]]:
    """Name, fixed or after the model's, and selector of each service that a pipeline may own."""
    steps = [step for step in spec["steps"].values() if step["interface"].get("service")]
    return [(step.get("service_name") or MODEL_NAME, _served_selector(step, inputs)) for step in steps]


def _served_selector(step: dict[str, Any], inputs: dict[str, str]) -> str:
    models = {i["name"] for i in step["interface"]["inputs"] if i["kind"] == "model"}
    source = next((s for port, s in step["inputs"].items() if port in models), "")
    # A model that an earlier step makes follows from whatever the pipeline takes in.
    return inputs.get(source.removeprefix("inputs."), "") or next(iter(inputs.values()), "")


def _overlap(first: str, second: str) -> bool:
    if not first or not second or triggers.is_fixed(first) or triggers.is_fixed(second):
        return first == second
    a, b = (parse_selector(text, "default") for text in (first, second))
    if a.predicates != b.predicates or a.alias != b.alias:
        return False
    return a.covers(a.kind, b.project, b.name) or b.covers(b.kind, a.project, a.name) or (a.name == b.name == "*")


def _template_view(entry: dict[str, Any]) -> dict[str, Any]:
    template = entry["template"]
    return {
        "name": entry["name"],
        "short": entry["short"],
        "summary": entry["summary"],
        "extension": entry["extension"],
        "version": entry["version"],
        "digest": entry["digest"],
        "description": template.get("description", ""),
        **{k: template.get(k, {}) for k in ("inputs", "parameters", "outputs", "steps")},
    }
