"""Binding a pipeline to the version of its extension that is installed now."""

from __future__ import annotations

import json
from typing import Any

from fuseml_core.domain.errors import Invalid, NotFound, Refused
from fuseml_core.domain.records import Pipeline
from fuseml_core.engine import triggers
from fuseml_core.service.compilation import spec_digest
from fuseml_core.service.components import Catalog
from fuseml_core.service.pipelines import (
    Pipelines,
    check_inputs,
    check_parameters,
    check_service_owner,
    refuse_active,
)
from fuseml_core.service.ports import Ledger
from fuseml_core.service.views import pipeline_view


class PipelineUpdates:
    """The use case *update*: pipelines keep the version they were added with until somebody asks for another.

    Args:
        ledger: Pipelines.
        catalog: Templates of what is installed.
        pipelines: Compiles templates.
    """

    def __init__(self, ledger: Ledger, catalog: Catalog, pipelines: Pipelines) -> None:
        self._ledger, self._catalog, self._pipelines = ledger, catalog, pipelines

    def update(self, project: str, name: str, *, dry_run: bool = False) -> dict[str, Any]:
        """Bind a pipeline to its template as it is installed now. Inputs, parameters and services stay.

        Args:
            project: Name of the project.
            name: Of the pipeline.
            dry_run: Only say what would change.

        Returns:
            `pipeline`, `extension`, `from` and `to` (versions), `changes` (one sentence each), and `updated`.

        Raises:
            NotFound: There is no such pipeline, or its template is not installed any more.
            Invalid: Inputs or parameters of the pipeline do not fit the new version.
            Refused: A run is active, or a step that serves is gone.
        """
        pipeline = self._pipelines.get(project, name)
        entry = self._entry(pipeline)
        spec = self._pipelines.compile_entry(entry)
        parameters = self._check(pipeline, spec, entry["name"])
        before = self._catalog.version(pipeline.extension_digest) or pipeline.extension_digest[:19]
        changes = _changes(pipeline, entry, spec, before)
        if changes and not dry_run:
            self._store(pipeline, entry, spec, parameters)
        return {"pipeline": pipeline_view(self._pipelines.get(project, name)), "extension": entry["extension"],
                "from": before, "to": entry["version"], "changes": changes, "updated": bool(changes) and not dry_run}

    def _entry(self, pipeline: Pipeline) -> dict[str, Any]:
        try:
            return self._catalog.template(pipeline.template)
        except NotFound as error:
            raise NotFound(f"the template {pipeline.template} of the pipeline {pipeline.name} is installed no more",
                           hint=f"{error.hint} The pipeline itself goes on with the version it has.") from None

    @staticmethod
    def _check(pipeline: Pipeline, spec: dict[str, Any], template: str) -> dict[str, Any]:
        try:
            check_inputs(spec, pipeline.inputs, pipeline.project, template)
            return check_parameters(spec, pipeline.parameters, template)
        except Invalid as error:
            raise Invalid(f"the pipeline {pipeline.name} does not fit the installed version: {error.message}",
                          hint=f"Remove it and add it again: fuseml pipeline remove {pipeline.name}, then fuseml "
                               f"pipeline add {template} --name {pipeline.name} …") from None

    def _store(self, pipeline: Pipeline, entry: dict[str, Any], spec: dict[str, Any],
               parameters: dict[str, Any]) -> None:
        values = {"template": entry["name"], "template_digest": spec_digest(spec), "extension": entry["extension"],
                  "extension_digest": entry["extension_digest"], "spec": spec, "parameters": parameters}
        types = {input_: list(spec["inputs"][input_].get("types", [])) for input_, text in pipeline.inputs.items()
                 if not triggers.is_fixed(text)}
        with self._ledger.begin() as tx:
            tx.pipelines.decide_alone()
            now = tx.pipelines.by_id(pipeline.id)
            if now is None or now.template_digest != pipeline.template_digest:
                raise Refused(f"the pipeline {pipeline.name} was changed meanwhile", hint="Try again.")
            refuse_active(tx, pipeline)
            check_service_owner(tx, pipeline.project, pipeline.name, spec, pipeline.inputs)
            _check_served(pipeline, spec)
            tx.pipelines.rebind(pipeline.id, values, types)


def _check_served(pipeline: Pipeline, spec: dict[str, Any]) -> None:
    """Services are started again by the step that they came from."""
    for name, step in pipeline.spec["steps"].items():
        if step["interface"].get("service") and name not in spec["steps"]:
            raise Refused(f"the step {name} of the pipeline {pipeline.name} serves, and the installed version of the "
                          "template has no such step",
                          hint=f"Remove the pipeline and add it again: fuseml pipeline remove {pipeline.name}")


def _changes(pipeline: Pipeline, entry: dict[str, Any], spec: dict[str, Any], before: str) -> list[str]:
    """What another specification changes, one sentence each; empty when nothing does."""
    lines = []
    if pipeline.extension_digest != entry["extension_digest"]:
        lines.append(f"extension {entry['extension']} {before} → {entry['version']}")
    for what in ("inputs", "parameters", "outputs", "steps"):
        old, new = pipeline.spec[what], spec[what]
        singular = what[:-1]
        lines += [f"{singular} {name} is new{_of(new[name])}" for name in new if name not in old]
        lines += [f"{singular} {name} is gone" for name in old if name not in new]
        lines += [f"{singular} {name} changes: {', '.join(_differing(old[name], new[name]))}"
                  for name in new if name in old and _plain(old[name]) != _plain(new[name])]
    return lines


def _of(declared: dict[str, Any]) -> str:
    default = declared.get("default") if isinstance(declared, dict) else None
    return f" (default {json.dumps(default)})" if default not in (None, "") else ""


def _differing(old: Any, new: Any) -> list[str]:
    if not isinstance(old, dict) or not isinstance(new, dict):
        return [f"{old} → {new}"]
    names = [name for name in {**old, **new} if _plain(old.get(name)) != _plain(new.get(name))]
    return [f"{name} {_short(old.get(name))} → {_short(new.get(name))}" for name in names]


def _short(value: Any) -> str:
    if isinstance(value, dict) and "digest" in value:
        return f"{value['digest'][7:19]}"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _plain(value: Any) -> str:
    """What is compared: the place of unpacked files says nothing that the digest does not say."""
    if isinstance(value, dict):
        value = {name: _plain(part) for name, part in value.items() if name != "contents"}
    return json.dumps(value, sort_keys=True, default=str)
