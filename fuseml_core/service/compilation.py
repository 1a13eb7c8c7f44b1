"""Compiling a template: every runnable pinned, every input wired, every coupling checked before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from graphlib import CycleError, TopologicalSorter
from typing import Any

from fuseml_core.domain import fingerprints
from fuseml_core.domain.errors import Invalid
from fuseml_core.engine.binding import dependencies
from fuseml_sdk.templates import PipelineTemplate, TemplateStep

#: Finds a runnable by the name a step gives: address, digest, descriptor, contents.
FindRunnable = Callable[[str], dict[str, Any]]


def compile_template(template: PipelineTemplate, find: FindRunnable) -> dict[str, Any]:
    """Make the compiled form that a pipeline keeps.

    Args:
        template: The template.
        find: Resolves a runnable's name; raises `NotFound` for one that is not installed.

    Returns:
        JSON-serialisable: `inputs`, `parameters`, `open_parameters`, `steps`, `outputs`, `order` of the steps.

    Raises:
        Invalid: Steps form a cycle, an input has no source or several, kinds or types do not fit.
        NotFound: A runnable is not installed.
    """
    steps = {name: _step(step, find) for name, step in template.steps.items()}
    spec: dict[str, Any] = {
        "name": template.name,
        "inputs": {n: i.model_dump() for n, i in template.inputs.items()},
        "parameters": {n: p.model_dump() for n, p in template.parameters.items()},
        "open_parameters": template.open_parameters,
        "steps": steps,
        "outputs": {n: {"from": o.from_, "name": o.name} for n, o in template.outputs.items()},
    }
    for name in steps:
        _wire(spec, name)
    spec["order"] = _order(steps)
    for name, output in spec["outputs"].items():
        _check_source(spec, output["from"], f"the output {name}")
    _check_parameters(spec)
    _inherit_bounds(spec)
    return spec


def outputs_by_kind(spec: dict[str, Any]) -> dict[str, str]:
    """What a compiled template puts out: kind by output; the address of a service is of the kind `url`."""
    return {name: _kind_of(spec, output["from"]) for name, output in spec["outputs"].items()}


def _kind_of(spec: dict[str, Any], source: str) -> str:
    first, _, port = source.partition(".")
    if first != "inputs" and port == "url" and spec["steps"][first]["interface"]["service"]:
        return "url"
    return str(_check_source(spec, source, "the output")["kind"])


def check_replacement(step: dict[str, Any], runnable: dict[str, Any], name: str) -> None:
    """Check that a runnable can stand in for that of a step.

    Raises:
        Invalid: It lacks an input that the step is given or an output that others take, or has one of another kind.
    """
    interface = step["interface"]
    for what in ("inputs", "outputs"):
        there = {port["name"]: port for port in runnable["descriptor"].get(what, [])}
        wired = {port["name"]: port for port in interface[what]
                 if what == "outputs" or (port["name"] in step["inputs"] and not port.get("optional"))}
        for port, wanted in wired.items():
            if port not in there or there[port]["kind"] != wanted["kind"]:
                raise Invalid(
                    f"the runnable {runnable['descriptor']['name']} cannot stand in for the step {name}: "
                    f"it has no {what[:-1]} {port} ({wanted['kind']})")


def spec_digest(spec: dict[str, Any]) -> str:
    """Identity of a compiled template."""
    return fingerprints.digest(spec)


def _step(step: TemplateStep, find: FindRunnable) -> dict[str, Any]:
    runnable = find(step.runnable) if step.runnable else None
    interface = runnable["descriptor"] if runnable else step.interface.model_dump() if step.interface else {}
    return {
        "runnable": runnable,
        "from": step.from_,
        "interface": {
            "kind": interface.get("kind", "custom"),
            "inputs": interface.get("inputs", []),
            "outputs": _outputs(interface),
            "parameters": interface.get("parameters", []),
            "service": interface.get("service") is not None,
        },
        "variants": {value: find(name) for value, name in step.variants.items()},
        "variant_by": step.variant_by,
        "inputs": dict(step.inputs),
        "parameters": dict(step.parameters),
        "open_parameters": step.open_parameters,
        "filters": dict(step.filters),
        "needs": list(step.needs),
        "resources": step.resources.model_dump(),
        "service_name": step.service_name,
        "timeout": step.timeout,
        "retries": step.retries,
        "description": step.description,
    }


def _outputs(interface: dict[str, Any]) -> list[dict[str, Any]]:
    outputs = list(interface.get("outputs", []))
    if interface.get("service") is not None and not any(o["name"] == "url" for o in outputs):
        # Every service gives the URL it is reached at, declared or not.
        outputs.append({"name": "url", "kind": "value", "type": None, "many": False})
    return outputs


def _wire(spec: dict[str, Any], name: str) -> None:
    step = spec["steps"][name]
    ports = {i["name"]: i for i in step["interface"]["inputs"]}
    unknown = sorted(set(step["inputs"]) - set(ports))
    if unknown:
        raise Invalid(
            f"the step {name} maps the input {unknown[0]!r}, which its runnable does not have",
            hint=f"It has {', '.join(ports) or 'none'}.",
        )
    for port, wanted in ports.items():
        source = step["inputs"].get(port)
        if source is None:
            source = _only_candidate(spec, name, port, wanted)
            if source is None:
                continue
            step["inputs"][port] = source
        given = _check_source(spec, source, f"the input {port} of the step {name}")
        _check_fit(given, wanted, f"the step {name} takes {port} from {source}")
    if step["from"]:
        given = _check_source(spec, step["from"], f"the step {name}")
        if given["kind"] != "runnable":
            raise Invalid(f"the step {name} runs {step['from']}, which is a {given['kind']}, not a runnable")


def _only_candidate(spec: dict[str, Any], name: str, port: str, wanted: dict[str, Any]) -> str | None:
    found = [f"inputs.{n}" for n, i in spec["inputs"].items() if _fits(i, wanted)]
    found += [
        f"{s}.{o['name']}"
        for s, step in spec["steps"].items()
        if s != name
        for o in step["interface"]["outputs"]
        if _fits(o, wanted)
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise Invalid(
            f"the input {port} of the step {name} can be taken from {', '.join(found)}",
            hint=f"Say which in the template: inputs: {{{port}: {found[0]}}}.",
        )
    if wanted.get("optional"):
        return None
    raise Invalid(
        f"nothing gives the input {port} ({wanted['kind']}) of the step {name}",
        hint="Add an input to the template, or a step before it that puts out one.",
    )


def _check_source(spec: dict[str, Any], source: str, what: str) -> dict[str, Any]:
    first, _, port = source.partition(".")
    if first == "inputs":
        if port in spec["inputs"]:
            found: dict[str, Any] = spec["inputs"][port]
            return found
        raise Invalid(
            f"{what} refers to {source}", hint=f"The template has the inputs {', '.join(spec['inputs']) or 'none'}."
        )
    step = spec["steps"].get(first)
    if step is None:
        raise Invalid(f"{what} refers to {source}", hint=f"The template has the steps {', '.join(spec['steps'])}.")
    for output in step["interface"]["outputs"]:
        if output["name"] == port:
            return dict(output)
    names = ", ".join(o["name"] for o in step["interface"]["outputs"])
    raise Invalid(f"{what} refers to {source}", hint=f"The step {first} puts out {names or 'nothing'}.")


def _types_of(declared: dict[str, Any]) -> list[str]:
    return list(declared.get("types") or ([declared["type"]] if declared.get("type") else []))


def _fits(given: dict[str, Any], wanted: dict[str, Any]) -> bool:
    if given["kind"] != wanted["kind"]:
        return False
    have, want = _types_of(given), _types_of(wanted)
    return (
        not have
        or not want
        or any(h == w or h.startswith(w + "/") or w.startswith(h + "/") for h in have for w in want)
    )


def _check_fit(given: dict[str, Any], wanted: dict[str, Any], what: str) -> None:
    if given["kind"] != wanted["kind"]:
        raise Invalid(f"{what}, which is a {given['kind']}; a {wanted['kind']} is needed")
    if not _fits(given, wanted):
        raise Invalid(
            f"{what} of type {', '.join(_types_of(given))}; {', '.join(_types_of(wanted))} is needed",
            hint="A converter between the types would help.",
        )


def _order(steps: dict[str, Any]) -> list[str]:
    try:
        graph = {name: sorted(dependencies(step)) for name, step in steps.items()}
        for name, needed in graph.items():
            for other in needed:
                if other not in steps:
                    raise Invalid(f"the step {name} needs {other!r}, which is no step of the template")
        found = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        raise Invalid(
            f"the steps {' → '.join(error.args[1])} need each other", hint="A pipeline must not have a loop."
        ) from None
    return found


def _check_parameters(spec: dict[str, Any]) -> None:
    for name, step in spec["steps"].items():
        declared = {p["name"] for p in step["interface"]["parameters"]}
        for parameter, value in step["parameters"].items():
            if declared and parameter not in declared and not step["from"]:
                raise Invalid(
                    f"the step {name} sets the parameter {parameter!r}, which its runnable does not have",
                    hint=f"It has {', '.join(sorted(declared))}.",
                )
            if isinstance(value, str) and value.startswith("{parameters."):
                wanted = value[len("{parameters.") :].rstrip("}")
                if wanted not in spec["parameters"]:
                    raise Invalid(
                        f"the step {name} refers to the parameter {wanted!r}, which the template does not declare"
                    )
        if step["variant_by"] and step["variant_by"] not in spec["parameters"]:
            raise Invalid(f"the step {name} chooses by {step['variant_by']!r}, which is no parameter of the template")


def _inherit_bounds(spec: dict[str, Any]) -> None:
    """Give numbers that are passed on as they are the limits of the runnables that take them.

    What a step would refuse is so refused when the pipeline is added; the narrower of the two limits counts.
    """
    for step in spec["steps"].values():
        ports = {p["name"]: p for p in step["interface"]["parameters"]}
        for port, value in step["parameters"].items():
            declared = spec["parameters"].get(str(value)[len("{parameters."):-1]) if _passed_on(value) else None
            if declared is None or declared["type"] not in ("integer", "float") or port not in ports:
                continue
            _tighten(declared, ports[port], "minimum", max)
            _tighten(declared, ports[port], "maximum", min)


def _passed_on(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("{parameters.") and value.endswith("}")


def _tighten(
    declared: dict[str, Any], port: dict[str, Any], bound: str, choose: Callable[[list[float]], float]
) -> None:
    known = [limit for limit in (declared.get(bound), port.get(bound)) if limit is not None]
    if known:
        declared[bound] = choose(known)
