"""Errors on the wire come back as what they were."""

from __future__ import annotations

import json

import pytest

from fuseml_sdk.errors import BY_TYPE, Internal
from fuseml_sdk.problems import from_problem, to_problem


@pytest.mark.parametrize("cls", BY_TYPE.values())
def test_every_class_survives(cls):
    error = cls("what", hint="do", details={"a": [1]})
    back = from_problem(json.loads(json.dumps(to_problem(error))))
    assert type(back) is cls
    assert (back.message, back.hint, back.details) == ("what", "do", {"a": [1]})


def test_other_exceptions_become_internal_with_type_and_message():
    back = from_problem(to_problem(KeyError("x")))
    assert type(back) is Internal
    assert back.message == "KeyError: 'x'"


def test_details_that_are_not_json_become_text():
    assert to_problem(Internal("x", details={"a": {1}}))["details"] == {"a": "{1}"}


@pytest.mark.parametrize("document", [None, [], "x", {}, {"type": "later"}, {"type": 1, "details": 2}])
def test_what_is_not_understood_is_internal(document):
    assert type(from_problem(document)) is Internal


def test_type_may_be_a_uri():
    assert from_problem({"type": "https://example.org/problems/not-found"}).type == "not-found"
