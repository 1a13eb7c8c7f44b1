"""Limits of extensions: what counts, what is refused, what is warned of, and that running components get them (R133)."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from fuseml_core.adapters.extensions import HostedComponents
from fuseml_core.adapters.sql.extensions import SqlExtensionSettings
from fuseml_core.domain.errors import Invalid
from fuseml_core.service.extensions import ExtensionSettings
from fuseml_core.service.extensions.configure import Configurator
from fuseml_core.service.extensions.difference import compare
from fuseml_core.service.extensions.limits import ExtensionLimits, LimitPolicy

from .test_extension_settings import World

GIB = 1 << 30
POLICY = LimitPolicy({"memory": 4 * GIB, "open_files": 4096}, {"memory": 8 * GIB, "open_files": 8192, "processes": 500},
                     {"memory": "FUSEML_PLUGIN_MAX_MEMORY"})
COMPONENT = {"family": "builder", "name": "toy", "plugin": "toy_settings_plugin:plugin"}


class Stored(dict):
    """Rows of settings in memory."""

    def get(self, extension):
        return dict(super().get(extension, {}))

    def change(self, extension, values, unset):
        self[extension] = {k: v for k, v in self.get(extension).items() if k not in unset} | dict(values)


def manifest(**limits):
    return {"name": "toy-box", "version": "1.0.0", "components": [COMPONENT | {"limits": limits}]}


def enforced(_name):
    return True, "by cgroup v2"


@pytest.fixture
def limits():
    return ExtensionLimits(Stored(), POLICY)


def chosen(limits, **stated):
    return {line["name"]: (line["value"], line["from"]) for line in limits.view(manifest(**stated), enforced)}


def test_r133_the_administrator_counts_before_the_manifest_and_that_before_the_server(limits):
    assert chosen(limits) == {"memory": (4 * GIB, "server"), "open_files": (4096, "server"), "processes": (500, "most")}
    stated = {"memory": "512Mi", "processes": 64}
    assert chosen(limits, **stated)["memory"] == (GIB // 2, "manifest")
    limits.store("toy-box", limits.changed("toy-box", {"memory": "1Gi", "file_size": "2Gi"}))
    assert chosen(limits, **stated) == {"memory": (GIB, "administrator"), "open_files": (4096, "server"),
                                        "processes": (64, "manifest"), "file_size": (2 * GIB, "administrator")}
    limits.store("toy-box", limits.changed("toy-box", {"memory": "", "file_size": None}))
    assert chosen(limits, **stated)["memory"] == (GIB // 2, "manifest")


@pytest.mark.parametrize(("change", "why"), [
    ({"memory": "9Gi"}, "this server gives at most 8Gi"), ({"memory": "1Ki"}, "with less than 64Mi"),
    ({"memory": "much"}, "cannot be 'much'"), ({"open_files": "1.5"}, "cannot be '1.5'"),
    ({"cpu": "1"}, "there is no limit 'cpu'"),
])
def test_r133_what_cannot_be_given_is_refused(limits, change, why):
    with pytest.raises(Invalid, match=why):
        limits.changed("toy-box", change)


def test_r133_a_version_that_needs_more_than_there_is_is_refused_unless_somebody_decided(limits):
    greedy = manifest(memory="16Gi")
    with pytest.raises(Invalid, match="needs memory 16Gi, and this server gives at most 8Gi") as refused:
        limits.check(greedy)
    assert "FUSEML_PLUGIN_MAX_MEMORY" in refused.value.hint
    limits.store("toy-box", {"memory": 8 * GIB})
    limits.check(greedy)
    [warning] = limits.warnings(greedy)
    assert warning.startswith("toy-box states that its builder toy needs memory 16Gi, and gets 8Gi")
    assert not limits.warnings(manifest(memory="1Gi"))


def test_r133_a_component_that_somebody_else_runs_has_no_limits(limits):
    assert limits.view({"name": "x", "components": [{"family": "store", "name": "s", "address": "http://x"}]},
                       enforced) == []


@pytest.fixture
def world(tmp_path):
    sockets = Path(tempfile.mkdtemp(prefix="fz-"))
    it = World(tmp_path, sockets)
    it.settings = ExtensionSettings(it.records, SqlExtensionSettings(it.engine), POLICY)
    it.hosted = HostedComponents(it.host, tmp_path / "state", it.settings.values, it.hosted._routes,
                                 limits=it.settings.limits.of)
    it.hosted.load(it.extension)
    it.configure = Configurator(it.settings, it.hosted, it.records).configure
    try:
        yield it
    finally:
        it.host.shutdown()
        it.engine.dispose()
        shutil.rmtree(sockets)


def open_files(process):
    line = next(line for line in Path(f"/proc/{process}/limits").read_text().splitlines()
                if line.startswith("Max open files"))
    return int(line.split()[3])


def test_r133_running_components_get_another_limit_and_settings_stay_as_they_are(world):
    world.configure("toy-box", {"url": "http://there", "retries": "3", "token": "secret-word"})
    before, process = world.plugin_sees()
    assert open_files(process) == 4096
    world.configure("toy-box", {}, (), {"open_files": "128"})
    after, process = world.plugin_sees()
    assert (after, open_files(process)) == (before, 128)
    shown = world.settings.show("toy-box")
    assert (shown["limits"], shown["warnings"]) == ({"open_files": "128"}, [])
    assert set(shown["settings"]) == {"url", "retries", "token"}, "limits are none"
    assert "limit" not in str(world.settings.variables("toy-box")).lower()


def test_r133_a_limit_that_is_refused_changes_nothing(world):
    world.configure("toy-box", {"url": "http://there", "retries": "3", "token": "secret-word"})
    _, process = world.plugin_sees()
    with pytest.raises(Invalid):
        world.configure("toy-box", {"url": "http://elsewhere"}, (), {"open_files": "9000"})
    assert world.plugin_sees() == ({**world.plugin_sees()[0], "url": "http://there"}, process)
    assert world.settings.limits.set_for("toy-box") == {}


def test_r133_limits_go_with_the_extension(world):
    world.settings.limits.store("toy-box", {"open_files": 128})
    world.settings.forget("toy-box")
    assert world.settings.limits.set_for("toy-box") == {}


def test_r133_a_difference_of_limits_is_shown():
    [found] = compare({"manifest": manifest(memory="1Gi")}, {"manifest": manifest(memory="2Gi", processes=64)}, {}, {})
    assert (found.part, found.name, found.before, found.after) == (
        "component", "toy", "builder toy_settings_plugin:plugin, memory 1Gi",
        "builder toy_settings_plugin:plugin, memory 2Gi, processes 64")
