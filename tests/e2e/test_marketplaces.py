"""From an author's bundle in one registry, through a curated catalog, to a server that follows it: the real commands."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .conftest import Fuseml, installation

pytestmark = pytest.mark.full


@dataclass
class World:
    """A server, a registry without anything of FuseML, and the catalog `shop` in it."""

    fuseml: Fuseml
    host: str
    folder: Path

    @property
    def catalog(self) -> str:
        return f"oci://{self.host}/acme/catalog"

    def source(self, name: str, version: str, **more: str) -> Path:
        """The source of a bundle of data only."""
        folder = self.folder / f"{name}-{version}"
        for path in ("runnables/fit.json", "files/fit.py"):
            (folder / path).parent.mkdir(parents=True)
            shutil.copy(Path(__file__).parent / "bundles/numbers" / path, folder / path)
        (folder / "files/note.txt").write_text(f"{name} {version}\n")
        lines = {"name": name, "version": version, "summary": f"The extension {name}, made for a test.",
                 "licence": "Apache-2.0"}
        text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items())
        (folder / "extension.toml").write_text(text + "".join(f"{key} = {value}\n" for key, value in more.items()))
        return folder

    def bundle(self, name: str, version: str, **more: str) -> str:
        """Push a bundle, signed by its author; returns its reference."""
        place = f"oci://{self.host}/ana/{name}"
        self.fuseml("bundle", "push", str(self.source(name, version, **more)), place)
        self.fuseml("bundle", "sign", f"{place}:{version}", "--key", "ana")
        return f"{place}:{version}"

    def curate(self, *arguments: str, code: int = 0) -> str:
        command, *rest = arguments
        return self.fuseml("catalog", command, "-C", str(self.folder / "shop"), *rest, code=code).out

    def add(self, reference: str, channel: str = "stable") -> None:
        self.curate("add", reference, "--channel", channel, "--namespace", "tools")

    def publish(self) -> None:
        self.curate("publish", "--key", "curator")
        self.fuseml("marketplace", "update", code=None)


@pytest.fixture(scope="module")
def debian_registry(tmp_path_factory) -> Iterator[str]:
    """`host:port` of Debian's docker-registry, which knows neither referrers nor FuseML."""
    command, folder = shutil.which("docker-registry"), tmp_path_factory.mktemp("docker-registry")
    if command is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("docker-registry is not installed: apt-get install it")
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        port = chosen.getsockname()[1]
    (folder / "config.json").write_text(json.dumps({
        "version": 0.1, "log": {"level": "error", "accesslog": {"disabled": True}}, "http": {"addr": f"127.0.0.1:{port}"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": True}}}))
    process = subprocess.Popen([command, "serve", str(folder / "config.json")], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def world(debian_registry, tmp_path_factory) -> Iterator[World]:
    """The catalog has `base` 1.0.0 and 1.1.0 (candidate) and `adder` 1.0.0, which needs `base`."""
    with installation(FUSEML_KEY_PASSWORD="only for tests") as fuseml:
        made = World(fuseml, debian_registry, tmp_path_factory.mktemp("world"))
        for key in ("curator", "ana", "stranger"):
            fuseml("key", "generate", key)
        fuseml("catalog", "init", str(made.folder / "shop"), "--reference", made.catalog, "--namespace", "tools",
               "--by", "Cora")
        made.curate("owner", "tools", "Ana", "--key", "ana")
        made.add(made.bundle("base", "1.0.0"))
        made.add(made.bundle("base", "1.1.0"), "candidate")
        made.add(made.bundle("adder", "1.0.0", dependencies='[{name = "base", range = ">=1,<2"}]'))
        made.curate("publish", "--key", "curator")
        fuseml("marketplace", "add", "shop", made.catalog, "--key", "curator")
        yield made


def test_a_catalog_is_followed_only_with_the_right_key(world):
    refused = world.fuseml("marketplace", "add", "other", world.catalog, "--key", "stranger", code=None)
    assert refused.code != 0
    assert "not signed by a key" in refused.err
    assert [m["name"] for m in world.fuseml.json("marketplace", "list")] == ["shop"]
    nowhere = world.fuseml("marketplace", "add", "other", f"oci://{world.host}/acme/nothing", "--key", "curator",
                           code=None)
    assert nowhere.code != 0
    assert "no catalog" in nowhere.err
    assert world.fuseml.json("marketplace", "get", "shop")["state"] == "current"


def test_search_shows_what_is_offered_and_what_fits(world):
    found = world.fuseml.json("extension", "search", "made for a test")
    assert {item["name"]: item["version"] for item in found["items"]} == {"base": "1.0.0", "adder": "1.0.0"}
    assert found["facets"]["channel"]["candidate"] == 2
    assert [item["version"] for item in
            world.fuseml.json("extension", "search", "base", "--channel", "candidate")["items"]] == ["1.1.0"]
    assert "Nothing found" in world.fuseml("extension", "search", "xyzzy").err
    info = world.fuseml.json("extension", "info", "adder")
    assert info["versions"][0]["dependencies"] == [{"name": "base", "range": ">=1,<2"}]
    assert info["source"] == "shop"
    assert "stable: 1.0.0" in world.fuseml("extension", "info", "base").out


def test_r169_extensions_are_installed_by_name_from_a_marketplace(world):
    """The dependency comes along; signatures are those that the catalog endorses; newer channels are for who asks."""
    fuseml = world.fuseml
    fuseml("extension", "install", "adder")
    try:
        assert {e["name"]: e["version"] for e in fuseml.json("extension", "list")} == {"adder": "1.0.0", "base": "1.0.0"}
        fuseml("extension", "upgrade", "base", "--channel", "candidate")
        assert fuseml.json("extension", "info", "base")["version"] == "1.1.0"
        found = {i["name"]: i for i in fuseml.json("extension", "search", "base")["items"]}
        assert found["base"]["installed"] == "1.1.0"
    finally:
        fuseml("extension", "uninstall", "adder", code=None)
        fuseml("extension", "uninstall", "base", code=None)


def test_what_nobody_endorses_is_refused(world):
    reference = world.bundle("lonely", "1.0.0")
    world.curate("owner", "others", "Olaf")
    world.curate("add", reference, "--channel", "stable", "--namespace", "others")
    world.publish()
    refused = world.fuseml("extension", "install", "lonely", code=None)
    assert refused.code != 0
    world.curate("signers", "lonely", "--key", "ana")
    world.publish()
    world.fuseml("extension", "install", "lonely")
    world.fuseml("extension", "uninstall", "lonely")


def test_an_endorsed_key_counts_for_what_the_catalog_is_about_and_not_for_every_bundle_of_the_name(world):
    elsewhere = f"oci://{world.host}/elsewhere/base"
    world.fuseml("bundle", "push", str(world.source("base", "1.0.9")), elsewhere)
    world.fuseml("bundle", "sign", f"{elsewhere}:1.0.9", "--key", "ana")
    refused = world.fuseml("extension", "install", f"{elsewhere}:1.0.9", code=5)
    assert "none endorses one for" in refused.err
    world.fuseml("bundle", "copy", f"oci://{world.host}/ana/base:1.0.0", f"{elsewhere}:1.0.0")
    assert world.fuseml.json("policy", "check", f"{elsewhere}:1.0.0")["allowed"], "a copy of what the catalog lists"


def test_a_yanked_version_is_not_chosen_and_a_deprecated_one_is_told(world):
    for version in ("1.0.0", "1.0.1"):
        world.add(world.bundle("fickle", version))
    world.curate("yank", "fickle", "1.0.1", "--reason", "loses numbers")
    world.curate("deprecate", "fickle", "-m", "nobody looks after it", "--replacement", "base")
    world.publish()
    installed = world.fuseml("extension", "install", "fickle")
    try:
        assert world.fuseml.json("extension", "info", "fickle")["version"] == "1.0.0"
        assert "nobody looks after it" in installed.err + installed.out
        pinned = world.fuseml("extension", "install", "fickle:1.0.1")
        assert "loses numbers" in pinned.err + pinned.out
        misspelt = world.fuseml("extension", "install", "fickle", "--channel", "stabel", code=2).err
        assert "no channel 'stabel'" in misspelt
        assert "stable, candidate, edge" in misspelt
        upgraded = world.fuseml("extension", "upgrade", "fickle", "--channel", "stabel", code=2).err
        assert "no channel 'stabel'" in upgraded
        same = world.fuseml("extension", "upgrade", "fickle", "--dry-run")
        assert "loses numbers" in same.err + same.out, "who has it is told again"
        world.fuseml("extension", "install", "fickle")
        back = world.fuseml("extension", "rollback")
        assert "loses numbers" in back.err + back.out
        assert "loses numbers" in world.fuseml("extension", "doctor", "advice").out
        assert "deprecated" in world.fuseml("extension", "search", "fickle").out
    finally:
        world.fuseml("extension", "uninstall", "fickle", code=None)


def test_a_correction_of_the_curators_counts(world):
    world.add(world.bundle("patched", "1.0.0"))
    world.curate("patch", "patched", "--version", "1.0.0", "--requires-fuseml", ">=99", "--reason", "breaks with ours")
    world.publish()
    refused = world.fuseml("extension", "install", "patched", code=None)
    assert refused.code != 0
    assert ">=99" in refused.err
    (hit,) = world.fuseml.json("extension", "search", "patched")["items"]
    assert "needs FuseML >=99" in hit["incompatible"]


def test_authors_submit_and_two_curators_decide(world):
    """Each with a folder of their own: what one publishes, the other must have seen."""
    reference = world.bundle("wish", "1.0.0")
    world.publish()
    world.fuseml("catalog", "submit", reference, world.catalog, "--namespace", "tools", "--key", "ana", "--by", "Ana",
                 "-m", "please take it")
    other = str(world.folder / "second")
    world.fuseml("catalog", "init", other, "--reference", world.catalog, "--take-over", "--key", "curator")
    (waiting,) = [s for s in json.loads(world.curate("review", "-o", "json")) if s["name"] == "wish"]
    assert waiting["message"] == "please take it"
    done = world.fuseml("catalog", "review", "-C", other, "wish", "--accept", "--channel", "candidate", "--reason",
                        "useful", "--by", "Dora")
    assert "signed by Ana" in done.out
    world.fuseml("catalog", "publish", "-C", other, "--key", "curator", "--by", "Dora")

    late = world.fuseml("catalog", "publish", "-C", str(world.folder / "shop"), "--key", "curator", code=None)
    assert late.code != 0
    assert "Another curator published" in late.err
    assert "wish: removed" in world.curate("diff")
    shutil.rmtree(world.folder / "shop")
    shutil.copytree(other, world.folder / "shop")  # as git pull would
    history = json.loads(world.curate("get", "wish", "-o", "json"))["history"]
    assert [(d["action"], d["by"], d["why"]) for d in history] == [("accepted", "Dora", "useful")]
    world.publish()

    world.fuseml("catalog", "submit", reference, world.catalog, "--namespace", "tools", "--by", "Ann")
    refused = world.fuseml("catalog", "review", "-C", str(world.folder / "shop"), "wish:1.0.0", code=5)
    assert "in the catalog already" in refused.out
    assert "not signed by an owner" in refused.out
    world.curate("review", "wish", "--reject", "--reason", "we have it")
    assert "No submission waits" not in world.curate("review", "--all")


def test_a_mirror_serves_bundles_and_signatures(world):
    """The mirror is the server's own registry; the catalog there is trusted by the curators' key or the mirror's."""
    fuseml = world.fuseml
    fuseml("key", "generate", "lab")
    target = f"oci://{fuseml.base_url.removeprefix('http://')}/lab/catalog"
    fuseml("catalog", "mirror", world.catalog, target, "--key", "curator", "--package", "base", "--sign-key", "lab")
    again = fuseml("catalog", "mirror", world.catalog, target, "--key", "curator", "--package", "base", "--sign-key",
                   "lab")
    assert "0 bundles copied" in again.out
    with installation(FUSEML_KEY_PASSWORD="only for tests") as lab:
        shutil.copytree(fuseml.home / "fz/keys", lab.home / "fz/keys", dirs_exist_ok=True)
        for name in ("registry.key", "registry.pub"):
            (lab.home / "fz/keys" / name).unlink(missing_ok=True)
        for name, key in (("curators", "curator"), ("lab", "lab")):
            lab("marketplace", "add", name, target, "--key", key)
            assert "/lab/base" in lab.json("extension", "info", "base")["versions"][0]["reference"]
            lab("extension", "install", "base")
            lab("extension", "uninstall", "base")
            lab("marketplace", "remove", name)


def test_a_marketplace_that_does_not_answer_goes_on_being_used(world):
    registry = world.fuseml.home / "fz/marketplaces/shop/subscription.json"
    kept = registry.read_text()
    world.fuseml("server", "stop")
    try:
        registry.write_text(kept.replace(world.host, "127.0.0.1:9"))
        failed = world.fuseml("marketplace", "update", code=None)
        assert failed.code != 0
        assert world.fuseml.json("extension", "search", "adder")["total"] == 1
        assert world.fuseml.json("marketplace", "get", "shop")["problem"]
    finally:
        world.fuseml("server", "stop")
        registry.write_text(kept)
