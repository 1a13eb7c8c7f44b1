"""Looking into plugins that run, and starting one anew that has failed too often."""

from __future__ import annotations

import os
import signal
import time

import pytest

from fuseml_core.adapters.inspection import HostInspection
from fuseml_core.adapters.plugin_logs import read_log
from fuseml_core.domain.errors import Conflict, Invalid, NotFound
from fuseml_core.domain.extensions import ExtensionState, InstalledExtension, Rest
from fuseml_core.service.plugins import Plugins
from fuseml_sdk.errors import NotReady, PluginError
from fuseml_sdk.types import FileListing

CONFIGURE = """
    @hookimpl
    def fuseml_configure(self, config, state_dir):
        from pathlib import Path
        print("greeter begins", flush=True)
        if (Path(state_dir) / "broken").exists():
            os._exit(3)

    @hookimpl
    def builder_describe(self):"""


@pytest.fixture
def plugins(world, tmp_path, lock):
    source = world.greeter(tmp_path / "source", lock)
    plugin = tmp_path / "source/plugin/src/greeter/plugin.py"
    plugin.write_text(plugin.read_text().replace("\n    @hookimpl\n    def builder_describe(self):", CONFIGURE, 1))
    with (source / "extension.toml").open("a") as manifest:
        manifest.write('[config_schema.properties.token]\ntype = "string"\nwriteOnly = true\ndescription = "Opens it."\n')
    world.push(source)
    world.install("greeter")
    return Plugins(HostInspection(world.host, world.routes, world.records.list, world.resting.of, world.home / "logs",
                                  world.settings.values))


def test_r130_a_plugin_is_seen_whole_while_it_runs_and_while_it_does_not(world, plugins):
    builder = dict(world.plugins.builders())["greeter/greeter"]
    builder.detect(FileListing(files=[]))
    for name in ("greeter", "greeter/greeter", "builder/greeter/greeter", plugins.list()[0]["id"]):
        found = plugins.get(name)
        assert (found["name"], found["family"], found["state"]) == ("greeter/greeter", "builder", "ready")
    os.kill(found["pid"], 0)
    assert found["contract"]["state"] == "same"
    assert found["described"]["types"] == ["greeting"]
    assert [(p["name"], p["reason"]) for p in found["permissions"]] == [("network", "to greet"),
                                                                        ("secrets:token", "Opens it.")]
    assert found["permissions"][1]["enforced"]
    with pytest.raises(NotFound, match="there is no plugin 'none'") as caught:
        plugins.get("none")
    assert "greeter/greeter" in caught.value.hint

    hooks = {entry["hook"]: entry for entry in plugins.statistics("greeter")}
    assert hooks["builder_detect"]["calls"] == 1
    assert hooks["builder_detect"]["plugin"] == "greeter/greeter"
    calls = plugins.calls("greeter", 0.0, 100)
    assert [call["hook"] for call in calls][-1] == "builder_detect"
    assert plugins.calls("", calls[-1]["at"], 100) == []
    with pytest.raises(Invalid, match="limit"):
        plugins.calls("", 0.0, 0)
    assert 'fuseml_plugin_state{extension="greeter",family="builder",plugin="greeter/greeter",state="ready"' in plugins.metrics()

    page = plugins.logs("greeter", "", 1000)
    assert "greeter begins" in page["text"]
    assert plugins.logs("greeter", page["cursor"], 1000)["text"] == ""
    before = found["pid"]
    assert plugins.restart("greeter")["pid"] not in (None, before)
    until = time.monotonic() + 30
    while "greeter begins" not in plugins.logs("greeter", page["cursor"], 10_000)["text"]:
        assert time.monotonic() < until
        time.sleep(0.05)

    world.extensions.disable("greeter")
    assert plugins.get("greeter")["state"] == "disabled"
    assert plugins.get("greeter")["pid"] is None
    mine = [line.rpartition(" ") for line in plugins.metrics().splitlines() if line.startswith("fuseml_plugin_state{")]
    assert [labels.partition('state="')[2] for labels, _, value in mine if float(value)] == ['disabled",version="0.1.0"}']
    with pytest.raises(Conflict, match="is disabled"):
        plugins.restart("greeter")


@pytest.mark.full
def test_a_plugin_that_failed_too_often_is_started_by_hand(world, plugins):
    builder = dict(world.plugins.builders())["greeter/greeter"]
    broken = world.home / "extensions/state/greeter/broken"
    broken.touch()
    broken.parent.chmod(0o755)
    broken.chmod(0o644)
    os.kill(plugins.get("greeter")["pid"], signal.SIGKILL)
    until = time.monotonic() + 120
    while True:
        try:
            builder.detect(FileListing(files=[]))
        except NotReady as error:
            if "starts again in" in error.message:
                break
        except PluginError:
            pass
        assert time.monotonic() < until
    broken.unlink()
    with pytest.raises(NotReady, match="starts again in"):
        builder.detect(FileListing(files=[]))
    assert plugins.get("greeter")["crashes"]
    assert plugins.restart("greeter")["state"] == "ready"
    assert builder.detect(FileListing(files=[])).matches


def test_a_log_is_read_on_where_it_was_also_after_it_was_moved_aside(tmp_path):
    path = tmp_path / "x.log"
    assert read_log(path, "agent/a", "", 1000) == {"text": "", "cursor": "0:0"}
    path.write_text("t agent/a[1] one\nt agent/ab[2] other\nt agent/a[1] two\nt agent/a[1] half")
    page = read_log(path, "agent/a", "", 1000)
    assert page["text"] == "t agent/a[1] one\nt agent/a[1] two\n"
    with path.open("a") as file:
        file.write(" way\n")
    path.rename(tmp_path / "x.log.1")
    path.write_text("t agent/a[3] new\n")
    page = read_log(path, "agent/a", page["cursor"], 1000)
    assert page["text"] == "t agent/a[1] half way\n"
    page = read_log(path, "agent/a", page["cursor"], 1000)
    assert page["text"] == "t agent/a[3] new\n"
    assert read_log(path, "agent/a", page["cursor"], 1000)["text"] == ""
    with pytest.raises(Invalid, match="not a cursor"):
        read_log(path, "agent/a", "x", 1000)


def test_the_address_of_a_plugin_that_is_not_loaded_has_its_settings(world):
    far = InstalledExtension(
        name="far", version="1.0.0", digest="sha256:0", reference="", store="", state=ExtensionState.ACTIVE, installed_at=0.0,
        descriptor={"manifest": {"config_schema": {"properties": {"url": {"type": "string"}}},
                                 "components": [{"family": "agent", "name": "far", "address": "{url}"}]}})
    inspection = HostInspection(world.host, world.routes, lambda: [far], lambda _name: Rest("disabled", "by hand", ""),
                                world.home / "logs", lambda _extension: {"url": "http://127.0.0.1:9"})
    [found] = [plugin for plugin in inspection.plugins() if plugin["extension"] == "far"]
    assert (found["hosting"], found["address"], found["state"]) == ("address", "http://127.0.0.1:9", "disabled")
