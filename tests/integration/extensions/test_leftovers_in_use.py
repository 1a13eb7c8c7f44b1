"""Collection while extensions change: what a change uses, or may use at any moment, stays whatever age is asked for."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from fuseml_core.adapters.extensions.leftovers import OldTransfers, UnusedLayers, UnusedWheels
from fuseml_core.adapters.extensions.state_leftovers import AbandonedFolders
from fuseml_core.adapters.sql.change_lock import SqlChangeLock
from fuseml_core.adapters.sql.database import open_database
from fuseml_core.adapters.sql.extensions import SqlExtensions
from fuseml_core.adapters.sql.generations import SqlGenerations
from fuseml_core.adapters.sql.migration import migrate
from fuseml_core.domain.errors import Invalid
from fuseml_core.domain.extensions import ExtensionState, InstalledExtension, Member, TrustDecision
from fuseml_core.service.extensions.care_ports import Admission
from fuseml_core.service.extensions.importing import Importer
from fuseml_core.service.extensions.ports import Switch
from fuseml_core.service.extensions.store import BundleStore

LAYER = "1" * 64


@pytest.fixture
def engine(tmp_path):
    made = open_database(f"sqlite:///{tmp_path}/fuseml.db")
    migrate(made)
    yield made
    made.dispose()


def written(path: Path, age: float = 0.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_a_layer_that_a_change_takes_up_meanwhile_stays(engine, tmp_path):
    records, lock = SqlExtensions(engine), SqlChangeLock(engine)
    layer = written(tmp_path / "content/sha256" / LAYER, 86_400)
    source = UnusedLayers(tmp_path / "content", records, lock)
    [found] = source.find(0.0)
    removed: list[bool] = []
    collecting = threading.Thread(target=lambda: removed.append(source.remove(found)))
    with lock.alone("install alpha", 1.0, print):
        collecting.start()
        collecting.join(0.5)
        assert collecting.is_alive(), "it waits for the change"
        assert layer.exists()
        digest, place = f"sha256:{'2' * 64}", "oci://a.example/alpha"
        descriptor = {"manifest": {"name": "alpha"}, "layers": [{"digest": f"sha256:{LAYER}", "size": 1, "title": "files.tar"}]}
        record = InstalledExtension("alpha", "1.0.0", digest, place, descriptor, str(tmp_path), ExtensionState.ACTIVE, time.time())
        member = Member("alpha", "1.0.0", digest, place, True, TrustDecision(True))
        SqlGenerations(engine).switch(Switch("install alpha", [member], 0, [record]))
    collecting.join(10)
    assert removed == [False]
    assert layer.exists()


def test_an_archive_on_its_way_and_wheels_just_imported_stay(engine, tmp_path):
    transfers = OldTransfers(SqlChangeLock(engine), tmp_path / "imports")
    wheels = UnusedWheels(tmp_path / "wheels", BundleStore(tmp_path / "store"), lambda: ())
    for source, folder in ((transfers, "imports"), (wheels, "wheels")):
        written(tmp_path / folder / "new-1-py3-none-any.whl")
        old = written(tmp_path / folder / "old-1-py3-none-any.whl", 3600)
        [found] = source.find(0.0)
        assert source.remove(found)
        assert not old.exists()


def test_folders_of_an_extension_that_comes_back_stay(engine, tmp_path):
    records, lock = SqlExtensions(engine), SqlChangeLock(engine)
    scratch, state = (AbandonedFolders(tmp_path, records, lock, hosts=hosts) for hosts in (True, False))
    for name in ("alpha", ".alpha", "beta", ".beta"):
        written(tmp_path / name / "byte-code")
    assert scratch.find(3600.0) == []
    beta, other = scratch.find(0.0)[1], state.find(0.0)
    assert [(each.kind, each.name) for each in (beta, *other)] == [
        ("scratch", "beta"), ("state", "alpha"), ("state", "beta")]
    digest, place = f"sha256:{'2' * 64}", "oci://a.example/alpha"
    record = InstalledExtension("alpha", "1.0.0", digest, place, {"manifest": {"name": "alpha"}, "layers": []},
                                str(tmp_path), ExtensionState.ACTIVE, time.time())
    member = Member("alpha", "1.0.0", digest, place, True, TrustDecision(True))
    SqlGenerations(engine).switch(Switch("install alpha", [member], 0, [record]))
    assert [source.remove(each) for source, each in ((state, other[0]), (scratch, beta), (state, other[1]))] == [
        False, True, True]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == [".alpha", "alpha"]
    assert [each.name for each in (*scratch.find(0.0), *state.find(0.0))] == []


class OneArchive:
    """An archive that can be taken in as long as nobody discarded it."""

    def __init__(self) -> None:
        self.is_there, self.admitted = True, 0

    def admit(self, digest, terms, progress):
        if not self.is_there:
            raise Invalid("the archive was not sent")
        self.admitted += 1
        return []

    def discard(self, digest):
        self.is_there = False


def test_two_who_import_the_same_archive_do_not_take_it_from_each_other(engine):
    archive, both = OneArchive(), threading.Barrier(2, timeout=20)

    def install(references, allow_unsigned, progress):
        """The first one to get here ends only when the other has been let in as well."""
        both.wait()
        return {}

    importer, done = Importer(archive, install, SqlChangeLock(engine)), []
    take = lambda: done.append(importer.take_in(LAYER, Admission(()), install=True, progress=print))  # noqa: E731
    threads = [threading.Thread(target=take) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(done), archive.admitted, archive.is_there) == (2, 2, False)
