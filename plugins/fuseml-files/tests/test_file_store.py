from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from fuseml_files.plugin import FileStore
from fuseml_sdk.contents import identify, scan
from fuseml_sdk.errors import InvalidInput, NotFound, Unsupported
from fuseml_sdk.loading import families, manager_for
from fuseml_sdk.types import ArtifactRef, FileEntry, Location, RegisterRequest, StoreQuery


@pytest.fixture
def store(tmp_path):
    store = FileStore()
    store.fuseml_configure({"root": str(tmp_path / "artifacts"), "garbage_age": 0}, "")
    return store


@pytest.fixture
def make(tmp_path):
    def make(where="work/job/outputs/model", text="weights"):
        folder = tmp_path / where
        (folder / "sub dir").mkdir(parents=True)
        (folder / "MLmodel").write_text("flavors: {}\n")
        (folder / "sub dir" / "model.bin").write_text(text)
        (folder / "run.sh").write_text("#!/bin/sh\n")
        (folder / "run.sh").chmod(0o755)
        return folder

    return make


def register(store, folder, name="churn", kind="model", **more):
    return store.store_register(RegisterRequest(kind=kind, project="p", name=name,
                                                source=Location(uri=folder.as_uri()), **more))


def path_of(uri):
    return Path(unquote(urlsplit(uri).path))


def ref(digest="", name="churn"):
    return ArtifactRef(kind="model", project="p", name=name, digest=digest)


def test_r129_it_is_a_store_by_the_contract(store):
    assert families(manager_for(FileStore())) == ["store"]
    assert store.store_describe().kinds == ["model", "dataset"]


def test_r135_descriptor_and_contents_lie_apart(store, make, tmp_path):
    folder = make()
    expected = identify("model", scan(folder)).digest
    found = register(store, folder, type="mlflow/sklearn", metadata={"metrics": {"rmse": 0.1}}, labels={"a": "b"})
    assert found.digest == expected
    contents = path_of(found.location)
    assert contents.is_relative_to(tmp_path / "artifacts" / "sha256")
    assert json.loads((contents.parent / "manifest.json").read_bytes())["artifactType"].startswith("application/vnd.cncf")
    assert not folder.exists(), "a directory of the agent is moved, not copied"
    assert found.size == sum(f.size for f in found.files)
    assert store.store_get(ref(expected)).metadata == {"metrics": {"rmse": 0.1}}
    assert store.store_get(ref(expected[7:20])).digest == expected


def test_r10_contents_are_read_only(store, make):
    contents = path_of(register(store, make()).location)
    modes = {p.relative_to(contents).as_posix(): stat.S_IMODE(p.stat().st_mode) for p in contents.rglob("*")}
    assert modes == {"MLmodel": 0o444, "run.sh": 0o555, "sub dir": 0o555, "sub dir/model.bin": 0o444}
    assert stat.S_IMODE(contents.stat().st_mode) == 0o555


def test_r29_the_same_contents_twice_are_one_version_in_one_place(store, make, tmp_path):
    first = register(store, make())
    second = register(store, make("work/other"))
    third = register(store, make("work/third"), name="other")
    assert (second, third.location) == (first, first.location)
    assert len(list((tmp_path / "artifacts").glob("sha256/*/*"))) == 1
    assert not (tmp_path / "work" / "other").exists()


def test_foreign_directories_are_copied(store, make, tmp_path):
    folder = make("elsewhere/model")
    link = folder / "link.bin"
    link.symlink_to("sub dir/model.bin")
    found = register(store, folder)
    assert folder.exists()
    copy = path_of(found.location) / "link.bin"
    assert copy.read_text() == "weights"
    assert not copy.is_symlink()


def test_absolute_links_survive_the_move_as_files(store, make):
    folder = make()
    (folder / "link.bin").symlink_to(folder / "sub dir" / "model.bin")
    assert (path_of(register(store, folder).location) / "link.bin").read_text() == "weights"


def test_links_out_of_the_tree_are_refused(store, make, tmp_path):
    folder = make()
    (folder / "secret").symlink_to("/etc/hostname")
    for files in (None, [FileEntry(path=p, size=1, digest="sha256:" + "0" * 64) for p in ("a",)]):
        with pytest.raises(InvalidInput, match="leads out"):
            register(store, folder, files=files)
    assert folder.exists()
    assert list((tmp_path / "artifacts").glob("sha256/*/*")) == []


def test_the_agents_digests_are_used_and_its_sizes_checked(store, make):
    folder = make()
    files = scan(folder)
    wrong = [f.model_copy(update={"size": f.size + 1}) if f.path == "MLmodel" else f for f in files]
    with pytest.raises(InvalidInput, match="MLmodel.* bytes instead of"):
        register(store, folder, files=wrong)
    with pytest.raises(InvalidInput, match="listed and missing"):
        register(store, folder, files=[*files, files[0].model_copy(update={"path": "more"})])
    with pytest.raises(InvalidInput, match="not in the list"):
        register(store, folder, files=files[1:])
    with pytest.raises(InvalidInput, match="have the digest"):
        register(store, folder, files=files, digest="sha256:" + "1" * 64)
    assert register(store, folder, files=files).digest == identify("model", files).digest


def test_an_interrupted_caller_may_ask_again(store, make):
    folder = make()
    files = scan(folder)
    first = register(store, folder, files=files)
    assert not folder.exists()
    assert register(store, folder, files=files) == first
    with pytest.raises(NotFound, match="does not exist"):
        register(store, folder)


@pytest.mark.parametrize("uri", ["s3://bucket/x", "file://otherhost/x", "/plain/path", ""])
def test_only_directories_of_this_machine_are_taken(store, uri):
    with pytest.raises(InvalidInput, match="not a directory on this machine"):
        store.store_register(RegisterRequest(kind="model", project="p", name="m", source=Location(uri=uri)))


@pytest.mark.parametrize("bad", ["../x", "a/b", "", ".x", "UP", "a..b"])
def test_names_cannot_leave_the_root(store, make, bad):
    with pytest.raises(InvalidInput):
        register(store, make(), name=bad)
    with pytest.raises(InvalidInput):
        register(store, make("work/b"), kind="codeset")


def test_r137_a_location_is_handed_out_not_the_bytes(store, make):
    found = register(store, make())
    assert store.store_locate(ref(found.digest), ["s3", "file"]).uri == found.location
    with pytest.raises(Unsupported):
        store.store_locate(ref(found.digest), ["s3"])
    with pytest.raises(NotFound):
        store.store_locate(ref("sha256:" + "0" * 64), ["file"])


def test_files_and_the_text_of_small_ones(store, make):
    found = register(store, make())
    listing = store.store_files(ref(found.digest), ["mlmodel", "**/*.bin"], 12)
    assert [f.path for f in listing.files] == ["MLmodel", "run.sh", "sub dir/model.bin"]
    assert listing.contents == {"MLmodel": "flavors: {}\n", "sub dir/model.bin": "weights"}
    assert listing.files == found.files


def test_r139_search_and_delete(store, make, tmp_path):
    digests = [register(store, make(f"work/{n}", text=str(n)), name=f"m-{n % 2}").digest for n in range(4)]
    shared = register(store, make("work/same", text="0"), name="shared")
    names, cursor = [], ""
    while True:
        page = store.store_search(StoreQuery(kind="model", name="m-*", limit=1, cursor=cursor))
        names += [(item.name, item.digest) for item in page.items]
        cursor = page.cursor
        if not cursor:
            break
    assert sorted(names) == names
    assert {d for _, d in names} == set(digests)
    assert store.store_search(StoreQuery(kind="dataset")).items == []
    assert store.store_delete(ref(digests[0], "m-0"))
    assert path_of(shared.location).is_dir(), "another name has the same contents"
    assert store.store_delete(ref("", "m-1"))
    assert not store.store_delete(ref("", "m-1"))
    assert len(list((tmp_path / "artifacts").glob("sha256/*/*"))) == 2
    assert list((tmp_path / "artifacts" / "trash").iterdir()) == []


def test_garbage_is_what_nobody_keeps(store, make, tmp_path):
    kept, lost = (register(store, make(f"work/{n}", text=n)) for n in ("kept", "lost"))
    report = store.store_collect_garbage([kept.digest], dry_run=True)
    assert report.removed == [lost.digest]
    assert report.bytes > lost.size
    assert path_of(lost.location).is_dir()
    assert store.store_collect_garbage([kept.digest], dry_run=False).removed == [lost.digest]
    assert not path_of(lost.location).exists()
    with pytest.raises(NotFound):
        store.store_get(ref(lost.digest))
    store.fuseml_configure({"root": str(tmp_path / "artifacts")}, "")
    assert store.store_collect_garbage([], dry_run=False).removed == [], "new contents may be in registration"


def test_many_at_once_with_equal_contents(store, make):
    folders = [make(f"work/{n}") for n in range(8)]
    found, threads = [], []
    for folder in folders:
        threads.append(threading.Thread(target=lambda f=folder: found.append(register(store, f))))
        threads[-1].start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 8
    assert len({f.location for f in found}) == 1


CRASH = """
import os, sys, threading
from fuseml_files.plugin import FileStore
from fuseml_sdk.contents import scan
from fuseml_sdk.types import *
from pathlib import Path
store = FileStore(); store.fuseml_configure({"root": sys.argv[1]}, "")
source = Path(sys.argv[2])
calls = 0
def trace(frame, event, arg):
    global calls
    if "fuseml_files" in frame.f_code.co_filename:
        calls += 1
        if calls == int(sys.argv[3]):
            os.kill(os.getpid(), 9)
    return trace
files = scan(source)
sys.settrace(trace)
store.store_register(RegisterRequest(kind="model", project="p", name="churn", files=files,
                                     source=Location(uri=source.as_uri())))
sys.settrace(None)
"""


@pytest.mark.full
def test_r15_kill_9_anywhere_in_a_registration_and_a_second_try_gives_one_whole_version(tmp_path, make):
    ended = False
    for step in range(1, 2000, 13):
        folder = make(f"work/{step}", text=str(step))
        files = scan(folder)
        root = tmp_path / f"artifacts-{step}"
        done = subprocess.run([sys.executable, "-c", CRASH, root, folder, str(step)], check=False, timeout=60,
                              env={k: v for k, v in os.environ.items() if k != "COVERAGE_PROCESS_START"})
        store = FileStore()
        store.fuseml_configure({"root": str(root)}, "")
        found = register(store, folder, files=files)
        assert scan(path_of(found.location)) == files
        assert not list(path_of(found.location).parent.glob(".*"))
        if done.returncode == 0:
            ended = True
            break
    assert ended
