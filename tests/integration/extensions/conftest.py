"""A registry and everything the core has for extensions: the real things, in one place."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import uvicorn
from sqlmodel import SQLModel

from fuseml_core.adapters.components import HostedPlugins
from fuseml_core.adapters.extensions import HostedComponents, RegistryBundles, UvEnvironments
from fuseml_core.adapters.routes import Routes
from fuseml_core.adapters.sql.change_lock import SqlChangeLock
from fuseml_core.adapters.sql.database import open_database
from fuseml_core.adapters.sql.extensions import SqlDisabled, SqlExtensions, SqlExtensionSettings
from fuseml_core.adapters.sql.generations import SqlGenerations
from fuseml_core.host.plugin_host import PluginHost
from fuseml_core.service.extensions import ExtensionCatalog, Extensions, ExtensionSettings, Options
from fuseml_core.service.extensions.resting import Resting
from fuseml_core.settings import from_environment
from fuseml_oci.bundles import build, push
from fuseml_oci.bundles.references import read_reference
from fuseml_oci.client import RegistryClient
from fuseml_registry.app import standalone_app
from fuseml_sdk.environments import compile_lock

ROOT = Path(__file__).parents[3]
PROJECT = """
[build-system]
requires = ["hatchling>=1.30"]
build-backend = "hatchling.build"
[project]
name = "greeter"
version = "{version}"
requires-python = ">=3.11"
"""
PLUGIN = """
import os, sys
from fuseml_sdk import hookimpl
from fuseml_sdk.types import BuilderDescription, Detection

class Greeter:
    @hookimpl
    def builder_describe(self):
        {describe}
        return BuilderDescription(name="greeter", types=["greeting"], reads=["hello.txt"], makes=["{marker}"])

    @hookimpl
    def builder_detect(self, listing):
        return Detection(matches=True, type="greeting", why=f"{{sys.prefix}} {{os.getpid()}}")

plugin = Greeter()
"""
RUNNABLE = '{"name": "hello", "command": ["{python}", "-V"], "inputs": [{"name": "code", "kind": "codeset"}]}'
TEMPLATE = "name: greeting\ninputs: {code: {kind: codeset}}\nsteps:\n  hello: {runnable: hello, inputs: {code: inputs.code}}\n"


@contextlib.contextmanager
def registry(root: Path):
    """The registry application on a free port; yields `host:port`."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(standalone_app({"root": str(root)}), log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + 20
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.01)
        try:
            yield "{}:{}".format(*listener.getsockname())
        finally:
            server.should_exit = True
            thread.join(20)


@pytest.fixture(scope="module")
def lock():
    return compile_lock(["pluggy>=1.7,<2", "pydantic>=2.13"])


class World:
    """A registry and everything the core has for extensions, in one place."""

    registry = staticmethod(registry)

    def __init__(self, home: Path, sockets: Path, place: str, envs: Path) -> None:
        self.home, self.place = home, place
        self.configuration = replace(from_environment({"FUSEML_HOME": str(home), "HOME": str(home)}), home=home)
        self.engine = open_database(f"sqlite:///{home}/fuseml.db")
        SQLModel.metadata.create_all(self.engine)
        self.records = SqlExtensions(self.engine)
        self.host = PluginHost(runtime_dir=sockets, log_dir=home / "logs", drain_seconds=2.0)
        self.bundles = RegistryBundles(lambda: f"http://{place}", home / "extensions/content", self.records)
        self.generations, self.lock = SqlGenerations(self.engine), SqlChangeLock(self.engine)
        self.settings = ExtensionSettings(self.records, SqlExtensionSettings(self.engine))
        self.followed, self.users, self.pinned, self.work = [], [], set(), []
        self.routes, self.resting = Routes(), Resting(SqlDisabled(self.engine))
        self.plugins = HostedPlugins(self.host, self.settings.variables, self.routes, self.records.list, self.resting.of)
        (home / "envs").symlink_to(envs)
        self.extensions = self.start()
        self.catalog = ExtensionCatalog(self.records, self.resting.of)
        self.progress = []

    def start(self, keep: int = 1, grace: float = 0.0) -> Extensions:
        """The use cases, as a new server would have them."""
        return Extensions(
            records=self.records, generations=self.generations, lock=self.lock, settings=self.settings, bundles=self.bundles, environments=UvEnvironments(self.configuration),
            host=HostedComponents(self.host, self.home / "extensions/state", self.settings.values, self.routes, self.resting.of),
            work=lambda _name: self.work, resting=self.resting,
            store=self.home / "extensions/store", engine="0.1.0", users=lambda _name: self.users,
            pinned=lambda digest: digest in self.pinned, followers={"redetect": lambda: self.followed.append("redetect")},
            keep=keep, grace=grace)

    def install(self, *references: str, **options):
        """Install; returns the first of them as it is shown."""
        self.done = self.extensions.install(references, Options(**options), progress=self.progress.append)
        name = references[0].split("@")[0].removeprefix("oci://").split("/")[-1].split(":")[0]
        return self.extensions.get(name)

    def push(self, source: Path, reference: str = "", *, dev: bool = False):
        built = build(source, dev=dev)
        place = read_reference(reference or built.descriptor.name, self.place)
        return push(built, place, RegistryClient.for_reference(place))

    def nothing_is_half_made(self) -> bool:
        stored = sorted(path.name for path in (self.home / "extensions/store").glob("*"))
        known = sorted(record.digest[7:] for record in self.records.list())
        running = {info.component.digest for info in self.host.components()}
        return stored == known and running <= {record.digest for record in self.records.list()}


@pytest.fixture(scope="module")
def environments(tmp_path_factory):
    return tmp_path_factory.mktemp("envs")


@pytest.fixture
def world(tmp_path, environments, short_folder):
    with registry(tmp_path / "registry") as place:
        (tmp_path / "home").mkdir()
        world = World(tmp_path / "home", short_folder, place, environments)
        try:
            yield world
        finally:
            world.host.shutdown()
            world.engine.dispose()


@pytest.fixture
def short_folder():
    import tempfile

    with tempfile.TemporaryDirectory(prefix="fz-") as folder:
        yield Path(folder)


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def greeter(folder: Path, lock: str, *, version: str = "0.1.0", marker: str = "one", describe: str = "pass",
            permission: str = "network") -> Path:
    """The source of an extension with a builder of its own."""
    write(folder / "plugin", {"pyproject.toml": PROJECT.format(version=version), "src/greeter/__init__.py": "",
                              "src/greeter/plugin.py": PLUGIN.format(marker=marker, describe=describe)})
    return write(folder / "bundle", {
        "extension.toml": f"""
name = "greeter"
version = "{version}"
summary = "Says hello."
permissions = [{{name = "{permission}", reason = "to greet"}}]
[environment]
wheels = ["../plugin", "{ROOT}/plugins/fuseml-sdk"]
[[components]]
family = "builder"
name = "greeter"
plugin = "greeter.plugin:plugin"
""", "requirements.lock": lock, "runnables/hello.json": RUNNABLE, "templates/greeting.yaml": TEMPLATE})


def data_only(folder: Path, name: str, version: str = "0.1.0", more: str = "") -> Path:
    """The source of an extension without code."""
    return write(folder, {"extension.toml": f'name = "{name}"\nversion = "{version}"\nsummary = "Data."\n{more}',
                          "runnables/hello.json": RUNNABLE, "templates/greeting.yaml": TEMPLATE})


#: What tests need to make bundles, for they cannot import this file.
World.greeter, World.data_only, World.write = map(staticmethod, (greeter, data_only, write))
