"""Checks of pipeline templates: steps, runnables and wires exist and fit together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from fuseml_oci.bundles.documents import Document
from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.templates import Interface, PipelineTemplate, TemplateStep
from fuseml_sdk.types import InputSpec, OutputSpec, ParameterSpec, RunnableDescriptor

_PARAMETER = re.compile(r"\{parameters\.([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What steps may refer to: the runnables of the bundle, and the extensions whose runnables it may use."""

    extension: str
    runnables: Mapping[str, RunnableDescriptor]
    dependencies: frozenset[str] = field(default_factory=frozenset)

    def find(self, reference: str, where: str) -> RunnableDescriptor | None:
        """Return the runnable if it is in the bundle, None if it comes from elsewhere.

        Raises:
            InvalidInput: It can come from nowhere.
        """
        if reference.startswith("runnable://"):
            return None
        extension, slash, name = reference.rpartition("/")
        if not slash or extension == self.extension:
            if name not in self.runnables:
                raise InvalidInput(f"{where}: the bundle has no runnable {name!r}",
                                   hint=f"It has: {', '.join(sorted(self.runnables)) or 'none'}.")
            return self.runnables[name]
        if extension not in self.dependencies:
            raise InvalidInput(f"{where}: {reference!r} belongs to the extension {extension!r}, which is not among "
                               "the dependencies", hint="Add it to `dependencies` in extension.toml.")
        return None


#: What a step runs, as far as the bundle can tell.
_Known = RunnableDescriptor | Interface | None


def check_template(document: Document[PipelineTemplate], catalogue: Catalogue) -> None:
    """Check one template.

    Raises:
        InvalidInput: A step, runnable, input, output or parameter it names does not exist, or steps wait for each
            other; the message names file, field and reason.
    """
    file, template = document.file, document.model
    known = {name: _resolve(f"{file}: steps.{name}", step, catalogue) for name, step in template.steps.items()}
    for name, step in template.steps.items():
        _check_step(f"{file}: steps.{name}", template, step, known)
    for name, output in template.outputs.items():
        _check_source(f"{file}: outputs.{name}.from", output.from_, template, known)
    for name, parameter in template.parameters.items():
        parts = parameter.default_from.split(".")
        if parameter.default_from and (parts[0] != "inputs" or len(parts) < 3 or parts[1] not in template.inputs):
            raise InvalidInput(f"{file}: parameters.{name}.default_from: {parameter.default_from!r} does not begin "
                               "with `inputs.<name>.` of an input of the template")
    _refuse_cycles(file, template)


def _resolve(where: str, step: TemplateStep, catalogue: Catalogue) -> _Known:
    for value, reference in step.variants.items():
        catalogue.find(reference, f"{where}.variants.{value}")
    return step.interface if step.from_ else catalogue.find(step.runnable, f"{where}.runnable")


def _check_step(where: str, template: PipelineTemplate, step: TemplateStep, known: Mapping[str, _Known]) -> None:
    runs = known[where.rpartition("steps.")[2]]
    if step.from_:
        made = _check_source(f"{where}.from", step.from_, template, known)
        if made is not None and made.kind != "runnable":
            raise InvalidInput(f"{where}.from: {step.from_!r} is a {made.kind}, not a runnable")
    if step.variant_by and step.variant_by not in template.parameters:
        raise InvalidInput(f"{where}.variant_by: the template has no parameter {step.variant_by!r}")
    if bool(step.variants) != bool(step.variant_by):
        raise InvalidInput(f"{where}: `variants` and `variant_by` need each other")
    _check_inputs(where, template, step, runs, known)
    _check_parameters(where, template, step, runs)
    for need in step.needs:
        if need not in template.steps:
            raise InvalidInput(f"{where}.needs: there is no step {need!r}")


def _check_inputs(where: str, template: PipelineTemplate, step: TemplateStep, runs: _Known,
                  known: Mapping[str, _Known]) -> None:
    inputs = {spec.name: spec for spec in runs.inputs} if runs is not None else None
    for key in [*step.inputs, *step.filters]:
        if inputs is not None and key not in inputs:
            part = "inputs" if key in step.inputs else "filters"
            raise InvalidInput(f"{where}.{part}.{key}: what the step runs has no input {key!r}",
                               hint=f"It has: {', '.join(sorted(inputs)) or 'none'}.")
    for key, source in step.inputs.items():
        given = _check_source(f"{where}.inputs.{key}", source, template, known)
        wanted = inputs[key] if inputs is not None else None
        if given is not None and wanted is not None:
            _check_coupling(f"{where}.inputs.{key}", source, given, wanted)


def _check_coupling(where: str, source: str, given: OutputSpec | InputSpec, wanted: InputSpec) -> None:
    if given.kind != wanted.kind:
        raise InvalidInput(f"{where}: {source!r} is a {given.kind}, but the input takes a {wanted.kind}")


def _check_parameters(where: str, template: PipelineTemplate, step: TemplateStep, runs: _Known) -> None:
    if runs is not None and not _is_open(runs):
        declared = _parameter_names(runs.parameters)
        for name in step.parameters:
            if name not in declared:
                raise InvalidInput(f"{where}.parameters.{name}: what the step runs has no parameter {name!r}",
                                   hint=f"It has: {', '.join(sorted(declared)) or 'none'}.")
    for name, value in step.parameters.items():
        for reference in _PARAMETER.findall(value) if isinstance(value, str) else ():
            if reference not in template.parameters:
                raise InvalidInput(f"{where}.parameters.{name}: the template has no parameter {reference!r}")


def _is_open(runs: RunnableDescriptor | Interface) -> bool:
    """An interface need not list parameters: the runnable that will be built may have any."""
    return isinstance(runs, Interface) or runs.open_parameters


def _parameter_names(specs: list[ParameterSpec]) -> set[str]:
    return {spec.name for spec in specs}


def _check_source(where: str, source: str, template: PipelineTemplate,
                  known: Mapping[str, _Known]) -> OutputSpec | InputSpec | None:
    """Check `inputs.<name>` or `<step>.<output>`; return what it gives if the bundle can tell."""
    owner, dot, name = source.partition(".")
    if owner == "inputs" and name in template.inputs:
        return InputSpec(name="x", kind=template.inputs[name].kind)
    if not dot or owner not in template.steps:
        raise InvalidInput(f"{where}: {source!r} is neither `inputs.<name>` of the template nor `<step>.<output>`",
                           hint=f"Inputs: {', '.join(template.inputs) or 'none'}; steps: {', '.join(template.steps)}.")
    runs = known[owner]
    if runs is None:
        return None
    outputs = {spec.name: spec for spec in runs.outputs}
    if name not in outputs and not (isinstance(runs, RunnableDescriptor) and runs.service and name == "url"):
        raise InvalidInput(f"{where}: the step {owner!r} has no output {name!r}",
                           hint=f"It has: {', '.join(outputs) or 'none'}.")
    return outputs.get(name)


def _refuse_cycles(file: str, template: PipelineTemplate) -> None:
    waits = {name: {source.partition(".")[0] for source in [*step.inputs.values(), step.from_]
                    if source and not source.startswith("inputs.")} | set(step.needs)
             for name, step in template.steps.items()}
    while ready := [name for name, others in waits.items() if not others & waits.keys()]:
        for name in ready:
            del waits[name]
    if waits:
        raise InvalidInput(f"{file}: steps: {', '.join(sorted(waits))} wait for each other")
