"""Parameters: typed, limited, refused with a sentence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml_core.domain.errors import Invalid
from fuseml_core.domain.parameters import convert


@given(st.integers())
def test_r51_an_integer_is_read_from_its_text(value):
    """What a command line gives."""
    assert convert("n", {"type": "integer"}, str(value)) == value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_r51_a_float_is_read_from_its_text(value):
    """Without losing a bit."""
    assert convert("x", {"type": "float"}, repr(value)) == value


@pytest.mark.parametrize(("text", "value"), [("true", True), ("No", False), ("1", True), ("off", False), (True, True)])
def test_r51_a_boolean_has_several_words(text, value):
    """As people write them."""
    assert convert("b", {"type": "boolean"}, text) is value


@pytest.mark.parametrize(("spec", "value", "phrase"), [
    ({"type": "integer"}, "1.5", "must be an integer"),
    ({"type": "integer"}, True, "must be an integer"),
    ({"type": "float"}, "much", "must be a float"),
    ({"type": "boolean"}, "maybe", "must be a boolean"),
    ({"type": "string"}, {"a": 1}, "must be a string"),
    ({"type": "string", "choices": ["a", "b"]}, "c", "cannot be 'c'"),
    ({"type": "float", "minimum": 0}, "-1", "its minimum is 0"),
    ({"type": "integer", "maximum": 9}, 10, "its maximum is 9"),
])
def test_r51_a_value_that_does_not_fit_is_refused(spec, value, phrase):
    """The message names the parameter and what it takes."""
    with pytest.raises(Invalid, match=f"the parameter p .*{phrase}"):
        convert("p", spec, value)
