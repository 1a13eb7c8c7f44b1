"""What an extension's schema makes of settings, and what it says about wrong ones."""

from __future__ import annotations

import pytest

from fuseml_core.domain.errors import Invalid
from fuseml_core.service.extensions.schema import SettingsSchema

SCHEMA = {
    "type": "object", "additionalProperties": False, "required": ["url"],
    "properties": {
        "url": {"type": "string", "pattern": "^https?://", "description": "Where it is."},
        "retries": {"type": "integer", "minimum": 0, "maximum": 9},
        "ratio": {"type": "number"}, "strict": {"type": "boolean"}, "hosts": {"type": "array", "items": {"type": "string"}},
        "proxy": {"anyOf": [{"type": "string"}, {"type": "null"}]}, "level": {"enum": ["low", "high", 3]},
        "token": {"type": "string", "writeOnly": True, "minLength": 8},
        "login": {"$ref": "#/$defs/Login"},
    },
    "$defs": {"Login": {"type": "object", "properties": {"password": {"type": "string", "writeOnly": True}}}},
}


@pytest.fixture
def schema() -> SettingsSchema:
    return SettingsSchema("toy", SCHEMA)


@pytest.mark.parametrize(("key", "text", "value"), [
    ("url", "http://x", "http://x"), ("retries", "8", 8), ("ratio", "0.5", 0.5), ("strict", "yes", True),
    ("strict", "0", False), ("hosts", '["a", "b"]', ["a", "b"]), ("proxy", "5", "5"), ("level", "low", "low"),
    ("level", "3", 3), ("retries", 2, 2)])
def test_text_becomes_what_the_schema_asks_for(schema, key, text, value):
    assert schema.typed(key, text) == value
    assert type(schema.typed(key, text)) is type(value)


@pytest.mark.parametrize(("key", "value", "problem"), [
    ("url", "ftp://x", "'ftp://x' does not match"), ("retries", "many", "'many' is not of type 'integer'"),
    ("retries", "99", "99 is greater than the maximum of 9"), ("ratio", "NaN", "'NaN' is not of type 'number'"),
    ("hosts", "a,b", "'a,b' is not of type 'array'"), ("level", "middle", "'middle' is not one of")])
def test_an_error_names_the_key_the_problem_and_the_settings_there_are(schema, key, value, problem):
    with pytest.raises(Invalid) as caught:
        schema.typed(key, value)
    assert f"the setting {key!r} of the extension toy: {problem}" in caught.value.message
    assert "Settings of toy: hosts, level, login, proxy, ratio, retries, strict, token, url" in caught.value.hint


def test_an_unknown_setting_is_refused_with_those_there_are(schema):
    with pytest.raises(Invalid, match="the extension toy has no setting 'uri'") as caught:
        schema.typed("uri", "http://x")
    assert "url" in caught.value.hint
    with pytest.raises(Invalid, match="has no setting") as caught:
        SettingsSchema("bare", {}).typed("anything", "1")
    assert caught.value.hint == "Settings of bare: none."


def test_settings_are_checked_together(schema):
    schema.check({"url": "http://x", "retries": 1})
    with pytest.raises(Invalid, match="needs the setting 'url'"):
        schema.check({"retries": 1})


def test_a_secret_is_shown_as_stars_and_never_repeated_in_an_error(schema):
    assert schema.secrets == {"token", "login"}
    assert schema.shown({"url": "http://x", "token": "abcdefgh", "gone": 1}) == {
        "url": "http://x", "token": "***", "gone": "***"}
    for key, secret in (("token", "hunter2"), ("login", "hunter2"), ("token", {"a": "hunter2"})):
        with pytest.raises(Invalid) as caught:
            schema.typed(key, secret)
        assert "hunter2" not in str(caught.value) + repr(caught.value.details)
        assert f"{key!r} of the extension toy: its value, a secret, breaks the rule" in caught.value.message


def test_a_version_takes_what_it_knows_and_says_why_not_the_rest(schema):
    taken, ignored = schema.usable({"url": "http://x", "retries": 99, "colour": "red"})
    assert taken == {"url": "http://x"}
    assert ignored["colour"] == "this version has no such setting"
    assert "99 is greater" in ignored["retries"]
