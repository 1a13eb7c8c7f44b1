"""How the values that one JSON Schema allows differ from those that another allows.

It judges the part of JSON Schema that pydantic writes for data: types, unions, enumerations, bounds, objects, lists
and maps. Where it cannot tell (two different patterns) it reports both directions, so that nothing harmful passes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]

#: Keywords that say nothing about which values are allowed.
_ANNOTATIONS = frozenset({"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$defs",
                          "$schema", "$comment", "discriminator"})
_BOUNDS = {"minimum": -1, "exclusiveMinimum": -1, "maximum": 1, "exclusiveMaximum": 1, "minLength": -1, "maxLength": 1,
           "minItems": -1, "maxItems": 1, "minProperties": -1, "maxProperties": 1}
_STRUCTURE = frozenset({"type", "enum", "const", "properties", "required", "items", "additionalProperties"})
_ABSENT: Any = object()


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference between two schemas.

    Attributes:
        place: Type and field, such as `Workload.kind`; `[]` stands for the entries of a list, `.*` for those of a map.
        kind: As the rules call it.
        what: The change in words.
    """

    place: str
    kind: str
    what: str


class Comparison:
    """Compares two schemas with the definitions that they refer to.

    Args:
        old: Whole document with `$defs`.
        new: Whole document with `$defs`.
    """

    def __init__(self, old: Schema, new: Schema) -> None:
        self._old, self._new = old.get("$defs") or {}, new.get("$defs") or {}
        self._seen: set[tuple[str, str]] = set()

    def values(self, old: Schema, new: Schema, place: str) -> Iterator[Difference]:
        """Every difference between the values that two schemas allow."""
        pair = (str(old.get("$ref", "")), str(new.get("$ref", "")))
        if all(pair):
            if pair in self._seen:
                return
            self._seen.add(pair)
        before, after = _alternatives(old, self._old), _alternatives(new, self._new)
        if "any" in before or "any" in after:
            if "any" not in after:
                yield Difference(place, "narrowed", f"only {_kinds(after)} instead of anything")
            if "any" not in before:
                yield Difference(place, "widened", f"anything instead of {_kinds(before)}")
            return
        yield from self._kinds(before, after, place)

    def _kinds(self, before: dict[str, list[Schema]], after: dict[str, list[Schema]], place: str
               ) -> Iterator[Difference]:
        if before.keys() ^ after.keys() == {"integer", "number"}:
            wider = "number" in after
            yield Difference(place, "widened" if wider else "narrowed",
                             "fractions are allowed now" if wider else "only whole numbers are allowed now")
            before, after = ({("number" if kind == "integer" else kind): each for kind, each in side.items()}
                             for side in (before, after))
        for kind in sorted(after.keys() - before.keys()):
            yield Difference(place, "widened", f"may be {kind} now")
        for kind in sorted(before.keys() - after.keys()):
            yield Difference(place, "narrowed", f"may not be {kind} any more")
        for kind in sorted(before.keys() & after.keys()):
            yield from self._same_kind(kind, before[kind], after[kind], place)

    def _same_kind(self, kind: str, before: list[Schema], after: list[Schema], place: str) -> Iterator[Difference]:
        if kind not in ("object", "array"):
            before, after = _merged(before), _merged(after)
        if len(before) == len(after) == 1:
            yield from self._one(kind, before[0], after[0], place)
            return
        olds, news = ({str(each.get("title") or n): each for n, each in enumerate(side)} for side in (before, after))
        for name in [name for name in news if name not in olds]:
            yield Difference(place, "widened", f"may be {_named(kind, name)} now")
        for name in [name for name in olds if name not in news]:
            yield Difference(place, "narrowed", f"may not be {_named(kind, name)} any more")
        for name in [name for name in olds if name in news]:
            yield from self._one(kind, olds[name], news[name], place)

    def _one(self, kind: str, old: Schema, new: Schema, place: str) -> Iterator[Difference]:
        yield from _enumerations(old, new, place)
        for keyword in _BOUNDS:
            yield from _bound(keyword, old, new, place)
        for keyword in sorted((old.keys() | new.keys()) - _ANNOTATIONS - _BOUNDS.keys() - _STRUCTURE):
            yield from _opaque(keyword, old, new, place)
        if kind == "array":
            yield from self.values(old.get("items") or {}, new.get("items") or {}, f"{place}[]")
        elif kind == "object":
            yield from self._object(old, new, str(new.get("title") or "") or place)

    def _object(self, old: Schema, new: Schema, place: str) -> Iterator[Difference]:
        before, after = old.get("properties") or {}, new.get("properties") or {}
        must, must_now = set(old.get("required") or ()), set(new.get("required") or ())
        for name in [name for name in after if name not in before]:
            required = name in must_now
            yield Difference(f"{place}.{name}", "required-added" if required else "optional-added",
                             "added, required" if required else "added, may be left out")
        for name in [name for name in before if name not in after]:
            yield Difference(f"{place}.{name}", "removed", "removed")
        for name in [name for name in before if name in after]:
            where = f"{place}.{name}"
            if (name in must) != (name in must_now):
                now = name in must_now
                yield Difference(where, "now-required" if now else "now-optional",
                                 "required now" if now else "may be left out now")
            elif name not in must:
                yield from _default(before[name], after[name], where)
            yield from self.values(before[name], after[name], where)
        yield from self._others(old.get("additionalProperties", True), new.get("additionalProperties", True), place)

    def _others(self, old: Any, new: Any, place: str) -> Iterator[Difference]:
        """Compare what is said of fields that have no name: closed, open, or a map of values."""
        if old is False or new is False:
            if old is not new:
                wider = old is False
                yield Difference(place, "widened" if wider else "narrowed",
                                 "other fields are allowed now" if wider else "other fields are refused now")
            return
        yield from self.values(old if isinstance(old, Mapping) else {}, new if isinstance(new, Mapping) else {},
                               f"{place}.*")


def _alternatives(schema: Schema, definitions: Schema) -> dict[str, list[Schema]]:
    """The schema as alternatives without references, by kind of value; `any` if everything is allowed."""
    found: dict[str, list[Schema]] = {}
    for each in _flat(schema, definitions):
        for kind, part in _by_kind(each):
            found.setdefault(kind, []).append(part)
    if "number" in found:
        found.pop("integer", None)  # Every whole number is a number.
    return found


def _flat(schema: Schema, definitions: Schema) -> Iterator[Schema]:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        for each in _flat(definitions[name], definitions):
            yield {**each, "title": name}
        return
    union = schema.get("anyOf") or schema.get("oneOf")
    if union:
        for each in union:
            yield from _flat(each, definitions)
        return
    yield schema


def _by_kind(schema: Schema) -> Iterator[tuple[str, Schema]]:
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if values is not None:
        kinds: dict[str, list[Any]] = {}
        for value in values:
            kinds.setdefault(_kind_of(value), []).append(value)
        rest = {key: each for key, each in schema.items() if key != "const"}
        yield from ((kind, {**rest, "enum": each}) for kind, each in kinds.items())
        return
    types = schema.get("type")
    if types is None:
        yield "any", schema
    for kind in [types] if isinstance(types, str) else types or []:
        yield kind, schema


def _kind_of(value: Any) -> str:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _kinds(alternatives: Mapping[str, Any]) -> str:
    return " or ".join(sorted(alternatives))


def _named(kind: str, name: str) -> str:
    return name if kind == "object" else f"another {kind}"


def _merged(alternatives: list[Schema]) -> list[Schema]:
    """Alternatives of one plain kind as few as possible: enumerations become one, and give way to a free value."""
    if any(each.keys() <= _ANNOTATIONS | {"type"} for each in alternatives):
        return [{"type": alternatives[0].get("type")}]
    listed = [each for each in alternatives if "enum" in each]
    others = [each for each in alternatives if "enum" not in each]
    values = [value for each in listed for value in each["enum"]]
    return [*others, *([{**listed[0], "enum": values}] if listed else [])]


def _enumerations(old: Schema, new: Schema, place: str) -> Iterator[Difference]:
    before, after = old.get("enum"), new.get("enum")
    if before is None and after is None:
        return
    if before is None or after is None:
        wider = after is None
        values = _list(before if wider else after)
        yield Difference(place, "widened" if wider else "narrowed",
                         f"any value instead of {values}" if wider else f"only {values} are allowed now")
        return
    if added := [value for value in after if value not in before]:
        yield Difference(place, "widened", f"may be {_list(added)} now")
    if gone := [value for value in before if value not in after]:
        yield Difference(place, "narrowed", f"may not be {_list(gone)} any more")


def _bound(keyword: str, old: Schema, new: Schema, place: str) -> Iterator[Difference]:
    before, after = old.get(keyword), new.get(keyword)
    if before == after:
        return
    wider = after is None if before is None or after is None else (after - before) * _BOUNDS[keyword] > 0
    yield Difference(place, "widened" if wider else "narrowed",
                     f"{keyword} is {_said(after)} instead of {_said(before)}")


def _opaque(keyword: str, old: Schema, new: Schema, place: str) -> Iterator[Difference]:
    """A keyword whose values cannot be compared: there or not there can be judged, another value counts as both."""
    before, after = old.get(keyword, _ABSENT), new.get(keyword, _ABSENT)
    if before == after:
        return
    what = f"{keyword} is {_said(after)} instead of {_said(before)}"
    if before is not _ABSENT:
        yield Difference(place, "widened", what)
    if after is not _ABSENT:
        yield Difference(place, "narrowed", what)


def _default(old: Schema, new: Schema, place: str) -> Iterator[Difference]:
    before, after = old.get("default", _ABSENT), new.get("default", _ABSENT)
    if before != after or type(before) is not type(after):
        yield Difference(place, "default", f"the default is {_said(after)} instead of {_said(before)}")


def _list(values: Any) -> str:
    return ", ".join(f"`{value}`" for value in values)


def _said(value: Any) -> str:
    return "nothing" if value is None or value is _ABSENT else f"`{value}`"
