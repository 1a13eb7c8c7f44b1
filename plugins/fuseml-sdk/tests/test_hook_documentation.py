"""Every hook is documented whole, and its example runs and is a plugin that fits the contract."""

from __future__ import annotations

import doctest
import fnmatch
import hashlib
import inspect
import pathlib
import tempfile
import time
import urllib.parse

import pytest

from fuseml_sdk import deprecations, documentation, errors, hookimpl, loading, types
from fuseml_sdk.documentation import HookText, code_name, hook_texts, type_name, types_used

TEXTS = hook_texts()
#: What examples may use without importing it; the pages say so.
NAMES = {"hookimpl": hookimpl, "tempfile": tempfile, "time": time, "Path": pathlib.Path, "sha256": hashlib.sha256,
         "fnmatch": fnmatch.fnmatch, "quote": urllib.parse.quote,
         **{name: getattr(types, name) for name in types.__all__},
         **{name: getattr(errors, name) for name in errors.__all__}}


@pytest.mark.parametrize("hook", TEXTS)
def test_r134_a_hook_says_what_it_is_for_and_what_it_takes_gives_and_raises(hook):
    text = TEXTS[hook]
    assert text.summary.endswith("."), text.summary
    assert set(text.arguments) == {p.name for p in text.operation.parameters}
    assert bool(text.returns) == (not text.operation.returns_nothing)
    assert all(hasattr(errors, name) for name in text.raises)
    assert all(meaning.endswith(".") for meaning in (*text.arguments.values(), *text.raises.values()))
    assert text.example


@pytest.mark.parametrize("hook", TEXTS)
def test_r134_the_example_of_a_hook_runs_and_fits_the_contract(hook, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "mkdtemp", lambda: str(tmp_path))
    example = doctest.DocTestParser().get_doctest(TEXTS[hook].example, dict(NAMES), hook, None, None)
    said = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    results = runner.run(example, out=said.append, clear_globs=False)
    assert results.attempted >= 2
    assert results.failed == 0, "".join(said)
    plugins = [each for each in example.globs.values() if inspect.isclass(each) and hasattr(each, hook)
               and each not in NAMES.values()]
    assert len(plugins) == 1
    assert loading.implemented(loading.manager_for(plugins[0]())) == [hook]


@pytest.mark.parametrize("hook", ["store_get", "agent_logs", "builder_detect"])
def test_an_example_that_is_wrong_is_found(hook):
    broken = TEXTS[hook].example.replace("sha256:2", "sha256:3", 1).replace("epoch 2'", "epoch 9'").replace(
        "'make-project'", "'other'")
    example = doctest.DocTestParser().get_doctest(broken, dict(NAMES), hook, None, None)
    assert doctest.DocTestRunner().run(example, out=lambda _: None).failed


@pytest.mark.parametrize("name", types_used())
def test_every_field_explains_itself_or_is_explained(name):
    """By its name and type, which is enough for these; everything else has a description."""
    plain = {"name", "kind", "project", "digest", "labels", "metadata", "files", "size", "env", "runnable", "inputs",
             "outputs", "parameters", "resources", "environment", "description", "items", "events", "runnables",
             "warnings", "statuses", "location", "path", "api_version", "uri", "text"}
    bare = [field for field, info in types_used()[name].model_fields.items()
            if not info.description and field not in plain]
    assert bare == []


def test_types_are_written_as_in_code_and_in_words():
    assert code_name(list[types.WorkloadStatus]) == "list[WorkloadStatus]"
    assert code_name(dict[str, str]) == "dict[str, str]"
    assert code_name(type(None)) == "None"
    assert type_name(list[types.WorkloadStatus]) == "list of WorkloadStatus"
    assert type_name(str | None) == "string"
    assert TEXTS["store_files"].signature == (
        "store_files(ref: ArtifactRef, read: list[str], max_bytes: int) -> FileListing")
    assert TEXTS["fuseml_shutdown"].signature == "fuseml_shutdown() -> None"


def test_deprecations_of_a_hook_are_part_of_its_documentation():
    kept = deprecations.Deprecations("0.3")
    terms = {"since": "0.3", "announced": "2027-01-15", "removed_in": "0.5"}

    def hook():
        """Do it."""

    hook.fuseml_spec = {"warn_on_impl": kept.hook("store_old", **terms),
                        "warn_on_impl_args": kept.argument("store_old", "a", **terms)}
    assert [notice.what for notice in documentation._notices(hook)] == [
        "the hook `store_old`", "the argument `a` of `store_old`"]
    assert HookText(TEXTS["store_get"].operation, "x").notices == ()


@pytest.mark.parametrize("hook", TEXTS)
def test_the_example_is_a_program_too(hook):
    code = TEXTS[hook].code
    compile(code, hook, "exec")
    assert ">>>" not in code
    assert "\n\n" in code
