"""The test kit for plugin authors, used as an author would."""

from __future__ import annotations

import pytest

from fuseml_sdk.errors import Internal, NotFound
from fuseml_sdk.testing import serving
from fuseml_sdk.testing.served import AGAIN_SECONDS, CALL_SECONDS, ServedPlugin
from fuseml_sdk.types import ArtifactRef

STORE = '''
from fuseml_sdk import hookimpl
from fuseml_sdk.errors import NotFound
from fuseml_sdk.types import Location, StoreDescription, StorePage

class Store:
    @hookimpl
    def fuseml_configure(self, config, state_dir):
        self.config = config

    @hookimpl
    def store_describe(self):
        return StoreDescription(name="kit", kinds=["model"], schemes=["file"], capabilities=["search"])

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
REF = ArtifactRef(kind="model", project="p", name="n")


@pytest.fixture(autouse=True)
def _plugins(tmp_path, monkeypatch):
    (tmp_path / "kit_plugins.py").write_text(STORE)
    monkeypatch.syspath_prepend(str(tmp_path))


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


def test_a_hook_that_did_not_answer_is_not_waited_for_as_long_again(tmp_path):
    waited = []

    def exchange(method, path, body, headers, seconds):
        waited.append((path, seconds))
        raise TimeoutError

    served = ServedPlugin("nowhere", exchange, tmp_path)
    for path in ("/a", "/a", "/b"):
        with pytest.raises(Internal, match=f"GET {path} was not answered in"):
            served.ask("GET", path)
    assert waited == [("/a", CALL_SECONDS), ("/a", AGAIN_SECONDS), ("/b", CALL_SECONDS)]
