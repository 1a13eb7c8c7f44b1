"""The built-in runnable store (R65: runnables are stored and managed in an OCI registry; R9: behind the store hooks)."""

from __future__ import annotations

import json
import os
from pathlib import Path

import oras.client
import pluggy
import pytest

from fuseml_oci import media, runnables
from fuseml_oci.client import RegistryClient
from fuseml_oci.descriptor import canonical_json
from fuseml_oci.plugin import RunnableStore
from fuseml_sdk import PROJECT
from fuseml_sdk.errors import InvalidInput, NotFound, NotReady, Unsupported
from fuseml_sdk.hookspecs import LifecycleSpecs, StoreSpecs
from fuseml_sdk.types import ArtifactRef, Location, RegisterRequest, StoreQuery

DESCRIPTOR = {"name": "trainer", "kind": "trainer", "command": ["{python}", "{runnable}/train.py"],
              "inputs": [{"name": "code", "kind": "codeset"}]}


@pytest.fixture
def store(registry, tmp_path):
    plugin = RunnableStore()
    plugin.fuseml_configure({"registry": f"http://{registry.host}", "cache": str(tmp_path / "cache")}, str(tmp_path))
    yield plugin
    plugin.fuseml_shutdown()


def contents(folder: Path, text: str = "print('training')", **more: object) -> Location:
    (folder / "lib").mkdir(parents=True)
    (folder / "runnable.json").write_text(json.dumps({**DESCRIPTOR, **more}, indent=2))
    (folder / "train.py").write_text(text)
    (folder / "lib" / "run.sh").write_text("#!/bin/sh\n")
    (folder / "lib" / "run.sh").chmod(0o755)
    return Location(uri=folder.as_uri())


def request(source: Location, name: str, **more: object) -> RegisterRequest:
    return RegisterRequest(kind="runnable", project="proj", name=name, source=source, **more)


def test_implements_the_hooks_it_declares(store):
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(StoreSpecs)
    manager.add_hookspecs(LifecycleSpecs)
    manager.register(store)
    manager.check_pending()
    described = manager.hook.store_describe()
    assert (described.name, described.kinds, described.schemes) == ("oci", ["runnable"], ["oci", "file"])
    implemented = {caller.name for caller in manager.get_hookcallers(store)}
    assert {f"store_{c}" for c in described.capabilities} | {"store_get", "store_locate"} <= implemented
    assert store.fuseml_health()["registry"]


def test_r65_register_get_locate_and_files(store, registry, tmp_path):
    registered = store.store_register(request(contents(tmp_path / "a"), "app", labels={"l": "1"}, metadata={"m": 1}))
    assert registered.type == "trainer"
    assert registered.metadata["m"] == 1
    assert registered.metadata["descriptor"]["command"] == DESCRIPTOR["command"]
    assert registered.location == f"oci://{registry.host}/runnables/proj/app@{registered.digest}"
    assert registered.size > 10_000
    found = store.store_get(registered.ref)
    assert (found.digest, found.location, found.type) == (registered.digest, registered.location, "trainer")
    assert store.store_locate(registered.ref, ["s3", "oci"]).uri == registered.location
    local = Path(store.store_locate(registered.ref, ["file", "oci"]).uri.removeprefix("file://"))
    assert local == tmp_path / "cache" / registered.digest[7:]
    assert (local / "train.py").read_text() == "print('training')"
    assert json.loads((local / "runnable.json").read_text()) == DESCRIPTOR
    assert os.access(local / "lib" / "run.sh", os.X_OK)
    assert not os.access(local / "train.py", os.X_OK)
    listing = store.store_files(registered.ref, ["*.PY", "lib/*"], 12)
    assert [f.path for f in listing.files] == ["lib/run.sh", "runnable.json", "train.py"]
    assert listing.contents == {"lib/run.sh": "#!/bin/sh\n"}
    assert not [p for p in (tmp_path / "cache").iterdir() if p.name.startswith(".")]


def test_r65_same_contents_same_digest_wherever_and_whenever(store, tmp_path):
    first = store.store_register(request(contents(tmp_path / "a"), "same"))
    (tmp_path / "b").mkdir(mode=0o700)
    source = contents(tmp_path / "b" / "c")
    (tmp_path / "b" / "c" / "runnable.json").write_text(json.dumps(dict(reversed(DESCRIPTOR.items()))))
    (tmp_path / "b" / "c" / "train.py").chmod(0o600)
    os.utime(tmp_path / "b" / "c" / "train.py", (1, 1))
    assert store.store_register(request(source, "same")).digest == first.digest
    other = store.store_register(request(contents(tmp_path / "d", "print(2)"), "same"))
    assert other.digest != first.digest


def test_artifact_is_what_the_format_says_and_oras_can_pull_it(store, registry, tmp_path):
    registered = store.store_register(request(contents(tmp_path / "a"), "format"))
    with RegistryClient(registry.host) as client:
        data, media_type, _ = client.get_manifest("runnables/proj/format", registered.digest)
    document = json.loads(data)
    assert media_type == media.MANIFEST
    assert document["artifactType"] == "application/vnd.fuseml.runnable.v1+json"
    assert document["config"]["mediaType"] == "application/vnd.fuseml.runnable.config.v1+json"
    assert [layer["mediaType"] for layer in document["layers"]] == ["application/vnd.fuseml.runnable.files.v1.tar"]
    theirs = oras.client.OrasClient(insecure=True)
    assert theirs.get_manifest(f"{registry.host}/runnables/proj/format@{registered.digest}") == document


def test_r9_search_in_pages_and_by_name(store, tmp_path):
    wanted = set()
    for number, name in enumerate(["s", "s", "s-1", "t"]):
        registered = store.store_register(RegisterRequest(
            kind="runnable", project="searched", name=name, source=contents(tmp_path / str(number), f"print({number})")))
        wanted.add((name, registered.digest))
    seen, cursor = [], ""
    while True:
        page = store.store_search(StoreQuery(kind="runnable", project="searched", limit=1, cursor=cursor))
        seen += [(item.name, item.digest) for item in page.items]
        cursor = page.cursor
        if not cursor:
            break
    assert len(seen) == 4
    assert set(seen) == wanted
    assert [name for name, _ in seen] == ["s", "s", "s-1", "t"]
    assert {i.name for i in store.store_search(StoreQuery(project="searched", name="s*")).items} == {"s", "s-1"}
    assert store.store_search(StoreQuery(kind="model")).items == []


def test_delete_one_version_and_all(store, tmp_path):
    first, second = (store.store_register(request(contents(tmp_path / t, t), "gone")) for t in ("a", "b"))
    local = Path(store.store_locate(first.ref, ["file"]).uri.removeprefix("file://"))
    assert store.store_delete(first.ref)
    assert not local.exists()
    assert not store.store_delete(first.ref)
    with pytest.raises(NotFound):
        store.store_get(first.ref)
    with pytest.raises(NotFound):
        store.store_locate(first.ref, ["file"])
    assert store.store_get(second.ref).digest == second.digest
    whole = ArtifactRef(kind="runnable", project="proj", name="gone")
    assert store.store_delete(whole)
    assert not store.store_delete(whole)
    assert store.store_search(StoreQuery(name="gone")).items == []


def test_garbage_spares_what_is_kept_or_new(store, registry, tmp_path):
    kept, old = (store.store_register(RegisterRequest(kind="runnable", project="garbage", name="g",
                                                      source=contents(tmp_path / t, t))) for t in ("a", "b"))
    everything = [i.digest for i in store.store_search(StoreQuery()).items if i.project != "garbage"]
    keep = [*everything, kept.digest]
    assert old.digest not in store.store_collect_garbage(keep, True).removed, "younger than an hour"
    later = RunnableStore()
    later.fuseml_configure({"registry": f"http://{registry.host}"}, str(tmp_path))
    report = later.store_collect_garbage(keep, True)
    assert (report.removed, report.bytes) == ([old.digest], old.size)
    assert later.store_get(old.ref).digest == old.digest, "a dry run removes nothing"
    assert later.store_collect_garbage(keep, False).removed == [old.digest]
    with pytest.raises(NotFound):
        later.store_get(old.ref)
    assert later.store_get(kept.ref).digest == kept.digest
    later.fuseml_shutdown()


def test_r9_wrong_requests_are_refused_with_a_reason(store, tmp_path):
    source = contents(tmp_path / "a")
    (tmp_path / "empty").mkdir()
    contents(tmp_path / "broken", commnd=["x"])
    contents(tmp_path / "link")
    (tmp_path / "link" / "out").symlink_to("/etc/passwd")
    for asked, error in (
            (request(Location(uri=(tmp_path / "empty").as_uri()), "x"), InvalidInput),
            (request(Location(uri=(tmp_path / "missing").as_uri()), "x"), NotFound),
            (request(Location(uri=(tmp_path / "broken").as_uri()), "x"), InvalidInput),
            (request(Location(uri=(tmp_path / "link").as_uri()), "x"), InvalidInput),
            (request(Location(uri="https://h/x"), "x"), InvalidInput),
            (request(source, "x", digest="sha256:" + "0" * 64), InvalidInput),
            (request(source, "Not A Name"), InvalidInput),
            (RegisterRequest(kind="runnable", project="p", name="x"), InvalidInput),
            (RegisterRequest(kind="model", project="p", name="x", source=source), Unsupported)):
        with pytest.raises(error):
            store.store_register(asked)
    ref = ArtifactRef(kind="runnable", project="p", name="x", digest="sha256:" + "0" * 64)
    with pytest.raises(Unsupported):
        store.store_locate(ref, ["s3"])
    with pytest.raises(NotFound):
        store.store_locate(ref, ["oci"])
    with pytest.raises(InvalidInput):
        RunnableStore().fuseml_configure({}, str(tmp_path))
    with pytest.raises(NotReady):
        RunnableStore().fuseml_health()


def test_artifacts_of_another_kind_are_not_runnables(store, registry):
    with RegistryClient(registry.host) as client:
        client.push_blob("runnables/proj/fake", b"{}", media.EMPTY_DIGEST, media.EMPTY)
        config = {"mediaType": media.EMPTY, "digest": media.EMPTY_DIGEST, "size": 2}
        data = canonical_json({"schemaVersion": 2, "mediaType": media.MANIFEST, "config": config, "layers": []})
        digest = client.push_manifest("runnables/proj/fake", "x", data, media.MANIFEST)
        with pytest.raises(InvalidInput, match="not a runnable"):
            runnables.look_up(client, "runnables/proj/fake", digest)
