"""Settings of extensions: stored in a real database, given to a real plugin process, and to workloads."""

from __future__ import annotations

import json
import os
import shutil
import sys
import sysconfig
import tempfile
import venv
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import inspect
from sqlmodel import SQLModel

from fuseml_core.adapters.components import HostedPlugins
from fuseml_core.adapters.extensions import HostedComponents
from fuseml_core.adapters.sql.database import open_database
from fuseml_core.adapters.sql.extensions import SqlExtensions, SqlExtensionSettings
from fuseml_core.adapters.sql.generations import SqlGenerations
from fuseml_core.adapters.sql.migration import migrate
from fuseml_core.domain.errors import Failed, Invalid, NotFound
from fuseml_core.domain.extensions import ExtensionState, InstalledExtension, Member, TrustDecision
from fuseml_core.host import PluginHost
from fuseml_core.service.extensions import ExtensionSettings
from fuseml_core.service.extensions.configure import Configurator
from fuseml_core.service.extensions.ports import Switch
from fuseml_sdk.types import FileListing

PLUGIN = """
import json, os
from fuseml_sdk import errors, hookimpl
from fuseml_sdk.types import BuilderDescription, Detection

class Toy:
    @hookimpl
    def fuseml_configure(self, config, state_dir):
        if config.get("url") == "http://wrong":
            raise errors.InvalidInput(f"nobody answers there with {config.get('token')}", details={"all": str(config)})
        self.config = config

    @hookimpl
    def builder_describe(self):
        return BuilderDescription(name="toy", types=["toy"], reads=[], makes=[])

    @hookimpl
    def builder_detect(self, listing):
        return Detection(matches=True, type="toy", why=json.dumps([self.config, os.getpid()]))

plugin = Toy()
"""
SCHEMA = {"type": "object", "additionalProperties": False, "properties": {
    "url": {"type": "string", "pattern": "^https?://"}, "retries": {"type": "integer"},
    "token": {"type": "string", "writeOnly": True, "minLength": 4}}}


def installed(python: str | None, *, digest: str = "sha256:" + "1" * 64, version: str = "1.0.0",
              schema: object = SCHEMA) -> InstalledExtension:
    """A row for an extension with one builder."""
    manifest = {"name": "toy-box", "version": version, "summary": "Toys.", "config_schema": schema,
                "components": [{"family": "builder", "name": "toy", "plugin": "toy_settings_plugin:plugin"}]}
    return InstalledExtension("toy-box", version, digest, "oci://x", {"manifest": manifest}, "/nowhere",
                              ExtensionState.ACTIVE, 1.0, python=python)


def environment(folder: Path) -> Path:
    """The interpreter of an environment with the SDK and whatever lies in the folder."""
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    packages = next((folder / "venv/lib").glob("python*/site-packages"))
    parent = sysconfig.get_path("purelib")
    (packages / "toy.pth").write_text(f"import site; site.addsitedir({parent!r})\n{folder}\n")
    return folder / "venv/bin/python"


class OpenHost(PluginHost):
    """A plugin host whose plugins may read the source tree: their environment is not a copy of the SDK but points at it."""

    def add(self, component):
        readable = (component.state_dir.parents[1], *(Path(path) for path in sys.path if Path(path).is_dir()))
        super().add(replace(component, readable=readable))


class World:
    """Database, plugin host and use case over one extension."""

    def __init__(self, folder: Path, sockets: Path) -> None:
        (folder / "toy_settings_plugin.py").write_text(PLUGIN)
        python = environment(folder)
        self.engine = open_database(f"sqlite:///{folder}/fuseml.db")
        migrate(self.engine)
        self.records = SqlExtensions(self.engine)
        self.settings = ExtensionSettings(self.records, SqlExtensionSettings(self.engine))
        self.host = OpenHost(runtime_dir=sockets, log_dir=folder / "logs", drain_seconds=2.0)
        self.hosted = HostedComponents(self.host, folder / "state", self.settings.values)
        self.extension = installed(str(python))
        self.put(self.extension)
        self.hosted.load(self.extension)
        self.configure = Configurator(self.settings, self.hosted, self.records).configure

    def put(self, record) -> None:
        """Make a version active, as an installation does."""
        generations = SqlGenerations(self.engine)
        others = [r for r in self.records.list() if r.name != record.name]
        generations.switch(Switch("test", [Member(r.name, r.version, r.digest, r.reference, True, TrustDecision(True))
                                           for r in (*others, record)], generations.current().number, [record]))

    def plugin_sees(self) -> tuple[dict, int]:
        """The configuration that the running plugin has, and its process."""
        [info] = self.host.components()
        return tuple(json.loads(self.host.builder(info.component.id).detect(FileListing(files=[])).why))


@pytest.fixture
def world(tmp_path):
    sockets = Path(tempfile.mkdtemp(prefix="fz-"))
    it = World(tmp_path, sockets)
    try:
        yield it
    finally:
        it.host.shutdown()
        it.engine.dispose()
        shutil.rmtree(sockets)


def test_r99_settings_reach_the_plugin_and_the_workloads_of_the_extension(world):
    before, process = world.plugin_sees()
    world.configure("toy-box", {"url": "http://there", "retries": "3", "token": "secret-word"})
    config, other = world.plugin_sees()
    assert before == {}
    assert config == {"url": "http://there", "retries": 3, "token": "secret-word"}
    assert other != process
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)

    variables = HostedPlugins(world.host, world.settings.variables).variables("toy-box")
    assert variables == {"FUSEML_TOY_BOX_URL": "http://there", "FUSEML_TOY_BOX_RETRIES": "3",
                         "FUSEML_TOY_BOX_TOKEN": "secret-word"}
    assert world.settings.variables("unknown") == {}
    shown = world.settings.show("toy-box")
    assert shown["settings"] == {"retries": 3, "token": "***", "url": "http://there"}
    assert shown["secrets"] == ["token"]

    world.configure("toy-box", {}, ["url", "token"])
    assert world.plugin_sees()[0] == {"retries": 3}
    world.configure("toy-box", {}, ["url"])
    with pytest.raises(Invalid, match="no setting 'uri'"):
        world.configure("toy-box", {}, ["uri"])
    with pytest.raises(NotFound, match="not installed"):
        world.configure("other", {"url": "http://there"})


def test_settings_that_are_wrong_or_that_the_plugin_refuses_change_nothing(world):
    world.configure("toy-box", {"url": "http://there"})
    for values in ({"url": "ftp://there", "retries": "1"}, {"retries": "1", "colour": "red"}, {"token": "a\0bcd"}):
        with pytest.raises(Invalid):
            world.configure("toy-box", values)
    with pytest.raises(Failed, match=r"nobody answers there with \*\*\*") as caught:
        world.configure("toy-box", {"url": "http://wrong", "token": 'se"cret'})
    assert 'se"cret' not in str(caught.value) + repr(caught.value.details)
    assert 'se\\"cret' not in repr(caught.value.details)
    assert world.settings.all("toy-box") == {"url": "http://there"}
    assert world.plugin_sees()[0] == {"url": "http://there"}


def test_settings_survive_another_version_which_takes_what_it_knows(world):
    world.configure("toy-box", {"url": "http://there", "retries": 2, "token": "secret-word"})
    narrower = {"properties": {"url": {"type": "string"}, "retries": {"type": "integer", "maximum": 1}}}
    newer = replace(installed(world.extension.python, digest="sha256:" + "2" * 64, version="2.0.0", schema=narrower))
    world.put(newer)
    world.hosted.load(newer)
    world.hosted.unload(world.extension)

    assert world.plugin_sees()[0] == {"url": "http://there"}
    shown = world.settings.show("toy-box")
    assert shown["settings"] == {"url": "http://there"}
    assert shown["ignored"]["token"] == "this version has no such setting"
    assert "2 is greater" in shown["ignored"]["retries"]
    world.settings.forget("toy-box")
    assert world.settings.show("toy-box")["settings"] == {}


def test_no_setting_takes_the_place_of_what_a_workload_is_told(world):
    schema = {"properties": {"code": {"type": "string"}}}
    record = installed(None, digest="sha256:" + "3" * 64, schema=schema)
    manifest = {**record.manifest, "name": "input", "components": []}
    world.put(replace(record, name="input", descriptor={"manifest": manifest}))
    world.configure("input", {"code": "/etc"})
    assert world.settings.variables("input") == {}


def test_secrets_are_in_no_file_but_the_database_and_in_no_message_of_it(world, tmp_path):
    world.configure("toy-box", {"token": "hunter-2-hunter"})
    world.plugin_sees()
    holders = {path.name.partition("-")[0] for path in tmp_path.rglob("*")
               if path.is_file() and b"hunter-2-hunter" in path.read_bytes()}
    assert holders == {"fuseml.db"}
    with world.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE extension_setting")
    with pytest.raises(Exception, match="no such table") as caught:
        SqlExtensionSettings(world.engine).change("toy-box", {"token": "hunter-2-hunter"}, [])
    assert "hunter" not in str(caught.value)


def test_the_migration_makes_the_table_that_the_code_describes(world):
    there = {column["name"] for column in inspect(world.engine).get_columns("extension_setting")}
    assert there == set(SQLModel.metadata.tables["extension_setting"].columns.keys())
