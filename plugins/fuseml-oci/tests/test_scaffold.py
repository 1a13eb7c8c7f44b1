"""What `bundle new` and `plugin new` write: everything or nothing, with names that can be used."""

from __future__ import annotations

import ast
import re
import tomllib

import pytest

from fuseml_oci.bundles import scaffold
from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.manifest import parse_manifest

FAMILIES = [kind for kind in scaffold.KINDS if kind != "runnable"]


@pytest.fixture(autouse=True)
def one_wheel(monkeypatch, tmp_path_factory):
    """The wheel of the SDK is built once; how it is made is tested elsewhere."""
    made = _made.setdefault("sdk", None) or scaffold.installed_wheel("fuseml-sdk")
    _made["sdk"] = made
    monkeypatch.setattr(scaffold, "installed_wheel", lambda _name: made)


_made: dict = {}


@pytest.mark.parametrize("family", FAMILIES)
def test_r168_a_new_plugin_is_small_and_whole(tmp_path, family):
    """About nine files beside the wheel and an icon; nothing is left to fill in that code needs."""
    made = scaffold.create(tmp_path / "deep/my-thing", "my-thing", family)
    names = [path.relative_to(tmp_path / "deep/my-thing").as_posix() for path in made]
    assert names == sorted([
        ".gitignore", "CHANGELOG.md", "README.md", "extension.toml", "icon.svg", "pyproject.toml", "requirements.lock",
        "src/my_thing/__init__.py", "src/my_thing/config.py", "tests/test_conformance.py", "tests/test_my_thing.py",
        f"wheels/{_made['sdk'].filename}"])
    for path in made:
        if path.suffix != ".whl":
            assert not re.search(r"@[A-Z]+@", path.read_text()), f"{path} has a name that was not filled in"
        if path.suffix == ".py":
            ast.parse(path.read_text())
    manifest = parse_manifest((tmp_path / "deep/my-thing/extension.toml").read_text())
    assert [(entry.family, entry.plugin) for entry in manifest.components] == [
        (family, f"my_thing:MyThing{family.capitalize()}")]
    assert manifest.config_schema["properties"]["token"]["writeOnly"] is True
    assert list((tmp_path / "deep").iterdir()) == [tmp_path / "deep/my-thing"]


@pytest.mark.parametrize(("name", "family", "wanted"), [
    ("shelf", "store", "ShelfStore"), ("my-agent", "agent", "MyAgent"), ("agent-store", "builder", "AgentStoreBuilder")])
def test_class_names_do_not_say_the_family_twice(name, family, wanted):
    assert scaffold.class_name(name, family) == wanted


@pytest.mark.parametrize(("name", "said"), [
    ("json", "would hide the Python module 'json' (Choose another name, such as store-json.)"),
    ("test", "would hide"), ("fuseml-sdk", "would hide"), ("pydantic", "would hide"), ("packaging", "would hide"),
    ("My_Störe", "such as my-store."), ("../up", "such as up."), ("a--b", "such as a-b."), ("日本", "at most 63."),
    ("", "at most 63."), ("x" * 64, f"'{'x' * 63}…' is not a name"), ("x" * 5000, f"such as {'x' * 63}."),
    ("class", "take no keyword, such as store-class."), ("9x", "Begin with a letter, and take no keyword, such as")])
def test_names_that_cannot_be_used_are_refused_and_nothing_is_written(tmp_path, name, said):
    with pytest.raises(InvalidInput) as raised:
        scaffold.create(tmp_path / "x", name, "store")
    assert said in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_half_way_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scaffold, "_fill", fail)
    with pytest.raises(OSError, match="No space left"):
        scaffold.create(tmp_path / "thing", "thing", "agent")
    assert list(tmp_path.iterdir()) == []


def test_a_place_where_nothing_can_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match=f"nothing can be written to {tmp_path}/file/deep: Not a directory"):
        scaffold.create(tmp_path / "file/deep/thing", "thing", "store")


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "thing").mkdir()
    (tmp_path / "thing/mine.txt").write_text("mine")
    with pytest.raises(InvalidInput, match="is there already"):
        scaffold.create(tmp_path / "thing", "thing", "store")
    assert [path.name for path in (tmp_path / "thing").iterdir()] == ["mine.txt"]
    (tmp_path / "empty").mkdir()
    scaffold.create(tmp_path / "empty", "thing", "runnable")
    assert tomllib.loads((tmp_path / "empty/extension.toml").read_text())["name"] == "thing"
