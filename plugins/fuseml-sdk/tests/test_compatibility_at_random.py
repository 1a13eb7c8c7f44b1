"""The comparison of schemas against an independent judge: what it calls unchanged is accepted by jsonschema."""

from __future__ import annotations

from typing import Any

import jsonschema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuseml_sdk.compatibility.values import Comparison

#: Differences after which values of the old schema may be refused by the new one.
HARMFUL = {"narrowed", "required-added", "now-required", "removed"}
NAMES_OF_FIELDS = ["a", "b", "c"]
NAMES = st.sampled_from(NAMES_OF_FIELDS)
SETTINGS = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def bounds(least: str, most: str, low: int, high: int) -> st.SearchStrategy[dict[str, Any]]:
    numbers = st.tuples(st.integers(low, high), st.integers(low, high)).map(sorted)
    return st.tuples(st.booleans(), st.booleans(), numbers).map(
        lambda t: {**({least: t[2][0]} if t[0] else {}), **({most: t[2][1]} if t[1] else {})})


LEAVES = st.one_of(
    st.just({"type": "null"}), st.just({"type": "boolean"}), st.just({}),
    bounds("minimum", "maximum", -2, 3).map(lambda b: {"type": "integer", **b}),
    bounds("minimum", "maximum", -2, 3).map(lambda b: {"type": "number", **b}),
    bounds("minLength", "maxLength", 0, 3).map(lambda b: {"type": "string", **b}),
    st.lists(st.sampled_from(["x", "y", "z"]), min_size=1, unique=True).map(lambda v: {"type": "string", "enum": v}),
    st.sampled_from(["x", "y", 1, 2]).map(lambda v: {"const": v}),
)


def objects(schemas: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(NAMES, schemas, max_size=3).flatmap(
        lambda properties: st.tuples(st.sets(st.sampled_from(sorted(properties))) if properties else st.just(set()),
                                     st.booleans()).map(
            lambda t: {"type": "object", "properties": properties, "required": sorted(t[0]),
                       **({"additionalProperties": False} if t[1] else {})}))


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(
        objects(inner), inner.map(lambda s: {"type": "object", "additionalProperties": s}),
        st.tuples(inner, bounds("minItems", "maxItems", 0, 2)).map(lambda t: {"type": "array", "items": t[0], **t[1]}))


PLAIN = st.recursive(LEAVES, containers, max_leaves=6)
SCHEMAS = st.recursive(LEAVES, lambda inner: st.one_of(
    containers(inner), st.lists(inner, min_size=2, max_size=3).map(lambda s: {"anyOf": s})), max_leaves=6)

VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 4), st.sampled_from([0.5, 1.5]),
              st.sampled_from(["", "x", "y", "z", "xyz", "long text"])),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(NAMES, inner, max_size=3)), max_leaves=5)


def loosened(schema: Any) -> Any:
    """The schema with neither bounds nor required fields, and with open objects: it allows all that it did."""
    if isinstance(schema, list):
        return [loosened(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: loosened(value) for key, value in schema.items()
            if key in NAMES_OF_FIELDS or not (key.startswith(("min", "max")) or key == "required" or value is False)}


#: A schema, and another that is unrelated, has an alternative more, or is looser.
PAIRS = st.tuples(SCHEMAS, SCHEMAS, st.integers(0, 2)).map(
    lambda t: (t[0], [t[1], {"anyOf": [t[0], t[1]]}, loosened(t[0])][t[2]]))


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[Any]:
    return list(Comparison(old, new).values(old, new, "it"))


def allows(schema: dict[str, Any], value: Any) -> bool:
    return bool(jsonschema.Draft202012Validator(schema).is_valid(value))


@SETTINGS
@given(SCHEMAS)
def test_a_schema_does_not_differ_from_itself(schema):
    assert differences(schema, schema) == []


@SETTINGS
@given(SCHEMAS, SCHEMAS)
def test_what_widens_in_one_direction_narrows_in_the_other(old, new):
    opposite = {"widened": "narrowed", "narrowed": "widened", "now-required": "now-optional",
                "now-optional": "now-required", "default": "default", "removed": "added", "optional-added": "removed",
                "required-added": "removed"}
    forth = sorted((d.place, opposite[d.kind]) for d in differences(old, new))
    back = sorted((d.place, "added" if d.kind.endswith("-added") else d.kind) for d in differences(new, old))
    assert forth == back


@SETTINGS
@given(PAIRS, st.lists(VALUES, min_size=1, max_size=30))
def test_what_it_calls_harmless_is_accepted_by_the_new_schema(pair, values):
    old, new = pair
    kinds = {difference.kind for difference in differences(old, new)}
    if kinds & HARMFUL:
        return
    for value in values:
        if allows(old, value) and not _undeclared(old, new, value):
            assert allows(new, value), (old, new, value)


@SETTINGS
@given(PLAIN)
def test_a_looser_schema_is_called_harmless(schema):
    """Without unions: of alternatives of one kind it says rather too much than too little."""
    kinds = {difference.kind for difference in differences(schema, loosened(schema))}
    assert not kinds & HARMFUL


def _undeclared(old: Any, new: Any, value: Any) -> bool:
    """Whether a value has fields that only the new schema gives a meaning; nobody wrote them before."""
    return isinstance(value, dict | list) and any(d.kind == "optional-added" for d in differences(old, new))
