"""Errors on the wire come back as what they were."""

from __future__ import annotations

import json

import pytest
from pydantic import BaseModel, Field, ValidationError

from fuseml_sdk.errors import BY_TYPE, Internal
from fuseml_sdk.problems import from_problem, to_problem, unexpected


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


def test_r134_halves_of_surrogate_pairs_go_no_further_than_the_error():
    back = from_problem(json.loads('{"type": "permanent", "detail": "\\udc80 x", "hint": "\\ud800", '
                                   '"details": {"file": ["\\udcff"]}}'))
    assert (back.message, back.hint, back.details) == ("? x", "?", {"file": ["?"]})
    assert str(Internal("no file caf\udce9")) == "no file caf?"


def test_r134_an_error_of_validation_does_not_quote_the_secret_that_is_wrong():
    class Settings(BaseModel):
        token: str = Field(max_length=3)

    with pytest.raises(ValidationError) as caught:
        Settings(token="hunter2-secret")
    told = unexpected(caught.value)
    assert "hunter2" not in str(told.message)
    assert "token: String should have at most 3 characters" in told.message
