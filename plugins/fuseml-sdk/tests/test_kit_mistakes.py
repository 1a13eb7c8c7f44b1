"""R134: what authors get wrong when they use the kit is said at once, with what to do about it."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import pytest

from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.testing import InProcessHost, Samples, Suite, all_rules, conformance
from fuseml_sdk.testing.classes import address_of

KIT = Path(__file__).parent / "kit"
sys.path.insert(0, str(KIT))


@pytest.mark.parametrize(("given", "why"), [
    ({"exempt": {"BU01/nowhere": "The back-end has no name."}}, "'BU01/nowhere' names a host that does not exist"),
    ({"exempt": {"XX01": "The back-end has no name."}}, "the rule 'XX01', which does not exist"),
    ({"samples": Samples}, "not an object of a class"),
    ({"hosts": ["kubernetes"]}, "there is no host 'kubernetes'"),
])
def test_arguments_that_cannot_be_meant_are_refused(given, why):
    with pytest.raises(InvalidInput, match=why):
        conformance("kit_builder:Builder", **given)


def test_a_configuration_that_is_no_json_is_no_defect_of_the_plugin():
    suite = Suite([InProcessHost("kit_builder:Builder")], config={"names": {"a"}})
    found = suite.check(all_rules()[0], suite.hosts[0])
    assert "the configuration given to the kit is not JSON: Object of type set" in found.text


def test_a_plugin_that_only_this_process_has_is_refused_where_others_start_it(monkeypatch):
    module = types.ModuleType("only_here")
    exec("from kit_builder import Builder\nclass Mine(Builder): pass\nobject = Mine()", vars(module))
    monkeypatch.setitem(sys.modules, "only_here", module)
    assert address_of(module.object) == "only_here:object"
    with pytest.raises(InvalidInput, match="only_here of the plugin is not on the search path of other processes"):
        conformance(module.Mine)
    assert conformance(module.Mine, hosts=["in-process"])


def test_an_object_is_found_in_the_module_that_made_it(monkeypatch):
    module = types.ModuleType("made_elsewhere")
    exec("from kit_builder import Builder\nplugin = Builder()", vars(module))
    monkeypatch.setitem(sys.modules, "made_elsewhere", module)
    assert address_of(module.plugin) == "made_elsewhere:plugin"


def test_a_scorecard_of_a_part_of_the_session_is_refused(tmp_path):
    (tmp_path / "parts.py").write_text("def pytest_addoption(parser):\n"
                                       "    parser.addoption('--parts', dest='numprocesses', type=int)\n")
    done = subprocess.run([sys.executable, "-m", "pytest", "-p", "parts", "--parts", "2", "--fuseml-scorecard", "card.json"],
                          cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 4
    assert "leave -n of pytest-xdist out" in done.stderr
