"""Sample values, to see what templates and commands look like when they run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fuseml_sdk.templates import PipelineTemplate, TemplateParameter
from fuseml_sdk.types import ParameterSpec, RunnableDescriptor

_REFERENCE = re.compile(r"\{parameters\.([^{}]*)\}")
_BY_TYPE: Mapping[str, Any] = {"string": "text", "integer": 1, "float": 1.0, "boolean": True, "path": "/tmp/sample",  # noqa: S108
                               "uri": "https://example.org/sample"}


def sample_of(parameter: TemplateParameter | ParameterSpec) -> Any:
    """The value that a pipeline would have without being told: default, first choice, or one of the type."""
    if parameter.default is not None:
        return parameter.default
    if parameter.choices:
        return parameter.choices[0]
    value = _BY_TYPE.get(parameter.type, "text")
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = max(value, parameter.minimum) if parameter.minimum is not None else value
        value = min(value, parameter.maximum) if parameter.maximum is not None else value
        return int(value) if parameter.type == "integer" else value
    return value


def filled(value: Any, template: PipelineTemplate) -> Any:
    """A parameter of a step with the samples of the template's parameters in it."""
    if not isinstance(value, str):
        return value
    if whole := _REFERENCE.fullmatch(value):
        return sample_of(template.parameters[whole[1]]) if whole[1] in template.parameters else value
    return _REFERENCE.sub(lambda m: str(sample_of(template.parameters[m[1]])) if m[1] in template.parameters else m[0],
                          value)


def mismatch(value: Any, spec: ParameterSpec | TemplateParameter) -> str:
    """What is wrong with a value for a parameter; empty if nothing is."""
    converted = _converted(value, spec.type)
    if converted is None:
        return f"{value!r} is not {'an' if spec.type == 'integer' else 'a'} {spec.type}"
    if spec.choices and converted not in spec.choices and value not in spec.choices:
        return f"{value!r} is not among {', '.join(map(str, spec.choices))}"
    if isinstance(converted, int | float) and not isinstance(converted, bool):
        if spec.minimum is not None and converted < spec.minimum:
            return f"{value!r} is less than {spec.minimum:g}"
        if spec.maximum is not None and converted > spec.maximum:
            return f"{value!r} is more than {spec.maximum:g}"
    return ""


def rendered(runnable: RunnableDescriptor) -> list[str]:
    """The command as it would be run, with samples for inputs, outputs and parameters."""
    values = {f"input.{spec.name}": f"/inputs/{spec.name}" for spec in runnable.inputs}
    values |= {f"output.{spec.name}": f"/outputs/{spec.name}" for spec in runnable.outputs}
    values |= {f"parameter.{spec.name}": str(sample_of(spec)) for spec in runnable.parameters}
    values |= {f"python.{name}": f"/env/{name}/bin/python" for name in runnable.environments}
    values |= {"python": "/env/bin/python", "runnable": "/runnable"}
    return [re.sub(r"\{([a-z]+(?:\.[^{}]*)?)\}", lambda m: values.get(m[1], m[0]), argument)
            for argument in runnable.command]


def _converted(value: Any, type_: str) -> Any:
    """The value as the type; None if it cannot be."""
    try:
        if type_ == "integer":
            broken = isinstance(value, float) and not value.is_integer()
            return None if isinstance(value, bool) or broken else int(value)
        if type_ == "float":
            return None if isinstance(value, bool) else float(value)
        if type_ == "boolean":
            return value if isinstance(value, bool) else {"true": True, "false": False}.get(str(value).lower())
    except (TypeError, ValueError):
        return None
    return str(value)
