"""Deprecations: authors are warned while there is time, and no release forgets to remove what it announced."""

from __future__ import annotations

import warnings
from datetime import date

import pluggy
import pytest
from pydantic import BaseModel, Field

from fuseml_sdk import PROJECT, __version__, deprecations, hookimpl, loading
from fuseml_sdk.deprecations import CONTRACT, DeprecatedInContract, Deprecations, RemovalDue
from fuseml_sdk.errors import Permanent
from fuseml_sdk.serve.application import Application
from fuseml_sdk.serve.configuration import Configuration
from fuseml_sdk.serve.wire import Request

TERMS = {"since": "0.3", "announced": "2027-01-15", "removed_in": "0.5", "instead": "`pages`"}


@pytest.fixture
def specs():
    """A contract of its own, in which a hook and an argument go away."""
    kept = Deprecations("0.4.1")

    class Specs:
        @pluggy.HookspecMarker(PROJECT)(warn_on_impl=kept.hook("store_old", **TERMS))
        def store_old(self, a):
            """Go away."""

        @pluggy.HookspecMarker(PROJECT)(warn_on_impl_args={**kept.argument("store_new", "a", **TERMS),
                                                           **kept.argument("store_new", "b", **TERMS)})
        def store_new(self, a, b, c):
            """Stay."""

    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(Specs)
    return manager


class Old:
    @hookimpl
    def store_old(self):
        return 1

    @hookimpl
    def store_new(self, b, c):
        return 2


class New:
    @hookimpl
    def store_new(self, c):
        return 2


def test_r134_a_plugin_that_uses_what_goes_away_is_warned_when_it_is_loaded(specs):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        specs.register(Old())
    assert [type(each.message) for each in caught] == [DeprecatedInContract] * 2
    assert caught[0].filename == __file__
    assert sorted(str(each.message) for each in caught)[1] == (
        "the hook `store_old` is deprecated since 0.3 (2027-01-15) and is removed in 0.5, not before 2027-07-14; "
        "use `pages` instead")


def test_what_a_plugin_uses_is_read_without_catching_warnings(specs):
    old, new = Old(), New()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        specs.register(old)
    specs.register(new)
    assert [notice.what for notice in deprecations.used_by(specs, old)] == [
        "the argument `b` of `store_new`", "the hook `store_old`"]
    assert deprecations.used_by(specs, new) == []


def test_a_plugin_that_uses_nothing_old_is_not_warned(specs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        specs.register(New())


def test_authors_can_make_the_warning_an_error(specs):
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecatedInContract)
        with pytest.raises(DeprecatedInContract, match="is deprecated since"):
            specs.register(Old())


@pytest.mark.parametrize("version", ["0.5", "0.5.0", "0.5.1", "1.0"])
def test_a_removal_that_is_due_is_an_error(version):
    with pytest.raises(RemovalDue, match=r"the hook `store_old` is to be removed in 0\.5, and this is"):
        Deprecations(version).hook("store_old", **TERMS)


def test_what_is_deprecated_stays_for_a_version_at_least():
    with pytest.raises(ValueError, match=r"would be removed in 0\.3"):
        Deprecations("0.3").notice("x", since="0.3", announced="2027-01-15", removed_in="0.3")


def test_a_field_and_a_command_get_the_same_text():
    kept = Deprecations("0.3.0")

    class Model(BaseModel):
        old: int = Field(1, deprecated=kept.field("Model", "old", **TERMS))

    with pytest.warns(DeprecationWarning, match=r"the field `Model.old` is deprecated since 0\.3"):
        assert Model().old == 1
    assert Model.model_json_schema()["properties"]["old"]["deprecated"] is True
    assert kept.notice("the option `--tree`", **TERMS).text.startswith("the option `--tree` is deprecated since 0.3")
    assert len(kept.notices) == 2


@pytest.mark.parametrize("argument", ["", "depth"])
def test_who_still_has_what_was_removed_is_told_what_to_do(monkeypatch, argument):
    kept = Deprecations("0.5.0")
    hook = "store_get" if argument else "store_ui"
    kept.removed(hook, argument, **TERMS)
    monkeypatch.setattr(deprecations, "CONTRACT", kept)

    class Plugin:
        @hookimpl
        def store_get(self, ref, **_):
            return None

    if argument:
        Plugin.store_get = hookimpl(lambda self, ref, depth: None)
    else:
        Plugin.store_ui = hookimpl(lambda self: "")
    with pytest.raises(Permanent) as caught:
        loading.manager_for(Plugin())
    assert "was deprecated in 0.3 (2027-01-15) and was removed in 0.5; use `pages` instead." in caught.value.hint


def test_a_removal_before_the_promised_day_is_found():
    kept = Deprecations("0.5.0")
    kept.removed("store_old", **TERMS)
    assert [n.what for n in kept.too_early(date(2027, 7, 13))] == ["the hook `store_old`"]
    assert kept.too_early(date(2027, 7, 14)) == []
    assert Deprecations("0.6.0", gone=kept.gone).too_early(date(2027, 1, 20)) == []


def test_nothing_was_removed_from_the_contract_too_early():
    assert CONTRACT.version == __version__
    assert CONTRACT.too_early(date.today()) == []


def test_the_served_plugin_says_what_it_uses(tmp_path, monkeypatch):
    module = tmp_path / "plugin_with_nothing_old.py"
    module.write_text("from fuseml_sdk import hookimpl\n\n\nclass Plugin:\n    @hookimpl\n"
                      "    def builder_describe(self):\n        return {'name': 'x', 'types': []}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    application = Application("plugin_with_nothing_old:Plugin", Configuration({}, str(tmp_path), 1.0))
    answer = application.respond(Request("GET", "/v1/describe", {}, b""))
    assert b'"deprecations": []' in answer.body
    notice = CONTRACT.__class__("0.3").notice("the hook `builder_describe`", **TERMS)
    monkeypatch.setattr(deprecations, "used_by", lambda *_: [notice])
    answer = application.respond(Request("GET", "/v1/describe", {}, b""))
    assert b"is deprecated since 0.3 (2027-01-15)" in answer.body
