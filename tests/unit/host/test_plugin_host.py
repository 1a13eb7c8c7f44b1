"""Adding, finding and removing components, and discovery by entry point."""

from __future__ import annotations

import sys

import pytest

from fuseml_core.domain.errors import Conflict, Invalid, NotFound
from fuseml_core.host import Component, PluginHost, discover, first_party

DIST = """[fuseml.plugins]
toystore = toystore.plugin:plugin
"""
PLUGIN = """
from fuseml_sdk import hookimpl

class Both:
    @hookimpl
    def store_describe(self): ...
    @hookimpl
    def builder_describe(self): ...

plugin = Both()
"""


def _component(tmp_path, identifier="s", **more):
    return Component(**{"id": identifier, "extension": "x", "version": "1.0.0", "digest": "", "family": "store",
                        "name": "x", "plugin": "no_such_module:plugin", "hosting": "in-process", "config": {},
                        "state_dir": tmp_path / "state", **more})


@pytest.fixture
def host(tmp_path):
    it = PluginHost(runtime_dir=tmp_path / "r", log_dir=tmp_path / "logs")
    yield it
    it.shutdown()


def test_r130_a_component_is_added_and_removed_while_running(host, tmp_path):
    host.add(_component(tmp_path, "b"))
    host.add(_component(tmp_path, "a"))
    assert [(info.component.id, info.state, info.pid) for info in host.components()] == [
        ("a", "idle", None), ("b", "idle", None)]
    host.remove("a")
    assert [info.component.id for info in host.components()] == ["b"]
    host.shutdown()
    assert host.components() == []


def test_adding_imports_and_makes_nothing(host, tmp_path):
    host.add(_component(tmp_path))
    host.add(_component(tmp_path, "t", hosting="subprocess"))
    assert not (tmp_path / "state").exists()
    assert not list((tmp_path / "r").iterdir())


def test_an_id_is_taken_once(host, tmp_path):
    host.add(_component(tmp_path))
    with pytest.raises(Conflict):
        host.add(_component(tmp_path))


def test_unknown_components_and_wrong_families_are_told(host, tmp_path):
    host.add(_component(tmp_path))
    with pytest.raises(Invalid, match="of the family store, not agent"):
        host.agent("s")
    for act in (host.store, host.agent, host.builder, host.remove):
        with pytest.raises(NotFound, match="no component nobody"):
            act("nobody")
    with pytest.raises(NotFound):
        host.replace(_component(tmp_path, "nobody"))


def test_private_directories(host, tmp_path):
    assert (tmp_path / "r").stat().st_mode & 0o777 == 0o700


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A distribution with an entry point, as pip would leave it."""
    info = tmp_path / "site" / "toystore-3.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toystore\nVersion: 3.1\n")
    (info / "entry_points.txt").write_text(DIST)
    package = tmp_path / "site" / "toystore"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "plugin.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield
    sys.modules.pop("toystore.plugin", None)
    sys.modules.pop("toystore", None)


@pytest.mark.usefixtures("installed")
def test_plugins_are_discovered_without_importing_them(tmp_path):
    (found,) = discover(["toystore"])
    assert (found.name, found.plugin, found.distribution, found.version) == (
        "toystore", "toystore.plugin:plugin", "toystore", "3.1")
    assert "toystore" not in sys.modules
    assert found in discover()


@pytest.mark.usefixtures("installed")
def test_a_first_party_plugin_becomes_one_component_per_family(tmp_path):
    (found,) = discover(["toystore"])
    made = first_party(found, state_root=tmp_path, config={"a": 1})
    assert [(c.id, c.family, c.hosting, c.config) for c in made] == [
        ("store/toystore", "store", "in-process", {"a": 1}), ("builder/toystore", "builder", "in-process", {"a": 1})]
    assert made[0].state_dir == tmp_path / "toystore"
