"""R134: exemptions, levels and reports of the kit, and its checker of schemas against a whole one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.testing import Exemptions, InProcessHost, Outcome, Suite, all_rules, read_baseline
from fuseml_sdk.testing.hosts import host_named
from fuseml_sdk.testing.reports import level_of, scorecard
from fuseml_sdk.testing.schemas import misfits, published

KIT = Path(__file__).parent / "kit"
sys.path.insert(0, str(KIT))
RULES = {rule.id: rule for rule in all_rules()}
NAMES = st.sampled_from(["kit", "ü", ""])
VALUES = st.recursive(st.none() | st.booleans() | st.integers(-2, 9) | NAMES,
                      lambda inner: st.lists(inner, max_size=3), max_leaves=4)


def outcome(rule, kind, host="subprocess"):
    return Outcome(RULES[rule], host, kind, "because")


def test_ids_and_test_names_are_unique_and_every_rule_says_everything():
    assert len(RULES) == len(all_rules())
    assert len({rule.name for rule in RULES.values()}) == len(RULES)
    for rule in RULES.values():
        assert rule.title.endswith(".")
        assert rule.why.endswith(".")
        assert rule.fix.endswith(".")


def test_every_rule_has_its_heading_in_the_reference():
    page = (Path(__file__).parents[3] / "docs/reference/conformance-rules.md").read_text()
    for rule in RULES.values():
        assert f"## {rule.id}\n\n**{rule.title}**" in page


@pytest.mark.parametrize(("text", "why"), [
    ("[exempt]\nXX01 = 'a reason that is long enough'", "does not exist"),
    ("[exempt]\nST05 = 'no'", "has no reason"),
    ("exempt = 1", "not a baseline"),
    ("[other]", "not a baseline"),
    ("[exempt", "not valid TOML"),
])
def test_a_baseline_that_says_nothing_is_refused(tmp_path, text, why):
    (tmp_path / "conformance.toml").write_text(text)
    with pytest.raises(InvalidInput, match=why):
        read_baseline(tmp_path / "conformance.toml")


@pytest.mark.parametrize(("plugin", "host", "kind"), [
    ("BU01", "", "exempt"), ("Builder", "", "stale"), ("BU01", "/in-process", "exempt"), ("BU01", "/asgi", "failed")])
def test_an_exemption_holds_in_its_host_and_only_while_the_rule_fails(plugin, host, kind):
    exemptions = Exemptions({f"BU01{host}": "The back-end has no name."})
    suite = Suite([InProcessHost(f"kit_builder:{plugin}")], exemptions=exemptions)
    try:
        found = suite.check(RULES["BU01"], suite.hosts[0])
    finally:
        suite.close()
    assert found.kind == kind
    assert found.bad == (kind in ("failed", "stale"))


@pytest.mark.parametrize(("outcomes", "level"), [
    ([], "none"),
    ([outcome("CORE01", "failed")], "none"),
    ([outcome("CORE01", "passed"), outcome("CORE07", "failed")], "bronze"),
    ([outcome("CORE01", "passed"), outcome("CORE38", "stale")], "silver"),
    ([outcome("CORE01", "passed"), outcome("CORE07", "exempt")], "gold"),
    ([outcome("CORE01", "passed"), outcome("CORE01", "passed", "in-process")], "platinum"),
    ([outcome("CORE01", "exempt"), outcome("CORE01", "passed", "in-process")], "gold"),
])
def test_the_level_is_computed(outcomes, level):
    assert level_of(outcomes) == level


def test_the_scorecard_keeps_the_worst_of_all_hosts_and_the_lowest_level():
    first, second, other = (checked(hosts) for hosts in ("subprocess", "asgi", "subprocess"))
    second.outcomes[:] = [replace(each, kind="failed", text="because") if each.rule.id == "CORE07" else each
                          for each in second.outcomes]
    card = scorecard([("a:A", first), ("a:A", second), ("b:B", other)], wheels={"a.whl": "sha256:1"})
    assert (card["level"], [each["level"] for each in card["plugins"]]) == ("bronze", ["bronze", "gold"])
    found = {each["id"]: (each["outcome"], each["reason"], each["hosts"]) for each in card["checks"]
             if each["plugin"] == "a:A"}
    assert found["CORE01"] == ("passed", "", {"subprocess": "passed", "asgi": "passed"})
    assert found["CORE07"] == ("failed", "because", {"subprocess": "passed", "asgi": "failed"})
    assert card["wheels"] == {"a.whl": "sha256:1"}


def checked(host):
    """A suite of a builder whose rules all passed in a host."""
    suite = Suite([host_named(host, "kit_builder:Builder")], families=["builder"])
    suite.outcomes += [outcome(rule.id, "passed", host) for rule, _ in suite.pairs()]
    return suite


@pytest.mark.parametrize(("left", "level"), [("CORE01", "none"), ("CORE07", "bronze"), ("CORE38", "silver")])
def test_what_was_not_checked_is_not_reached(left, level):
    suite = checked("subprocess")
    suite.outcomes[:] = [each for each in suite.outcomes if each.rule.id != left]
    about, = scorecard([("a:A", suite)])["plugins"]
    assert (about["level"], about["unchecked"]) == (level, 1)


def test_a_selection_of_tests_earns_no_level(tmp_path):
    (tmp_path / "test_kit.py").write_text("from fuseml_sdk.testing import conformance\n"
                                          "TestKit = conformance('kit_builder:Builder', hosts=['in-process'])\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "bu01", "--fuseml-scorecard", "card.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120,
                          env={**os.environ, "PYTHONPATH": str(KIT)})
    assert done.returncode == 0, done.stdout
    card = json.loads((tmp_path / "card.json").read_text())
    assert (card["level"], card["plugins"][0]["passed"]) == ("none", 1)


def test_the_command_writes_reports_and_fails_with_the_plugin(tmp_path):
    command = [sys.executable, "-m", "fuseml_sdk.testing", "kit_builder:BU01", "--host", "in-process",
               "--report", str(tmp_path / "card.json"), "--junit", str(tmp_path / "junit.xml")]
    done = subprocess.run(command, cwd=KIT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "FAILED  BU01" in done.stdout
    assert json.loads((tmp_path / "card.json").read_text())["level"] == "none"
    suite, = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert suite.get("failures") == "1"
    assert "BU01" in suite.find("testcase/failure").text
    assert subprocess.run([*command[:3], "kit_builder:Builder", "--address", "unix:/x"], cwd=KIT, capture_output=True,
                          timeout=60).returncode == 2
    for address, why in (("ftp://x", "is not an address"), ("unix:/nowhere", "nobody answers")):
        broken = subprocess.run([*command[:3], "--address", address], capture_output=True, text=True, timeout=60)
        assert broken.returncode == 2
        assert why in broken.stderr


@given(st.fixed_dictionaries({}, optional={
    "name": VALUES, "types": VALUES, "reads": VALUES, "makes": VALUES, "concurrency": VALUES}))
def test_the_checker_of_schemas_agrees_with_a_whole_one(document):
    schema = published("builder_describe")["result"]
    assert bool(misfits(document, schema)) == (not jsonschema.Draft202012Validator(schema).is_valid(document))


def test_unknown_fields_and_broken_limits_are_told():
    schema = published("builder_describe")["result"]
    good = {"name": "n", "types": [], "reads": [], "makes": [], "concurrency": 1}
    assert misfits(good, schema) == []
    assert misfits({**good, "x": 1}, schema) == ["result has a field 'x' that the contract does not know"]
    assert "minimum" in misfits({**good, "concurrency": 0}, schema)[0]
    nested = published("store_search")["result"]
    assert "result.items[0] has a field 'x'" in misfits(
        {"items": [{"kind": "k", "project": "p", "name": "n", "digest": "d", "x": 1}], "cursor": ""}, nested)[-1]
