"""Messages of the Seldon protocol as rows, predictions as arrays."""

from __future__ import annotations

import pytest

from fuseml_seldon.messages import MessageError, rectangle, rows_of


@pytest.mark.parametrize(("message", "rows"), [
    ({"data": {"ndarray": [[1, "a", None]]}}, [[1, "a", None]]),
    ({"data": {"ndarray": [1.5, 2]}}, [1.5, 2]),
    ({"data": {"names": [], "ndarray": [[1]]}, "meta": {"puid": "x"}}, [[1]]),
    ({"data": {"names": ["a", "b"], "ndarray": [[1, 2], [3, 4]]}},
     {"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2], [3, 4]]}}),
    ({"data": {"tensor": {"shape": [2, 3], "values": [1, 2, 3, 4, 5, 6]}}}, [[1, 2, 3], [4, 5, 6]]),
    ({"data": {"tensor": {"shape": [1, 2, 2], "values": [1, 2, 3, 4]}}}, [[[1, 2], [3, 4]]]),
    ({"data": {"tensor": {"values": [1, 2]}}}, [1, 2]),
    ({"data": {"names": ["a"], "tensor": {"shape": [2, 1], "values": [1, 2]}}},
     {"dataframe_split": {"columns": ["a"], "data": [[1], [2]]}}),
    ({"jsonData": {"instances": [1]}}, {"instances": [1]}),
    ({"jsonData": [[1]]}, [[1]]),
    ({"strData": "a text"}, ["a text"]),
    ([[1, 2]], [[1, 2]]),
    ({"columns": ["a"], "data": [[1]]}, {"columns": ["a"], "data": [[1]]}),
    ({"instances": [1]}, {"instances": [1]}),
])
def test_r9_what_a_message_asks_for(message, rows):
    assert rows_of(message) == rows


@pytest.mark.parametrize(("message", "words"), [
    (1, "must be an object"),
    (None, "must be an object"),
    ({}, "nothing to predict from"),
    ({"data": []}, "nothing to predict from"),
    ({"binData": "eA=="}, "no binData"),
    ({"customData": {}}, "no customData"),
    ({"data": {}}, "ndarray, a list of rows, or tensor"),
    ({"data": {"tftensor": {}}}, "ndarray, a list of rows, or tensor"),
    ({"data": {"ndarray": []}}, "no rows"),
    ({"data": {"ndarray": 3}}, "must be a list of rows"),
    ({"data": {"ndarray": [[1]], "names": "a"}}, "names must be a list"),
    ({"data": {"ndarray": [[1]], "names": [1]}}, "names must be a list"),
    ({"data": {"ndarray": [[1], 2], "names": ["a"]}}, "1 names"),
    ({"data": {"ndarray": [[1, 2]], "names": ["a"]}}, "1 names"),
    ({"data": {"tensor": 1}}, "shape and values"),
    ({"data": {"tensor": {"shape": [2, 2], "values": [1]}}}, "wants 4 values, got 1"),
    ({"data": {"tensor": {"shape": [-1], "values": [1]}}}, "positive whole numbers"),
    ({"data": {"tensor": {"shape": [True], "values": [1]}}}, "positive whole numbers"),
    ({"data": {"tensor": {"shape": [], "values": []}}}, "no rows"),
])
def test_what_is_wrong_with_a_message(message, words):
    with pytest.raises(MessageError, match=words):
        rows_of(message)


@pytest.mark.parametrize(("predictions", "table"), [
    ([1.0, 2.0], ([1.0, 2.0], [])),
    ([[0.1, 0.9], [0.4, 0.6]], ([[0.1, 0.9], [0.4, 0.6]], [])),
    ([{"a": 1, "b": "x"}], ([[1, "x"]], ["a", "b"])),
    ([None, 1.0], ([None, 1.0], [])),
    ([], ([], [])),
    ([[1], [2, 3]], None),
    ([[1], 2], None),
    ([{"a": 1}, {"b": 1}], None),
    ([{"a": {"deep": 1}}], None),
    ([{"a": [1, 2]}], None),
    ({"a": [1]}, None),
    ("text", None),
])
def test_predictions_that_are_an_array_and_those_that_are_none(predictions, table):
    assert rectangle(predictions) == table
