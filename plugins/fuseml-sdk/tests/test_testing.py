"""The test kit for plugin authors, used as an author would."""

from __future__ import annotations

import pytest

from fuseml_sdk.errors import Internal, NotFound
from fuseml_sdk.testing import findings, serving
from fuseml_sdk.types import ArtifactRef

GOOD = '''
from fuseml_sdk import hookimpl
from fuseml_sdk.errors import NotFound
from fuseml_sdk.types import Location, StoreDescription, StorePage

class Store:
    capabilities = ["search"]

    @hookimpl
    def fuseml_configure(self, config, state_dir):
        self.config = config
        if config.get("broken"):
            raise RuntimeError("no back-end")

    @hookimpl
    def store_describe(self):
        return StoreDescription(name="kit", kinds=["model"], schemes=["file"], capabilities=self.capabilities)

    @hookimpl
    def store_get(self, ref):
        raise NotFound(f"no {ref.name}", hint="none")

    @hookimpl
    def store_locate(self, ref, accepts):
        return Location(uri=self.config["uri"])

    @hookimpl
    def store_search(self, query):
        return StorePage(items=[])
'''
BAD = GOOD + '''
class Careless(Store):
    capabilities = ["update"]
    store_get = None

    @hookimpl
    def fuseml_shutdown(self):
        raise SystemExit(4)

class Broken:
    @hookimpl
    def agent_describe(self):
        return "nothing"
'''
REF = ArtifactRef(kind="model", project="p", name="n")


@pytest.fixture(autouse=True)
def _plugins(tmp_path, monkeypatch):
    (tmp_path / "kit_plugins.py").write_text(BAD)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_r134_a_good_plugin_has_no_findings(tmp_path):
    assert findings("kit_plugins:Store", tmp_path) == []


def test_r134_findings_name_the_rule(tmp_path):
    found = findings("kit_plugins:Careless", tmp_path)
    assert found[:3] == [
        "store_get is missing; every store needs it.",
        "store_update is declared in capabilities but not implemented.",
        "store_search is implemented but not declared in capabilities.",
    ]


def test_a_description_of_the_wrong_type_is_found(tmp_path):
    found = findings("kit_plugins:Broken", tmp_path)
    assert "agent_submit is missing; every agent needs it." in found
    assert any(text.startswith("agent_describe fails: the result of agent_describe") for text in found)


def test_a_plugin_that_does_not_start_is_found(tmp_path):
    assert findings("kit_plugins:Store", tmp_path, {"broken": True}) == [
        "The plugin does not start: RuntimeError: no back-end"]


def test_hooks_are_called_through_a_real_socket(tmp_path):
    with serving("kit_plugins:Store", tmp_path, {"uri": "file:///x"}) as plugin:
        assert plugin.call("store_locate", ref=REF, accepts=["file"]).uri == "file:///x"
        with pytest.raises(NotFound, match="no n"):
            plugin.call("store_get", ref=REF)
        process = plugin.process
    assert process.returncode == 0


def test_a_dead_plugin_is_reported_with_its_output(tmp_path):
    with serving("kit_plugins:Store", tmp_path) as plugin:
        plugin.process.kill()
        plugin.process.wait()
        with pytest.raises(Internal, match="went away"):
            plugin.describe()
