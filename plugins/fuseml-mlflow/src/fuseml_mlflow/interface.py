"""The parameters of an entry point as FuseML's parameters."""

from __future__ import annotations

from typing import Any

from fuseml_mlflow.project import Parameter
from fuseml_sdk.types import ParameterSpec, ParameterType, Scalar

_TYPES: dict[str, ParameterType] = {"float": "float", "double": "float", "int": "integer", "integer": "integer",
                                    "long": "integer", "path": "path", "uri": "uri"}


def parameter_spec(parameter: Parameter) -> ParameterSpec:
    """Describe a parameter. MLflow checks only path and uri, so a default that does not fit makes it a string."""
    kind = _TYPES.get(parameter.type.lower(), "string")
    default = None if parameter.default is None else _convert(parameter.default, kind)
    if default is None and parameter.default is not None:
        kind, default = "string", str(parameter.default)
    # A path or uri may come from a dataset instead, which only the trainer can see: it reports what is missing.
    required = parameter.default is None and kind not in ("path", "uri")
    return ParameterSpec(name=parameter.name, type=kind, default=default, required=required, deliver="config")


def _convert(value: Any, kind: ParameterType) -> Scalar | None:
    """The default as the type has it; None if it does not fit."""
    if kind in ("float", "integer"):
        if isinstance(value, bool):
            return None
        try:
            number = float(value) if kind == "float" else int(str(value))
        except (TypeError, ValueError):
            return None
        return number
    return str(value)
