"""What authors are told about a plugin that does not fit, or does not start."""

from __future__ import annotations

import sys

import pytest

from fuseml_sdk import hookimpl, loading
from fuseml_sdk.errors import Permanent
from fuseml_sdk.serve.application import Application
from fuseml_sdk.serve.configuration import Configuration


def test_a_misspelt_hook_is_named_with_its_place_and_the_one_that_is_meant():
    class Plugin:
        @hookimpl
        def store_descripe(self):
            return None

        @hookimpl
        def agent_teleport_everything(self):
            return None

    with pytest.raises(Permanent) as caught:
        loading.manager_for(Plugin())
    line = Plugin.store_descripe.__code__.co_firstlineno
    where = f"tests/test_misfits.py, line {line}"
    assert f"no hook store_descripe; store_describe is meant, perhaps ({where})" in caught.value.message
    assert "there is no hook agent_teleport_everything" in caught.value.message, "all of them at once"
    assert "object at 0x" not in caught.value.message
    assert "fuseml plugin contract show" in caught.value.hint


def test_an_argument_that_a_hook_does_not_have_is_named_with_those_it_has():
    class Plugin:
        @hookimpl
        def store_get(self, reference):
            return reference

        @hookimpl
        def store_describe(self, *, colour="red", **more):
            return colour, more

    with pytest.raises(Permanent, match=r"store_get has no argument reference, but ref \(tests/.*, line \d+\)"):
        loading.manager_for(Plugin())


CONFIGURE = """from fuseml_sdk import hookimpl
class Plugin:
    @hookimpl
    def fuseml_configure(self, config):
        raise RuntimeError('boom')
"""


@pytest.mark.parametrize(("code", "message", "hint", "stack"), [
    ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_name'",
     "/broken.py, line 1. Add the package that has it to `dependencies` in pyproject.toml and to the lock", ""),
    ("x = 1\ndef f(:\n", "SyntaxError: ", "/broken.py, line 2.", ""),
    ("import json\n\njson.loads('{')", "JSONDecodeError: ", "/broken.py, line 3. The log has", "in <module>"),
    (CONFIGURE, "RuntimeError: boom", "/broken.py, line 5.", "in fuseml_configure"),
])
def test_what_keeps_a_plugin_from_starting_is_told_with_its_place(tmp_path, monkeypatch, capsys, code, message, hint,
                                                                  stack):
    (tmp_path / "broken.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken", raising=False)
    failure = Application("broken:Plugin", Configuration(config={}, state_dir=str(tmp_path))).failure
    assert failure is not None
    assert failure.message.startswith(message)
    assert hint in failure.hint
    log = capsys.readouterr().err
    assert stack in log
    assert "loading.py" not in log, "the stack begins with the plugin's code"
    assert "_multicall" not in log
