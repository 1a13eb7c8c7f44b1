"""Extensions are installed, upgraded, configured, rolled back, disabled and uninstalled while their plugins work."""

from __future__ import annotations

import json
import os
import threading
import time

import pytest

from fuseml_core.domain.errors import Failed, FusemlError, Invalid, Refused, Unavailable
from fuseml_core.service.extensions.ports import Occupation
from fuseml_sdk.errors import NotReady, PluginError
from fuseml_sdk.types import FileListing

PLUGIN = """
import json, os, time
from fuseml_sdk import hookimpl
from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.types import BuilderDescription, Detection

class Greeter:
    @hookimpl
    def fuseml_configure(self, config, state_dir):
        if config.get("word") == "wrong":
            raise InvalidInput("nobody says wrong")
        self.word = config.get("word", "")

    @hookimpl
    def builder_describe(self):
        return BuilderDescription(name="greeter", types=["greeting"], reads=["hello.txt"], makes=["{version}"], concurrency=16)

    @hookimpl
    def builder_detect(self, listing):
        time.sleep(0.02)
        return Detection(matches=True, type="greeting", why=json.dumps(["{version}", self.word, os.getpid()]))

plugin = Greeter()
"""
SCHEMA = '[config_schema.properties.word]\ntype = "string"\n'


def push(world, folder, lock, version):
    source = world.greeter(folder, lock, version=version)
    (folder / "plugin/src/greeter/plugin.py").write_text(PLUGIN.replace("{version}", version))
    manifest = source / "extension.toml"
    manifest.write_text(manifest.read_text() + SCHEMA)
    return world.push(source)


class Callers:
    """Threads that call a builder all the time, by a facade each that they got once, and by one that is looked up."""

    def __init__(self, world, count=6):
        self.world, self.stop, self.answers, self.errors = world, threading.Event(), [], []
        self.threads = [threading.Thread(target=self._run, args=(number % 2 == 0,)) for number in range(count)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join(60)

    def _run(self, keep):
        facade = dict(self.world.plugins.builders())["greeter/greeter"]
        while not self.stop.is_set():
            try:
                used = facade if keep else dict(self.world.plugins.builders())["greeter/greeter"]
                self.answers.append((time.monotonic(), *json.loads(used.detect(FileListing(files=[])).why)))
            except (PluginError, FusemlError, KeyError) as error:
                self.errors.append(error)

    def wait_for_answers(self, version, word, count=20):
        """Wait until so many calls more were answered as wanted; nobody else answers a call begun after that."""
        until, begin = time.monotonic() + 60, len(self.answers)
        while sum((v, w) == (version, word) for _, v, w, _ in self.answers[begin:]) < count:
            assert time.monotonic() < until, (version, word, self.answers[-3:], self.errors[-3:])
            time.sleep(0.01)


def test_r130_no_call_fails_while_versions_and_settings_change(world, tmp_path, lock):
    for version in ("0.1.0", "0.2.0"):
        push(world, tmp_path / version, lock, version)
    world.install("greeter:0.1.0")
    with Callers(world) as callers:
        callers.wait_for_answers("0.1.0", "")
        world.extensions.upgrade(["greeter"])
        callers.wait_for_answers("0.2.0", "")
        world.extensions.configure("greeter", {"word": "moin"})
        callers.wait_for_answers("0.2.0", "moin")
        processes = {pid for *_, pid in callers.answers[-5:]}
        with pytest.raises(Failed, match="nobody says wrong"):
            world.extensions.configure("greeter", {"word": "wrong"})
        callers.wait_for_answers("0.2.0", "moin")
        assert {pid for *_, pid in callers.answers[-5:]} == processes, "a refused change does not touch what works"
        world.extensions.install(["greeter:0.1.0"])
        callers.wait_for_answers("0.1.0", "moin")
        world.extensions.configure("greeter", {}, ["word"])
        callers.wait_for_answers("0.1.0", "")
    assert callers.errors == []
    for name in ("greeter/greeter", "runnable://fuseml/greeter/greeter", f"runnable://fuseml/greeter/greeter@sha256:{'0' * 64}"):
        with pytest.raises(Invalid, match="greeter/greeter is a builder: it serves FuseML itself") as caught:
            world.catalog.runnable(name, "greeter")
        assert "greeter/hello" in caught.value.hint
    assert len({component.id for component in registered(world)}) == 1, "what was replaced is gone"


def registered(world):
    return [info.component for info in world.host.components()]


@pytest.mark.full
def test_r130_a_version_that_is_only_tried_gets_no_calls(world, tmp_path, lock):
    push(world, tmp_path / "0.1.0", lock, "0.1.0")
    source = world.greeter(tmp_path / "0.2.0", lock, version="0.2.0", describe="import time; time.sleep(1); raise SystemError('no')")
    world.push(source)
    world.install("greeter:0.1.0")
    with Callers(world) as callers:
        callers.wait_for_answers("0.1.0", "")
        with pytest.raises(Failed, match="does not work"):
            world.extensions.upgrade(["greeter"])
        callers.wait_for_answers("0.1.0", "")
    assert callers.errors == []
    assert {version for _, version, *_ in callers.answers} == {"0.1.0"}
    assert len(registered(world)) == 1


@pytest.mark.full
def test_disabling_ends_calls_in_order_and_says_how_to_enable(world, tmp_path, lock):
    push(world, tmp_path / "0.1.0", lock, "0.1.0")
    push(world, tmp_path / "0.2.0", lock, "0.2.0")
    world.install("greeter:0.1.0")
    with Callers(world, 4) as callers:
        callers.wait_for_answers("0.1.0", "")
        pid = callers.answers[-1][-1]
        assert world.extensions.disable("greeter")["state"] == "disabled"
        while len(callers.errors) < 20:
            time.sleep(0.01)
    kept = [error for error in callers.errors if not isinstance(error, KeyError)]
    assert {type(error) for error in callers.errors} <= {NotReady, KeyError}, callers.errors[:3]
    assert all("is disabled" in error.message and "fuseml extension enable greeter" in error.hint for error in kept)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert world.plugins.builders() == []
    assert world.extensions.get("greeter")["components"][0]["state"] == "disabled"
    with pytest.raises(Refused, match="is disabled") as caught:
        world.catalog.template("greeting")
    assert caught.value.hint == "Enable it: fuseml extension enable greeter"
    assert world.catalog.templates() == []
    with pytest.raises(Refused, match="is disabled"):
        world.catalog.runnable("greeter/hello", "")

    world.extensions.upgrade(["greeter"], progress=world.progress.append)  # stays disabled; nothing of it is started
    assert "greeter is not started: the extension greeter is disabled" in world.progress
    assert registered(world) == []
    world.extensions = world.start()  # another start of the server
    world.extensions.load_installed()
    assert registered(world) == []
    assert world.extensions.get("greeter")["state"] == "disabled"
    assert world.extensions.enable("greeter")["state"] == "active"
    assert json.loads(dict(world.plugins.builders())["greeter/greeter"].detect(FileListing(files=[])).why)[0] == "0.2.0"
    world.extensions.disable("greeter")
    world.extensions.uninstall(["greeter"])
    world.install("greeter:0.1.0")
    assert world.extensions.get("greeter")["state"] == "active", "uninstalling forgets that it was disabled"


def test_settings_reach_what_still_works_for_an_extension_that_takes_nothing_new(world, tmp_path, lock):
    """An agent that looks after workloads may be told by a setting to end them, also while somebody waits for that."""
    push(world, tmp_path / "0.1.0", lock, "0.1.0")
    world.install("greeter:0.1.0")
    builder = dict(world.plugins.builders())["greeter/greeter"]
    assert json.loads(builder.detect(FileListing(files=[])).why)[1] == ""
    with world.resting.leaving(["greeter"]):
        world.extensions.configure("greeter", {"word": "moin"})
        with pytest.raises(Failed, match="nobody says wrong"):
            world.extensions.configure("greeter", {"word": "wrong"})
    assert json.loads(dict(world.plugins.builders())["greeter/greeter"].detect(FileListing(files=[])).why)[1] == "moin"
    assert len(registered(world)) == 1


def test_uninstalling_waits_for_work_or_refuses_and_forces(world, tmp_path, lock):
    push(world, tmp_path / "0.1.0", lock, "0.1.0")
    world.install("greeter:0.1.0")
    world.work = [Occupation("the service p/s", "greeter")]
    world.users = ["the pipeline p/q"]
    with pytest.raises(Refused, match="the pipeline p/q uses it"):
        world.extensions.uninstall(["greeter"], drain=600)  # said at once, and not after ten minutes
    world.users = []
    with pytest.raises(Refused, match="the service p/s runs on an agent of it") as caught:
        world.extensions.uninstall(["greeter"])
    assert "--drain" in caught.value.hint
    with pytest.raises(Refused, match="after 0.2 seconds the service p/s still goes on"):
        world.extensions.uninstall(["greeter"], drain=0.2)
    assert world.extensions.get("greeter")["state"] == "active", "as before"

    said, done = [], []
    thread = threading.Thread(target=lambda: done.append(world.extensions.uninstall(["greeter"], drain=60, progress=said.append)))
    thread.start()
    until = time.monotonic() + 30
    while not said and time.monotonic() < until:
        time.sleep(0.01)
    assert said == ["waiting for the service p/s"]
    assert world.extensions.get("greeter")["state"] == "leaving"
    assert world.plugins.builders() == [], "nothing new goes there meanwhile"
    world.work = []
    thread.join(60)
    assert done
    assert done[0]["plan"]["changes"][0]["action"] == "remove"
    assert world.extensions.list() == []
    with pytest.raises(Unavailable, match="no workload agent"):
        world.plugins.agent("greeter/greeter")


@pytest.mark.full
def test_safe_mode_loads_nothing_and_says_why(world, tmp_path, lock):
    push(world, tmp_path / "0.1.0", lock, "0.1.0")
    world.install("greeter:0.1.0")
    facade = dict(world.plugins.builders())["greeter/greeter"]
    facade.describe()
    world.host.shutdown()
    world.resting.safe_mode = True
    world.extensions = world.start()
    world.extensions.load_installed()
    assert registered(world) == []
    assert world.extensions.get("greeter")["state"] == "safe mode"
    with pytest.raises(NotReady, match="was started without extensions") as caught:
        facade.describe()
    assert "fuseml server start" in caught.value.hint
    with pytest.raises(FusemlError, match="without extensions"):
        world.extensions.enable("greeter")
    world.resting.safe_mode = False
    world.extensions.load_installed()
    assert facade.describe().makes == ["0.1.0"]
