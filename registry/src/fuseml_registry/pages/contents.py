"""What a bundle brings and asks for, as documents for pages and programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fuseml_oci.bundles.descriptor import ExtensionDescriptor
from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.manifest import ExtensionManifest
from fuseml_sdk.permissions import NONE, asked_for, parse
from fuseml_sdk.templates import PipelineTemplate
from fuseml_sdk.types import ParameterSpec, RunnableDescriptor

#: Entries of each list that are shown; a descriptor of 4 MiB can have tens of thousands.
LIMIT = 200


def contents(descriptor: ExtensionDescriptor) -> dict[str, Any]:
    """Templates, runnables and components, and how many there are of each."""
    manifest = descriptor.manifest
    return {
        "templates": [_template(template) for template in descriptor.templates[:LIMIT]],
        "runnables": [_runnable(runnable) for runnable in descriptor.runnables[:LIMIT]],
        "components": [{"family": component.family, "name": component.name, "summary": component.summary}
                       for component in manifest.components[:LIMIT]],
        "counts": {"templates": len(descriptor.templates), "runnables": len(descriptor.runnables),
                   "components": len(manifest.components)},
    }


def permissions(manifest: ExtensionManifest) -> list[dict[str, Any]]:
    """What it wants to do, why, what that allows, and whether anything stops extensions that do not declare it."""
    return [{**entry, **_enforcement(entry["name"])} for entry in asked_for(manifest.model_dump(mode="json"))[:LIMIT]]


def _enforcement(name: str) -> dict[str, Any]:
    try:
        kind = parse(name).kind
    except InvalidInput:
        return {"enforced": False, "allows": "", "why": "no version of FuseML that these pages know understands it"}
    return {"enforced": kind.by != NONE, "allows": kind.allows, "why": kind.why_not}


def settings(manifest: ExtensionManifest) -> list[dict[str, Any]]:
    """What `fuseml extension configure` can set: the properties of the configuration's schema."""
    properties = manifest.config_schema.get("properties")
    required = manifest.config_schema.get("required")
    names = required if isinstance(required, list) else []
    found = []
    for name, schema in list(properties.items() if isinstance(properties, dict) else ())[:LIMIT]:
        about: Mapping[str, Any] = schema if isinstance(schema, dict) else {}
        secret = about.get("writeOnly") is True
        found.append({
            "name": str(name), "type": _type(about), "required": name in names, "secret": secret,
            "default": None if secret else _scalar(about.get("default")),
            "choices": [_scalar(choice) for choice in _list(about.get("enum"))],
            "description": str(about.get("description") or ""),
        })
    return found


def _template(template: PipelineTemplate) -> dict[str, Any]:
    inputs = [{"name": name, "kind": entry.kind, "types": entry.types, "optional": entry.optional,
               "description": entry.description} for name, entry in list(template.inputs.items())[:LIMIT]]
    parameters = [{"name": name, "type": entry.type, "default": entry.default, "default_from": entry.default_from,
                   "required": entry.required, "choices": entry.choices, "minimum": entry.minimum,
                   "maximum": entry.maximum, "description": entry.description}
                  for name, entry in list(template.parameters.items())[:LIMIT]]
    steps = [{"name": name, "runs": step.runnable or step.from_, "made": not step.runnable,
              "description": step.description}
             for name, step in list(template.steps.items())[:LIMIT]]
    return {"name": template.name, "summary": template.summary, "description": template.description,
            "inputs": inputs, "parameters": parameters, "open_parameters": template.open_parameters, "steps": steps,
            "outputs": [{"name": name, "from": output.from_}
                        for name, output in list(template.outputs.items())[:LIMIT]]}


def _runnable(runnable: RunnableDescriptor) -> dict[str, Any]:
    return {
        "name": runnable.name, "kind": runnable.kind, "description": runnable.description,
        "inputs": [{"name": entry.name, "kind": entry.kind, "types": entry.types, "optional": entry.optional,
                    "description": entry.description} for entry in runnable.inputs[:LIMIT]],
        "outputs": [{"name": entry.name, "kind": entry.kind, "type": entry.type, "description": entry.description}
                    for entry in runnable.outputs[:LIMIT]],
        "parameters": [_parameter(entry) for entry in runnable.parameters[:LIMIT]],
        "open_parameters": runnable.open_parameters,
        "service": runnable.service is not None,
    }


def _parameter(entry: ParameterSpec) -> dict[str, Any]:
    return {"name": entry.name, "type": entry.type, "default": entry.default, "default_from": "",
            "required": entry.required, "choices": entry.choices, "minimum": entry.minimum, "maximum": entry.maximum,
            "description": entry.description}


def _type(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        return " or ".join(str(entry) for entry in kind[:5])
    return str(kind or ("choice" if "enum" in schema else "any"))


def _list(value: Any) -> Iterable[Any]:
    return value[:LIMIT] if isinstance(value, list) else ()


def _scalar(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)[:500]
