from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from fuseml_git.journal import Journal
from fuseml_git.plugin import GitStore
from fuseml_sdk.errors import InvalidInput, NotFound, Unsupported
from fuseml_sdk.loading import families, manager_for
from fuseml_sdk.types import ArtifactRef, RegisterRequest, StoreQuery


def ref(digest="", name="app"):
    return ArtifactRef(kind="codeset", project="p", name=name, digest=digest)


def register(store, **more):
    return store.store_register(RegisterRequest(kind="codeset", project="p", name="app", **more))


@pytest.fixture
def commit(run, work, repository):
    """The first commit, pushed by path."""
    run("push", "-q", repository, "main", cwd=work)
    return run("rev-parse", "HEAD", cwd=work)


def test_r129_it_is_a_store_by_the_contract():
    assert families(manager_for(GitStore())) == ["store"]


def test_r30_registering_without_a_commit_makes_the_repository_once(store, repository):
    again = register(store)
    assert again.digest == ""
    assert again.location == f"git+file://{repository}"
    assert Path(again.metadata["clone_url"]) == repository
    assert store.store_describe().kinds == ["codeset"]


def test_r31_a_version_is_a_commit(store, commit):
    found = register(store, digest=f"git:{commit}")
    assert found.digest == f"git:{commit}"
    assert found.aliases == ["main"]
    assert found.metadata["message"] == "First"
    assert {f.path for f in found.files} == {"MLproject", "train.py"}
    assert found.size == sum(f.size for f in found.files)
    assert register(store, digest=f"git:{commit}") == found
    assert found.location.endswith(f"/p/app.git?commit={commit}")


def test_r34_a_commit_that_was_not_pushed_is_refused(store, repository):
    with pytest.raises(NotFound, match="no commit"):
        register(store, digest="git:" + "1" * 40)
    with pytest.raises(InvalidInput, match="neither a commit"):
        register(store, digest="--upload-pack=evil")


@pytest.mark.parametrize("bad", ["../x", "a/b", ".hidden", "x.git", "-x", "", "a..b", "UP"])
def test_names_cannot_leave_the_root(store, bad):
    for values in ({"project": bad, "name": "app"}, {"project": "p", "name": bad}):
        with pytest.raises(InvalidInput):
            store.store_register(RegisterRequest(kind="codeset", **values))


def test_r17_short_ids_branches_and_tags_name_versions(store, commit, run, work, repository):
    run("tag", "-a", "-m", "Release", "v1.0", cwd=work)
    run("push", "-q", repository, "v1.0", cwd=work)
    for name in (commit[:7], "main", "v1.0", f"git:{commit}"):
        assert store.store_get(ref(name)).digest == f"git:{commit}"
    with pytest.raises(NotFound):
        store.store_get(ref("other"))


def test_r33_a_deleted_branch_keeps_its_version(store, commit, run, work, repository):
    run("push", "-q", repository, "main:side", cwd=work)
    (work / "x").write_text("x")
    run("add", ".", cwd=work)
    run("commit", "-qm", "Only on side", cwd=work)
    run("push", "-q", repository, "HEAD:side", cwd=work)
    side = run("rev-parse", "HEAD", cwd=work)
    register(store, digest=f"git:{side}")
    cursor = store.store_events("", 0).cursor
    run("push", "-q", repository, ":side", cwd=work)
    [gone] = store.store_events(cursor, 5).events
    assert (gone.type, gone.digest, gone.aliases) == ("alias-moved", "", ["side"])
    run("gc", "-q", "--prune=now", cwd=repository)
    assert store.store_get(ref(side)).aliases == []
    assert "refs/fuseml" not in run("ls-remote", repository)


def test_r27_files_and_the_text_of_small_ones(store, commit, run, work, repository):
    (work / "sub dir").mkdir()
    (work / "sub dir" / "näme.txt").write_text("ü")
    (work / "run.sh").write_text("#!/bin/sh\n")
    (work / "run.sh").chmod(0o755)
    (work / "mlproject.big").write_text("x" * 5000)
    run("add", ".", cwd=work)
    run("commit", "-qm", "More", cwd=work)
    run("push", "-q", repository, "main", cwd=work)
    listing = store.store_files(ref("main"), ["mlproject*", "**/*.txt"], 1000)
    assert listing.contents == {"MLproject": "name: wine\n", "sub dir/näme.txt": "ü"}
    by_path = {f.path: f for f in listing.files}
    assert by_path["run.sh"].executable
    blob = run("rev-parse", "HEAD:run.sh", cwd=work)
    assert by_path["run.sh"].digest == f"git:{blob}"


def test_locations_follow_what_the_agent_accepts(store, commit, tmp_path):
    assert store.store_locate(ref(commit), ["s3", "git+file"]).uri.startswith("git+file:///")
    with pytest.raises(Unsupported):
        store.store_locate(ref(commit), ["git+http"])
    store.fuseml_configure({"root": str(tmp_path / "git"), "base_url": "http://127.0.0.1:8765/"}, "")
    assert store.store_locate(ref("main"), ["git+http"]).uri == (
        f"git+http://127.0.0.1:8765/git/p/app.git?commit={commit}")


def test_r141_events_start_with_the_tips_and_go_on_from_the_cursor(store, commit, run, work, repository):
    first = store.store_events("", 0)
    assert [(e.type, e.digest) for e in first.events] == [("created", f"git:{commit}")]
    run("tag", "v1", cwd=work)
    run("push", "-q", repository, "main:dev", "v1", "main:refs/notes/x", cwd=work)
    second = store.store_events(first.cursor, 5)
    assert sorted((e.type, e.aliases[0]) for e in second.events) == [("alias-moved", "v1"), ("created", "dev")]
    assert store.store_events(second.cursor, 0.1).events == []
    assert len(store.store_events("999999999", 0).events) == 2  # a cursor of another journal: all tips


def test_r196_what_the_hook_could_not_tell_is_found_out(store, commit, run, work, repository):
    cursor = store.store_events("", 0).cursor
    commit2 = run("commit-tree", "-m", "Silent", f"{commit}^{{tree}}", "-p", commit, cwd=work)
    run("push", "-q", "--no-verify", repository, f"{commit2}:refs/heads/tmp", cwd=work)
    journal = repository.parent.parent / "events.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:-1]))  # as if the machine had lost its power before the hook ran
    Journal(repository.parent.parent).complete()
    assert [e.digest for e in store.store_events(cursor, 0).events] == [f"git:{commit2}"]
    size = journal.stat().st_size
    Journal(repository.parent.parent).complete()
    assert journal.stat().st_size == size


def test_a_half_written_line_waits_for_its_end(store, commit, repository):
    journal = Journal(repository.parent.parent)
    start = journal.size()
    line = json.dumps({"time": 1, "project": "p", "name": "app", "ref": "refs/heads/main", "old": "0" * 40,
                       "new": commit}).encode()
    for piece in (line[:20], line[20:]):
        with journal.path.open("ab") as file:
            file.write(piece)
        assert journal.read(start) == ([], start)
    with journal.path.open("ab") as file:
        file.write(b"\nnot json\n")
    events, end = journal.read(start)
    assert len(events) == 1
    assert end == journal.size()


def test_a_branch_with_odd_characters_is_told(store, commit, run, work, repository):
    cursor = store.store_events("", 0).cursor
    run("push", "-q", repository, 'main:refs/heads/wei"rd/ü', cwd=work)
    assert store.store_events(cursor, 5).events[0].aliases == ['wei"rd/ü']


def test_a_persons_configuration_changes_nothing(store, commit, run, work, repository, tmp_path):
    """core.hooksPath of the person who pushes must not silence the journal."""
    run("config", "--global", "core.hooksPath", str(tmp_path / "elsewhere"))
    cursor = store.store_events("", 0).cursor
    run("push", "-q", repository, "main:again", cwd=work)
    assert len(store.store_events(cursor, 5).events) == 1


def test_search_pages_over_repositories_and_delete_removes_all(store, commit, run, work, tmp_path):
    for name in ("app-2", "b"):
        store.store_register(RegisterRequest(kind="codeset", project="p", name=name))
        run("push", "-q", tmp_path / "git" / "p" / f"{name}.git", "main", cwd=work)
    names, cursor = [], ""
    while True:
        page = store.store_search(StoreQuery(limit=1, cursor=cursor))
        names += [item.name for item in page.items]
        cursor = page.cursor
        if not cursor:
            break
    assert names == ["app", "app-2", "b"]
    assert [i.name for i in store.store_search(StoreQuery(name="app*")).items] == ["app", "app-2"]
    with pytest.raises(Unsupported):
        store.store_delete(ref(commit))
    assert store.store_delete(ref())
    assert not store.store_delete(ref())
    with pytest.raises(NotFound):
        store.store_get(ref("main"))
    assert not list((tmp_path / "git").glob(".old-*"))


def test_old_locks_of_killed_processes_are_swept(store, commit, repository, tmp_path):
    lock = repository / "refs" / "heads" / "main.lock"
    fresh = repository / "refs" / "heads" / "dev.lock"
    pack = repository / "objects" / "tmp_objdir-incoming-x"
    pack.mkdir()
    for path in (lock, fresh):
        path.touch()
    for path in (lock, pack):
        os.utime(path, (1, 1))
    store.fuseml_configure({"root": str(tmp_path / "git")}, "")
    assert (lock.exists(), pack.exists(), fresh.exists()) == (False, False, True)


def test_git_that_hangs_is_ended(tmp_path, monkeypatch):
    from fuseml_git.git import git
    from fuseml_sdk.errors import Retryable

    fake = tmp_path / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\nsleep 60\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    with pytest.raises(Retryable, match="did not end"):
        git(tmp_path, tmp_path, "status", timeout=0.3)
    assert subprocess.run(["git", "--version"], env={"PATH": "/usr/bin:/bin"}, check=True).returncode == 0
