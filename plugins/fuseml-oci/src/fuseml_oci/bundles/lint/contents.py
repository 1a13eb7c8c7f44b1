"""Rules about runnables, templates and files."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fuseml_oci.bundles.lint.rules import Found, Severity, rule
from fuseml_oci.bundles.lint.samples import filled, mismatch, rendered, sample_of
from fuseml_oci.bundles.lint.subject import Subject
from fuseml_sdk.templates import PipelineTemplate, TemplateStep
from fuseml_sdk.types import RunnableDescriptor

_IN_RUNNABLE = re.compile(r"\{runnable\}/([^\s\"'{}]+)")
_LEFT = re.compile(r"\{[a-z_]+(?:\.[A-Za-z0-9_.-]*)?\}")
_LARGE = 32 << 20
_ARCHIVE = re.compile(r"[^/]+-\d[^/]*\.(tar\.gz|tgz|tar\.bz2|zip)$")


@rule("B201", Severity.ERROR, reason="The command fails the first time that anybody runs it.",
      fix="Add the file, or correct its path; paths are relative to extension.toml.")
def files_of_commands_exist(bundle: Subject) -> Found:
    """Every `{runnable}/…` in a command is a file or folder of the bundle."""
    folders = {path[:index] for path in bundle.files for index, char in enumerate(path) if char == "/"}
    known = set(bundle.files) | folders | {f"wheels/{wheel.filename}" for wheel in bundle.wheels} | {"wheels"}
    for file, runnable in bundle.runnables.items():
        for argument in [*runnable.command, *runnable.env.values()]:
            for path in _IN_RUNNABLE.findall(argument):
                if path.rstrip("/") not in known:
                    yield f"{file}: command", f"the bundle has no {path!r}"


@rule("B202", Severity.WARNING, reason="What is not replaced reaches the program as it is written.",
      fix="Use {input.NAME}, {output.NAME}, {parameter.NAME}, {runnable}, {python} or {python.NAME}.")
def commands_render(bundle: Subject) -> Found:
    """Rendered with sample inputs, no placeholder is left in a command."""
    for file, runnable in bundle.runnables.items():
        for argument in rendered(runnable):
            for left in _LEFT.findall(argument):
                if not (runnable.open_parameters and left.startswith("{parameter.")):
                    yield f"{file}: command", f"nothing replaces {left!r}"


@rule("B203", Severity.ERROR, reason="A pipeline that is added without further settings cannot start its steps.",
      fix="Correct the default, or the limits of the parameter.")
def templates_render(bundle: Subject) -> Found:
    """Rendered with defaults and sample values, every step gets parameters that its runnable accepts."""
    for file, template in bundle.templates.items():
        for name, parameter in template.parameters.items():
            if parameter.default is not None and (wrong := mismatch(parameter.default, parameter)):
                yield f"{file}: parameters.{name}.default", wrong
        for where, step, runnable in _steps(bundle, file, template):
            specs = {spec.name: spec for spec in runnable.parameters}
            for name, value in step.parameters.items():
                if name in specs and (wrong := mismatch(filled(value, template), specs[name])):
                    yield f"{where}.parameters.{name}", f"rendered with sample values: {wrong}"


@rule("B204", Severity.ERROR, reason="The runnable refuses to start without them.",
      fix="Give it in the step, or give the parameter a default.")
def steps_give_required_parameters(bundle: Subject) -> Found:
    """Every step gives the parameters that its runnable requires."""
    for file, template in bundle.templates.items():
        for where, step, runnable in _steps(bundle, file, template):
            for spec in runnable.parameters:
                passed = step.open_parameters or spec.name in template.parameters
                if spec.required and spec.default is None and spec.name not in step.parameters and not passed:
                    yield f"{where}.parameters", f"{spec.name!r} is required and not given"


@rule("B205", Severity.ERROR, reason="Without a value the runnable starts with one that it calls wrong itself.",
      fix="Correct the default, the choices or the limits.")
def defaults_are_allowed(bundle: Subject) -> Found:
    """Defaults of runnables are of their type, among the choices and within the limits."""
    for file, runnable in bundle.runnables.items():
        for spec in runnable.parameters:
            if wrong := mismatch(sample_of(spec), spec):
                yield f"{file}: parameters.{spec.name}", wrong


@rule("B206", Severity.NOTICE, reason="Lists of templates and runnables show it; otherwise people guess from names.",
      fix="Say in one sentence what it does.")
def contents_are_described(bundle: Subject) -> Found:
    """Templates have a summary and runnables a description."""
    for file, template in bundle.templates.items():
        if not template.summary:
            yield f"{file}: summary", "there is no summary"
    for file, runnable in bundle.runnables.items():
        if not runnable.description:
            yield f"{file}: description", "there is no description"


@rule("B207", Severity.WARNING, reason="They are downloaded with every version by everybody.",
      fix="Keep large data in an artifact store and refer to it by address.")
def files_are_small(bundle: Subject) -> Found:
    """No file is larger than 32 MiB."""
    for path, size in bundle.sizes.items():
        if size > _LARGE:
            yield path, f"has {size / (1 << 20):.0f} MiB"


@rule("B208", Severity.WARNING, reason="Installing one runs its build script, with the rights of the server; it also "
      "needs compilers and an index.", fix="Carry a wheel: name the project in environment.wheels, or lock it.")
def no_source_distributions(bundle: Subject) -> Found:
    """The bundle carries no source distributions."""
    for path in bundle.files:
        if _ARCHIVE.search(path):
            yield path, "looks like a source distribution"


@rule("B209", Severity.WARNING, reason="The kernel looks for an interpreter whose name ends with a carriage return.",
      fix="Store the file with plain line feeds.")
def scripts_have_unix_line_ends(bundle: Subject) -> Found:
    """Scripts that begin with `#!` have no carriage returns."""
    for path, data in bundle.files.items():
        if data.startswith(b"#!") and b"\r\n" in data[:200]:
            yield f"{path}:1", "the first line ends with a carriage return"


@rule("B210", Severity.NOTICE, reason="It can only be used in pipelines that people write by hand.",
      fix="Offer a template with it, or leave it out.")
def runnables_are_used(bundle: Subject) -> Found:
    """Every runnable is used by a template, if the bundle has templates."""
    used = {reference.rpartition("/")[2] for template in bundle.templates.values() for step in template.steps.values()
            for reference in (step.runnable, *step.variants.values())}
    for file, runnable in bundle.runnables.items() if bundle.templates else ():
        if runnable.name not in used:
            yield file, f"no template uses {runnable.name!r}"


def _steps(bundle: Subject, file: str,
           template: PipelineTemplate) -> Iterator[tuple[str, TemplateStep, RunnableDescriptor]]:
    """Steps whose runnable is in the bundle, with the place of each."""
    by_name = {runnable.name: runnable for runnable in bundle.runnables.values()}
    for name, step in template.steps.items():
        for reference in (step.runnable, *step.variants.values()):
            extension, slash, short = reference.rpartition("/")
            if (not slash or extension == bundle.manifest.name) and short in by_name:
                yield f"{file}: steps.{name}", step, by_name[short]
