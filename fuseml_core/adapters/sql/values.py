"""Values as both databases can keep them: what programs print and people type may be anything."""

from __future__ import annotations

import json
import math
from typing import Any

#: How JSON writes what PostgreSQL refuses: NUL, and halves of surrogate pairs.
_SUSPICIOUS = ("\\u0000", "\\ud")


def storable_text(value: str) -> str:
    """Text without NUL and halves of surrogate pairs, which PostgreSQL and UTF-8 do not know."""
    value = value.replace("\x00", "\ufffd")
    return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def storable(value: Any) -> Any:
    """A JSON value with storable texts, and nothing in place of numbers that JSON does not have (NaN, infinity)."""
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {storable_text(str(k)): storable(v) for k, v in value.items()}
    return [storable(v) for v in value] if isinstance(value, list | tuple) else value


def to_json(value: Any) -> str:
    """The serializer of JSON columns."""
    try:
        text = json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(storable(value))
    return json.dumps(storable(value)) if any(s in text for s in _SUSPICIOUS) else text


def storable_parameters(parameters: Any) -> Any:
    """Bound parameters of a statement, for one row or for many, in the form that the driver wants."""
    if isinstance(parameters, dict):
        return {k: storable_text(v) if isinstance(v, str) else v for k, v in parameters.items()}
    if isinstance(parameters, list):
        return [storable_parameters(row) for row in parameters]
    return tuple(storable_text(v) if isinstance(v, str) else v for v in parameters)
