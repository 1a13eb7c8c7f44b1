"""What changes of the contract mean: every rule by an example, and the gate against the last release."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from fuseml_sdk import __version__, compatibility, contract
from fuseml_sdk.compatibility import RULES, VERDICTS, compare, documents, worst
from fuseml_sdk.documentation import types_used
from fuseml_sdk.errors import InvalidInput, NotFound
from fuseml_sdk.negotiation import PROTOCOLS

#: What was released: the protocol, and the SHA-256 of the file, so that a frozen one that is edited is noticed here.
RELEASED = {"0.1.0": (1, "d316961e445cf174fbab914efca167b570b4fdfc9c7c9f3ee590fbb883ab4003")}


def obj(required=(), **properties):
    return {"type": "object", "title": "Thing", "properties": properties, "required": list(required)}


def doc(arguments=None, result=None, file=None, **hook):
    """A contract with one hook and one file format."""
    arguments = {"type": "object", "title": "store_do_arguments", "properties": {"thing": arguments or obj()},
                 "required": ["thing"]}
    return {"protocol": 1, "hooks": {"store_do": {"family": "store", "route": "/v1/hooks/store_do", "idempotent": True,
                                                  "required": True, "arguments": arguments, "result": result or obj(),
                                                  **hook}},
            "errors": {"internal": {"status": 500, "retryable": False}}, "formats": {"form": file or obj()}}


def verdicts(old, new):
    return [(change.place, change.verdict) for change in compare(old, new)]


TEXT, NUMBER = {"type": "string"}, {"type": "integer"}
A, AB = {"type": "string", "enum": ["a"]}, {"type": "string", "enum": ["a", "b"]}
NULLABLE = {"anyOf": [{"type": "string"}, {"type": "null"}]}

#: Change of a thing: as an argument, as a result, in a file.
CHANGES = {
    "an optional field is added": (obj(), obj(x=TEXT), "compatible", "compatible", "newer-server"),
    "a required field is added": (obj(), obj(["x"], x=TEXT), "incompatible", "incompatible", "incompatible"),
    "a field is removed": (obj(x=TEXT), obj(), "incompatible", "incompatible", "incompatible"),
    "a field becomes required": (obj(x=TEXT), obj(["x"], x=TEXT), "incompatible", "incompatible", "incompatible"),
    "a field becomes optional": (obj(["x"], x=TEXT), obj(x=TEXT), "incompatible", "newer-server", "newer-server"),
    "a member is added": (obj(x=A), obj(x=AB), "incompatible", "newer-server", "newer-server"),
    "a member is removed": (obj(x=AB), obj(x=A), "newer-server", "incompatible", "incompatible"),
    "an enumeration becomes free": (obj(x=A), obj(x=TEXT), "incompatible", "newer-server", "newer-server"),
    "null is allowed": (obj(x=TEXT), obj(x=NULLABLE), "incompatible", "newer-server", "newer-server"),
    "null is refused": (obj(x=NULLABLE), obj(x=TEXT), "newer-server", "incompatible", "incompatible"),
    "fractions are allowed": (obj(x=NUMBER), obj(x={"type": "number"}), "incompatible", "newer-server", "newer-server"),
    "a lower bound rises": (obj(x={**NUMBER, "minimum": 0}), obj(x={**NUMBER, "minimum": 1}),
                            "newer-server", "incompatible", "incompatible"),
    "an upper bound goes": (obj(x={**NUMBER, "maximum": 9}), obj(x=NUMBER), "incompatible", "newer-server",
                            "newer-server"),
    "the default changes": (obj(x={**TEXT, "default": "a"}), obj(x={**TEXT, "default": "b"}),
                            "incompatible", "incompatible", "incompatible"),
    "the default goes from false to 0": (obj(x={"default": False}), obj(x={"default": 0}),
                                         "incompatible", "incompatible", "incompatible"),
    "entries change": (obj(x={"type": "array", "items": A}), obj(x={"type": "array", "items": AB}),
                       "incompatible", "newer-server", "newer-server"),
    "values of a map change": (obj(x={"type": "object", "additionalProperties": NUMBER}),
                               obj(x={"type": "object", "additionalProperties": {"type": "number"}}),
                               "incompatible", "newer-server", "newer-server"),
    "anything is allowed": (obj(x=TEXT), obj(x={}), "incompatible", "newer-server", "newer-server"),
    "a pattern comes": (obj(x=TEXT), obj(x={**TEXT, "pattern": "^a"}), "newer-server", "incompatible", "incompatible"),
    "unknown fields are refused": (obj(), {**obj(), "additionalProperties": False},
                                   "newer-server", "incompatible", "incompatible"),
    "another keyword is there": (obj(x=NUMBER), obj(x={**NUMBER, "multipleOf": 2}),
                                 "newer-server", "incompatible", "incompatible"),
}
PLACES = {"arguments": "arguments", "result": "result", "file": "file"}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("flow", PLACES)
def test_r164_the_direction_decides_what_a_change_means(name, flow):
    old, new, *wanted = CHANGES[name]
    found = compare(doc(**{flow: old}), doc(**{flow: new}))
    assert [change.verdict for change in found] == [wanted[list(PLACES).index(flow)]], found
    assert found[0].flow == flow
    assert found[0].hooks == (() if flow == "file" else ("store_do",))
    assert found[0].place.startswith("Thing")


@pytest.mark.parametrize("flow", PLACES)
def test_another_pattern_is_never_harmless(flow):
    old, new = (obj(x={**TEXT, "pattern": pattern}) for pattern in ("^a$", "^b$"))
    assert worst(compare(doc(**{flow: old}), doc(**{flow: new}))) == "incompatible"


@pytest.mark.parametrize(("old", "new", "verdict"), [
    ({}, {"idempotent": False}, "incompatible"), ({"idempotent": False}, {}, "incompatible"),
    ({}, {"required": False}, "newer-server"), ({"required": False}, {}, "incompatible"),
    ({}, {"route": "/v1/hooks/other"}, "incompatible")])
def test_what_is_true_of_a_hook_as_a_whole(old, new, verdict):
    assert verdicts(doc(**old), doc(**new)) == [("store_do", verdict)]


@pytest.mark.parametrize(("required", "verdict"), [(True, "incompatible"), (False, "compatible")])
def test_a_hook_is_added_or_removed(required, verdict):
    old = doc()
    new = copy.deepcopy(old)
    new["hooks"]["store_more"] = {**old["hooks"]["store_do"], "required": required}
    assert verdicts(old, new) == [("store_more", verdict)]
    assert verdicts(new, old) == [("store_more", "incompatible")]


def test_an_argument_of_a_hook_is_named_as_in_a_call():
    old, new = doc(), doc()
    new["hooks"]["store_do"]["arguments"]["properties"]["depth"] = {**NUMBER, "default": 1}
    assert verdicts(old, new) == [("store_do(depth)", "compatible")]
    new["hooks"]["store_do"]["arguments"]["required"].append("depth")
    assert verdicts(old, new) == [("store_do(depth)", "incompatible")]


def test_errors_and_file_formats_belong_to_the_contract():
    old, new = doc(), doc()
    new["errors"] = {"internal": {"status": 500, "retryable": True}, "busy": {"status": 503, "retryable": True}}
    new["formats"]["other"] = obj()
    assert verdicts(old, new) == [("error internal", "incompatible"), ("error busy", "newer-server"),
                                  ("file other", "compatible")]
    assert worst(compare(new, old)) == "incompatible"


def test_a_new_protocol_is_said():
    assert verdicts(doc(), {**doc(), "protocol": 2}) == [("protocol", "incompatible")]


def test_one_change_of_a_type_that_several_hooks_use_is_one_change():
    old = compatibility.current()
    new = copy.deepcopy(old)
    for hook in new["hooks"].values():
        for flow in ("arguments", "result"):
            shapes = [hook[flow], *(hook[flow].get("$defs") or {}).values()]
            for shape in (s for s in shapes if s.get("title") == "WorkloadStatus"):
                shape["properties"]["state"]["enum"].append("paused")
    (change,) = compare(old, new)
    assert (change.place, change.verdict) == ("WorkloadStatus.state", "newer-server")
    assert set(change.hooks) == {"agent_submit", "agent_status", "agent_events", "agent_cancel"}
    assert "may be `paused` now" in str(change)


def test_types_that_contain_themselves_end():
    tree = {"type": "object", "title": "Thing", "properties": {"sub": {"$ref": "#/$defs/Tree"}},
            "$defs": {"Tree": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Tree"}, "x": A}}}}
    other = json.loads(json.dumps(tree).replace('["a"]', '["a", "b"]'))
    old, new = doc(), doc()
    old["hooks"]["store_do"]["result"], new["hooks"]["store_do"]["result"] = tree, other
    assert verdicts(old, new) == [("Tree.x", "newer-server")]


def test_r164_nothing_incompatible_since_the_last_release_without_a_new_protocol():
    """The gate: change the code back, or raise `PROTOCOL` and keep speaking the old one."""
    old, new = compatibility.baseline(), compatibility.current()
    changes = compare(old, new)
    bad = [str(change) for change in changes if change.verdict == "incompatible"]
    if new["protocol"] == old["protocol"]:
        assert bad == [], "\n".join(bad)
    assert old["protocol"] in PROTOCOLS, "the protocol that installed plugins speak is spoken for another year"


def test_r164_no_check_hides_from_the_comparison():
    """A validator refuses what fitted before without a change of any schema, so that the gate would not see it come."""
    released = {("RunnableDescriptor", "_names_are_unique")}
    found = set()
    for name, model in types_used().items():
        kept = model.__pydantic_decorators__
        found |= {(name, check) for check in (*kept.field_validators, *kept.model_validators, *kept.validators,
                                              *kept.root_validators)}
        found |= {(name, field) for field, info in model.model_fields.items() for each in info.metadata
                  if type(each).__name__.endswith("Validator")}
    assert found == released, "express it in the schema, or check it where the value is used"


def test_the_gate_refuses_what_breaks_installed_plugins():
    """With real hooks: the same comparison finds an argument without a default and a hook that went away."""
    old = compatibility.baseline()
    new = copy.deepcopy(old)
    arguments = new["hooks"]["store_files"]["arguments"]
    arguments["properties"]["depth"] = {"type": "integer"}
    arguments["required"].append("depth")
    del new["hooks"]["agent_logs"]
    bad = {change.place for change in compare(old, new) if change.verdict == "incompatible"}
    assert bad == {"store_files(depth)", "agent_logs"}


def test_what_was_released_is_not_changed():
    kept = compatibility.releases()
    assert set(kept) == set(RELEASED), "a release is added here, too, and never edited"
    for version, document in kept.items():
        assert document["sdk_version"] == version
        written = documents.RELEASED.joinpath(f"{version}.json").read_bytes()
        assert (document["protocol"], hashlib.sha256(written).hexdigest()) == RELEASED[version]
        assert written.decode() == contract.render(document)


def test_writing_the_schemas_does_not_move_the_baseline(tmp_path, monkeypatch):
    monkeypatch.setattr(contract, "SCHEMAS", tmp_path / "schemas" / "v1")
    monkeypatch.setattr(documents, "RELEASED", tmp_path / "schemas" / "released")
    assert contract.main(["--write"]) == 0
    assert not documents.RELEASED.exists()
    with pytest.raises(NotFound, match="no contract was released"):
        compatibility.baseline()
    assert contract.main(["--release"]) == 0
    assert compatibility.baseline()["sdk_version"] == __version__


def test_a_version_is_released_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(documents, "RELEASED", tmp_path)
    assert contract.main(["--release"]) == 0
    text = (tmp_path / f"{__version__}.json").read_text()
    assert contract.main(["--release"]) == 1
    assert "frozen" in capsys.readouterr().err
    assert (tmp_path / f"{__version__}.json").read_text() == text


def test_what_differs_is_not_released(tmp_path, monkeypatch):
    monkeypatch.setattr(contract, "SCHEMAS", tmp_path / "none")
    monkeypatch.setattr(documents, "RELEASED", tmp_path / "released")
    assert contract.main(["--release"]) == 1
    assert not documents.RELEASED.exists()


def test_releases_are_ordered_by_version(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "RELEASED", tmp_path)
    for version in ("0.10.0", "0.9.0", "0.2.0"):
        (tmp_path / f"{version}.json").write_text(json.dumps({"sdk_version": version}))
    assert list(compatibility.releases()) == ["0.2.0", "0.9.0", "0.10.0"]
    assert compatibility.baseline() == {"sdk_version": "0.10.0"}


@pytest.fixture
def wheel(tmp_path) -> Path:
    """A wheel with what matters of the SDK."""
    path = tmp_path / "bundle" / "wheels" / f"fuseml_sdk-{__version__}-py3-none-any.whl"
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(contract.SCHEMAS.parent.parent / "__init__.py", "fuseml_sdk/__init__.py")
        for file in contract.SCHEMAS.glob("*.json"):
            archive.write(file, f"fuseml_sdk/schemas/v1/{file.name}")
    return path


def test_a_contract_is_read_from_wherever_an_sdk_lies(tmp_path, wheel):
    ours = compatibility.current()
    document = tmp_path / "contract-of-today.json"
    document.write_text(json.dumps(ours))
    environment = tmp_path / "env"
    shutil.copytree(contract.SCHEMAS, environment / "lib/python3.12/site-packages/fuseml_sdk/schemas/v1")
    (environment / "lib/python3.12/site-packages/fuseml_sdk/__init__.py").write_text('__version__ = "0.0.9"\n')
    (environment / "bin").mkdir()
    (environment / "bin" / "python").touch()
    source = contract.SCHEMAS.parent.parent.parent.parent
    for place in (document, contract.SCHEMAS, contract.SCHEMAS / "contract.json", wheel, wheel.parent,
                  wheel.parent.parent, environment, environment / "bin" / "python", source, source / "src"):
        found = compatibility.read(place)
        assert compare(found, ours) == [], place
        assert found["digest"] == contract.digest()
    assert compatibility.read(wheel)["sdk_version"] == __version__
    assert compatibility.read(environment)["sdk_version"] == "0.0.9"


def test_the_newest_protocol_of_an_sdk_is_read(tmp_path):
    shutil.copytree(contract.SCHEMAS, tmp_path / "schemas/v1")
    shutil.copytree(contract.SCHEMAS, tmp_path / "schemas/v10")
    shutil.copytree(contract.SCHEMAS, tmp_path / "schemas/v9")
    head = json.loads((tmp_path / "schemas/v10/contract.json").read_text())
    (tmp_path / "schemas/v10/contract.json").write_text(json.dumps({**head, "protocol": 10}))
    assert compatibility.read(tmp_path)["protocol"] == 10


@pytest.mark.parametrize(("name", "content"), [
    ("a.json", "no json"), ("a.json", "[]"), ("a.json", '{"hooks": {"x": 1}}'), ("a.whl", "no archive"),
    ("contract.json", "{}")])
def test_what_is_no_contract_is_refused_with_a_reason(tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InvalidInput, match="is not a contract"):
        compatibility.read(path)


def test_nothing_there_is_said(tmp_path):
    for place in (tmp_path, tmp_path / "absent"):
        with pytest.raises(NotFound, match="there is no"):
            compatibility.read(place)


def test_every_rule_is_whole():
    for (kind, flow), rule in RULES.items():
        assert (rule.kind, rule.flow) == (kind, flow)
        assert rule.verdict in VERDICTS
        assert rule.reason[0].islower()
        assert not rule.reason.endswith(".")
    kinds = {kind for kind, flow in RULES if flow == "arguments"}
    assert kinds == {kind for kind, flow in RULES if flow == "result"} == {
        kind for kind, flow in RULES if flow == "file"}


def test_the_command_says_what_it_does():
    done = subprocess.run([sys.executable, "-m", "fuseml_sdk.contract", "--help"], capture_output=True, text=True,
                          timeout=60, check=True)
    assert "--release" in done.stdout
