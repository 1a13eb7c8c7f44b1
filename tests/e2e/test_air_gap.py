"""Extensions on a machine without a network: exported on one, imported on another that can reach nothing (R169)."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseml_sdk.environments import compile_lock

from .conftest import ROOT, Fuseml, installation, new_project

NUMBERS = "tests/e2e/bundles/numbers"
GREETER = """
[build-system]
requires = ["hatchling>=1.30"]
build-backend = "hatchling.build"
[project]
name = "greeter"
version = "0.1.0"
requires-python = ">=3.11"
"""
PLUGIN = """
from fuseml_sdk import hookimpl
from fuseml_sdk.types import BuilderDescription, Detection

class Greeter:
    @hookimpl
    def builder_describe(self):
        return BuilderDescription(name="greeter", types=["greeting"], reads=["hello.txt"], makes=["hello"])

    @hookimpl
    def builder_detect(self, listing):
        return Detection(matches=False)

plugin = Greeter()
"""
MANIFEST = """
name = "greeting"
version = "0.1.0"
summary = "Greets."
licence = "Apache-2.0"
[environment]
python = ">=3.11"
lock = "requirements.lock"
wheels = ["greeter", "{sdk}"]
[[components]]
family = "builder"
name = "greeter"
plugin = "greeter:plugin"
summary = "Greets."
[[dependencies]]
name = "numbers"
range = ">=0.1"
"""


class RecordingProxy:
    """Takes connections, writes down what is asked for, and answers nothing useful."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = "http://{}:{}".format(*self._socket.getsockname())
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                with connection:
                    connection.settimeout(5)
                    with contextlib.suppress(OSError):
                        self.asked.append(connection.recv(1000).split(b"\r\n")[0].decode(errors="replace"))
                        connection.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def island(tmp_path: Path) -> Iterator[tuple[Fuseml, RecordingProxy]]:
    """An installation that can reach nothing: no index, no cache, and a proxy that tells on everybody who tries."""
    proxy = RecordingProxy()
    with installation(FUSEML_OFFLINE="1", FUSEML_INDEX_URL="http://127.0.0.1:9/simple", FUSEML_PROXY=proxy.url,
                      UV_CACHE_DIR=str(tmp_path / "empty-uv-cache")) as fuseml:
        yield fuseml, proxy
    proxy.close()
    assert proxy.asked == [], "something tried to reach a network"


def key_of(fuseml: Fuseml) -> str:
    return str(fuseml.home / "fz/keys/registry.pub")


def test_r169_an_extension_runs_on_a_machine_without_a_network(numbers: Fuseml, island, tmp_path: Path):
    there, _proxy = island
    archive = tmp_path / "numbers.tar"
    exported = numbers("extension", "export", "numbers", "-o", str(archive))
    assert "numbers 0.1.0" in exported.out
    refused = there("extension", "import", str(archive), code=5)
    assert "policy" in refused.err
    assert "--key" in refused.err
    assert there.json("extension", "list") == []

    done = there("extension", "import", str(archive), "--key", key_of(numbers), "-o", "json").json
    assert [b["name"] for b in done["bundles"]] == ["numbers"]
    assert done["bundles"][0]["original"].startswith("oci://")
    assert ".embedded.invalid/extensions/numbers" in done["bundles"][0]["original"]
    [listed] = there.json("extension", "list")
    assert listed["digest"] == numbers.json("extension", "info", "numbers")["digest"]
    assert there.json("extension", "verify")["ok"]

    project = new_project(there, tmp_path)
    project.add_pipelines(serve=False)
    project.push(numbers="1\n2\n3\n")
    assert project.json("run", "list")[0]["state"] == "succeeded"

    # It lies in the registry there, and is judged as what it is: without the key that came with it, it is refused.
    relocations = there.home / "fz/extensions/relocations.json"
    entry = json.loads(relocations.read_text())
    entry["relocations"][0]["keys"] = []
    relocations.write_text(json.dumps(entry))
    assert there("extension", "verify", "-o", "json", code=1).json["extensions"][0]["findings"][0]["part"] == "signature"


def test_equal_exports_are_equal_files(numbers: Fuseml, tmp_path: Path):
    for name in ("a.tar", "b.tar"):
        numbers("extension", "export", "numbers", "-o", str(tmp_path / name))
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "b.tar"]


@pytest.mark.full
def test_an_import_goes_on_after_a_kill_and_a_damaged_file_changes_nothing(numbers: Fuseml, island, tmp_path: Path):
    there, _proxy = island
    archive, broken = tmp_path / "numbers.tar", tmp_path / "broken.tar"
    numbers("extension", "export", "numbers", "-o", str(archive))
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    broken.write_bytes(data)
    assert "the archive is" in there("extension", "import", str(broken), "--key", key_of(numbers), code=2).err
    assert there.json("extension", "list") == []

    for delay in (0.02, 0.1, 0.2, 0.3):
        importing = there.begin("extension", "import", str(archive), "--key", key_of(numbers))
        time.sleep(delay)
        there.kill("control")
        importing.communicate(timeout=120)
        there.wait_for(lambda: there("server", "status", code=None).code == 0, 60, "the server")
    there("extension", "import", str(archive), "--key", key_of(numbers))
    assert there.json("extension", "verify")["ok"]
    left = list((there.home / "fz/extensions/imports").iterdir())
    assert left == []


@pytest.mark.full
def test_only_the_registry_is_filled_without_an_installation(numbers: Fuseml, island, tmp_path: Path):
    there, _proxy = island
    archive = tmp_path / "numbers.tar"
    numbers("extension", "export", "numbers", "-o", str(archive))
    done = there("extension", "import", str(archive), "--key", key_of(numbers), "--no-install")
    assert "fuseml extension install --offline numbers" in done.out
    assert there.json("extension", "list") == []
    there("extension", "install", "--offline", "numbers")
    [original] = json.loads((there.home / "fz/extensions/relocations.json").read_text())["relocations"]
    there("extension", "uninstall", "numbers")
    there("extension", "install", "--offline", original["original"])
    assert [e["name"] for e in there.json("extension", "list")] == ["numbers"]


@pytest.fixture(scope="module")
def greeting(tmp_path_factory) -> Path:
    """The source of an extension with a component, whose lock names wheels from an index."""
    folder = tmp_path_factory.mktemp("greeting")
    (folder / "greeter").mkdir()
    (folder / "greeter/pyproject.toml").write_text(GREETER)
    (folder / "greeter/greeter.py").write_text(PLUGIN)
    (folder / "requirements.lock").write_text(compile_lock(["pluggy>=1.7,<2", "pydantic>=2.13"]))
    sdk = os.path.relpath(ROOT / "plugins/fuseml-sdk", folder)
    (folder / "extension.toml").write_text(MANIFEST.format(sdk=sdk))
    return folder


@pytest.mark.full
def test_r169_wheels_and_dependencies_travel(numbers: Fuseml, island, greeting: Path, tmp_path: Path):
    there, _proxy = island
    archive = tmp_path / "greeting.tar"
    numbers("bundle", "push", str(greeting))
    exported = numbers("extension", "export", "greeting", "-o", str(archive))
    assert "numbers 0.1.0" in exported.out
    assert "needed by the others" in exported.out
    there("extension", "import", str(archive), "--key", key_of(numbers))
    by_name = {entry["name"]: entry for entry in there.json("extension", "list")}
    assert set(by_name) == {"greeting", "numbers"}
    assert by_name["greeting"]["components"][0]["state"] == "ready"
    assert any(path.name.startswith("pydantic_core-") for path in (there.home / "fz/wheels").iterdir())

    report = there.json("extension", "verify")
    greeter = next(e for e in report["extensions"] if e["extension"] == "greeting")
    assert report["ok"]
    assert greeter["environment_files"] > 100
    _damage(there, by_name["greeting"]["digest"])
    found = there("extension", "verify", "-o", "json", code=1).json
    wrong = {(f["part"], f["problem"]) for e in found["extensions"] for f in e["findings"]}
    assert wrong == {("files", "changed"), ("files", "added"), ("files", "missing"), ("environment", "changed")}
    repaired = there("extension", "verify", "--repair", "-o", "json").json
    assert repaired["ok"]
    assert there.json("extension", "list")[0]["components"][0]["state"] == "ready"
    collected = there("extension", "gc", "--older-than", "0s", "-o", "json").json
    assert "wheel" not in {leftover["kind"] for leftover in collected["leftovers"]}, "a lock still needs them"
    assert there.json("extension", "verify")["ok"]


def _damage(there: Fuseml, digest: str) -> None:
    store = there.home / "fz/extensions/store" / digest.partition(":")[2]
    lock, wheel = store / "requirements.lock", next((store / "wheels").glob("greeter-*.whl"))
    lock.chmod(0o600)
    lock.write_text(lock.read_text() + "\n# changed\n")
    wheel.unlink()
    (store / "added.txt").write_text("x")
    module = next((there.home / "fz/envs").glob("*/lib/python*/site-packages/greeter.py"))
    module.unlink()  # may be a link into a cache
    module.write_text(PLUGIN + "# changed\n")


@pytest.mark.full
def test_archives_from_another_registry_are_judged_by_where_they_came_from(numbers: Fuseml, island, tmp_path: Path):
    """Signed by an author's key, pushed to the registry of a server, imported where a rule names that key."""
    there, _proxy = island
    archive = tmp_path / "numbers.tar"
    numbers("extension", "export", "numbers", "-o", str(archive))
    there("server", "start")
    keys = there.home / "fz/keys"
    shutil.copy(key_of(numbers), keys / "supplier.pub")
    (there.home / "fz/policy.toml").write_text(
        'version = 1\n[[rule]]\nmatch = "*.embedded.invalid/**"\nkeys = ["keys/supplier.pub"]\n')
    there("extension", "import", str(archive))
    assert there.json("extension", "info", "numbers")["trust"]["rule"].startswith("rule 1")


@pytest.mark.full
def test_r169_mlflow_is_installed_without_a_network(shared: Fuseml, island, tmp_path: Path):
    there, _proxy = island
    archive = tmp_path / "mlflow.tar"
    shared("extension", "export", "mlflow", "kserve", "-o", str(archive))
    there("extension", "import", str(archive), "--key", key_of(shared))
    assert {e["name"] for e in there.json("extension", "list")} == {"mlflow", "kserve"}
    assert there.json("extension", "verify")["ok"]




@pytest.mark.full
def test_a_catalog_travels_and_its_keys_count_on_the_other_side(island, tmp_path: Path):
    """The other machine follows the catalog that the archive brought, and needs no key for the bundle itself."""
    there, _proxy = island
    with installation(FUSEML_KEY_PASSWORD="only for tests") as here:
        for key in ("curator", "ana"):
            here("key", "generate", key)
        here("server", "start")
        place = f"oci://{here.base_url.removeprefix('http://')}"
        shop = str(tmp_path / "shop")
        here("catalog", "init", shop, "--reference", f"{place}/shop/catalog", "--namespace", "tools", "--by", "Cora")
        here("catalog", "owner", "-C", shop, "tools", "Ana", "--key", "ana")
        here("bundle", "push", NUMBERS, f"{place}/tools/numbers")
        here("bundle", "sign", f"{place}/tools/numbers:0.1.0", "--key", "ana")
        here("catalog", "add", "-C", shop, f"{place}/tools/numbers:0.1.0", "--channel", "stable", "--namespace", "tools")
        here("catalog", "publish", "-C", shop, "--key", "curator")
        here("marketplace", "add", "shop", f"{place}/shop/catalog", "--key", "curator")
        here("extension", "install", "numbers")
        archive = tmp_path / "numbers.tar"
        here("extension", "export", "numbers", "-o", str(archive))
        shutil.copy(here.home / "fz/keys/curator.pub", tmp_path / "curator.pub")
        ana = here.home / "fz/keys/ana.pub"
        told = there("extension", "import", str(archive), "--key", str(ana), "--no-install").err
        command = told.partition("can be followed: fuseml ")[2].splitlines()[0].split()
        there(*command[:-1], str(tmp_path / "curator.pub"))
    there("extension", "install", "numbers", "--offline")
    assert there.json("marketplace", "list")[0]["state"] == "current"
    assert there.json("extension", "list")[0]["name"] == "numbers"

