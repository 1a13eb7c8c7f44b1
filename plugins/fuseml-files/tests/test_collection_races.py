"""Contents that are registered again while garbage is collected stay."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from fuseml_files.plugin import FileStore
from fuseml_sdk.types import ArtifactRef, Location, RegisterRequest


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    made = FileStore()
    made.fuseml_configure({"root": str(tmp_path / "store"), "garbage_age": 60.0}, str(tmp_path))
    return made


def register(store: FileStore, folder: Path):
    folder.mkdir(exist_ok=True)
    (folder / "numbers.txt").write_text("1\n2\n3\n")
    return store.store_register(RegisterRequest(kind="model", project="p", name="m", source=Location(uri=folder.as_uri())))


def make_old(tmp_path: Path) -> None:
    for place in (tmp_path / "store/sha256").glob("??/*"):
        os.utime(place, (time.time() - 7200,) * 2)


def test_registering_equal_contents_again_makes_them_new(store: FileStore, tmp_path: Path):
    digest = register(store, tmp_path / "a").digest
    make_old(tmp_path)
    assert store.store_collect_garbage([], True).removed == [digest]
    register(store, tmp_path / "b")
    assert store.store_collect_garbage([], False).removed == []


def test_what_a_registration_returned_is_there(store: FileStore, tmp_path: Path):
    end = threading.Event()

    def collect():
        while not end.is_set():
            store.store_collect_garbage([], False)

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        for number in range(300):
            made = register(store, tmp_path / f"s{number}")
            ref = ArtifactRef(kind="model", project="p", name="m", digest=made.digest)
            assert store.store_get(ref).digest == made.digest
            place = Path(store.store_locate(ref, ["file"]).uri.removeprefix("file://"))
            assert (place / "numbers.txt").read_text() == "1\n2\n3\n"
            make_old(tmp_path)
    finally:
        end.set()
        thread.join(30)
