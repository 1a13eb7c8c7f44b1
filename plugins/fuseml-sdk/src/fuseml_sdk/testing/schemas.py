"""Does a document fit a published JSON Schema? As much of the draft 2020-12 as the published schemas use.

Stricter in one point: a field that an object's schema does not name is refused, because unknown fields are tolerated
when read and never written. Source: https://json-schema.org/draft/2020-12.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from fuseml_sdk.contract import SCHEMAS

_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: not isinstance(value, bool) and (
        isinstance(value, int) or (isinstance(value, float) and value.is_integer())),
}
_LIMITS: dict[str, Callable[[Any, Any], bool]] = {
    "minimum": lambda value, limit: value >= limit,
    "maximum": lambda value, limit: value <= limit,
    "exclusiveMinimum": lambda value, limit: value > limit,
    "exclusiveMaximum": lambda value, limit: value < limit,
}
_LENGTHS: dict[str, Callable[[Any, Any], bool]] = {
    "minLength": lambda value, limit: len(value) >= limit,
    "maxLength": lambda value, limit: len(value) <= limit,
    "minItems": lambda value, limit: len(value) >= limit,
    "maxItems": lambda value, limit: len(value) <= limit,
}


@cache
def published(hook: str) -> dict[str, Any]:
    """The published schemas of a hook: `arguments` and `result`.

    Raises:
        OSError: There is no such hook.
    """
    found: dict[str, Any] = json.loads((Path(SCHEMAS) / f"{hook}.json").read_bytes())
    return found


def misfits(value: Any, schema: Mapping[str, Any]) -> list[str]:
    """Say in sentences where a document does not fit; empty if it does.

    Args:
        value: The document, as `json.loads` gives it.
        schema: With its `$defs`.
    """
    return list(_misfits(value, schema, schema.get("$defs", {}), "result"))


def _misfits(value: Any, schema: Any, named: Mapping[str, Any], where: str) -> Iterator[str]:
    if not isinstance(schema, dict):
        return
    if "$ref" in schema:
        yield from _misfits(value, named[schema["$ref"].rpartition("/")[2]], named, where)
        return
    if "anyOf" in schema:
        tried = [list(_misfits(value, choice, named, where)) for choice in schema["anyOf"]]
        if all(tried):
            yield min(tried, key=len)[0]
        return
    if "const" in schema and value != schema["const"]:
        yield f"{where} is {value!r}, not {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where} is {value!r}, not one of {', '.join(map(repr, schema['enum']))}"
    kinds = schema.get("type", [])
    if kinds and not any(_TYPES[kind](value) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
        yield f"{where} is {str(value)[:80]!r}, not of type {kinds}"
        return
    yield from _bounds(value, schema, where)
    if isinstance(value, dict):
        yield from _members(value, schema, named, where)
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from _misfits(item, schema.get("items"), named, f"{where}[{number}]")


def _bounds(value: Any, schema: Mapping[str, Any], where: str) -> Iterator[str]:
    if _TYPES["number"](value):
        yield from (f"{where} is {value}, against {name} {schema[name]}" for name, holds in _LIMITS.items()
                    if name in schema and not holds(value, schema[name]))
    if isinstance(value, str | list):
        wanted = ("minLength", "maxLength") if isinstance(value, str) else ("minItems", "maxItems")
        yield from (f"{where} has the length {len(value)}, against {name} {schema[name]}" for name in wanted
                    if name in schema and not _LENGTHS[name](value, schema[name]))
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{where} is {value[:80]!r}, which does not match {schema['pattern']}"


def _members(value: dict[str, Any], schema: Mapping[str, Any], named: Mapping[str, Any], where: str) -> Iterator[str]:
    known = schema.get("properties", {})
    yield from (f"{where} lacks {name!r}" for name in schema.get("required", ()) if name not in value)
    # An object without any named member, and without a word about others, holds anything.
    others = schema.get("additionalProperties", not known)
    for name, item in value.items():
        if name in known:
            yield from _misfits(item, known[name], named, f"{where}.{name}")
        elif others is False:
            yield f"{where} has a field {name!r} that the contract does not know"
        else:
            yield from _misfits(item, others, named, f"{where}.{name}")
