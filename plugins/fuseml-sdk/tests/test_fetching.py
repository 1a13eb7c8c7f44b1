"""Fetching the contents behind a location: whole or not at all, and without executing anything of a repository."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fuseml_sdk import fetching
from fuseml_sdk.errors import InvalidInput, NotFound, Permanent, PluginError, Retryable
from fuseml_sdk.fetching import fetch


@pytest.fixture
def repository(tmp_path) -> tuple[Path, str]:
    """A repository with one commit whose filters and hooks would leave a trace, and the commit."""
    place, trace = tmp_path / 'a "code"', tmp_path / "trace"
    place.mkdir()
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@localhost", *arguments], cwd=place,
                              env=environment, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q", "-b", "main")
    (place / "main.py").write_text("print(1)\n")
    (place / "run.sh").write_text("true\n")
    (place / "run.sh").chmod(0o755)
    (place / "way").symlink_to("main.py")
    (place / ".gitattributes").write_text("*.py filter=trace\n")
    git("add", "-A")
    git("commit", "-q", "-m", "one")
    for name in ("filter.trace.smudge", "core.fsmonitor", "core.alternateRefsCommand"):
        git("config", name, f"touch {trace}; cat")
    hook = place / ".git/hooks/post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {trace}\n")
    hook.chmod(0o755)
    return place / ".git", git("rev-parse", "HEAD")


def test_r57_the_files_of_a_commit_are_fetched_and_nothing_else(repository, tmp_path):
    git, commit = repository
    fetched = fetch(f"git+{git.as_uri()}?commit={commit}", tmp_path / "target")
    assert (fetched.path, fetched.warnings) == (tmp_path / "target", ())
    assert sorted(os.listdir(fetched.path)) == [".gitattributes", "main.py", "run.sh", "way"]
    assert (fetched.path / "main.py").read_text() == "print(1)\n"
    assert os.access(fetched.path / "run.sh", os.X_OK)
    assert (fetched.path / "way").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ['a "code"', "target"], "neither scratch nor a trace of a hook or filter"


def test_r57_what_a_killed_attempt_left_is_no_obstacle(repository, tmp_path):
    git, commit = repository
    left = tmp_path / ".target.fetching/contents"
    left.mkdir(parents=True)
    (left / "half").write_text("")
    fetch(f"git+{git.as_uri()}?commit={commit}", tmp_path / "target")
    assert not (tmp_path / "target/half").exists()
    assert not left.parent.exists()


@pytest.mark.parametrize(("uri", "error", "said"), [
    ("git+file:{git}?commit=" + "0" * 40, NotFound, "commit 000000000000 is not in .git"),
    ("git+file:{git}?commit=main", InvalidInput, "'main' is not the full id"),
    ("git+file:{git}", InvalidInput, "'' is not the full id"),
    ("git+file:///none?commit=" + "0" * 40, NotFound, "no repository at /none"),
    ("git+http://127.0.0.1:1/x?commit=" + "0" * 40, Retryable, "http://127.0.0.1:1/x could not be fetched"),
    ("file:///nothing/here", NotFound, "/nothing/here does not exist"),
    ("ftp://host/x", InvalidInput, "ftp: locations cannot be fetched here"),
    ("main.py", InvalidInput, "locations cannot be fetched")])
def test_r57_what_cannot_be_fetched_is_said_and_leaves_nothing(repository, tmp_path, uri, error, said):
    git, _ = repository
    place = tmp_path / "place"
    place.mkdir()
    with pytest.raises(error) as raised:
        fetch(uri.format(git=git.as_uri().removeprefix("file:")), place / "target", headers={"X-Token": "hush"})
    assert type(raised.value) is error
    assert said in str(raised.value)
    assert "hush" not in str(raised.value)
    assert list(place.iterdir()) == []


def test_r57_files_are_used_where_they_lie_unless_they_shall_be_private(tmp_path):
    source = tmp_path / "söurce folder"
    source.mkdir()
    (source / "a.txt").write_text("a")
    assert fetch(source.as_uri(), tmp_path / "target").path == source
    assert not (tmp_path / "target").exists()
    own = fetch(source.as_uri(), tmp_path / "target", private=True).path
    (own / "a.txt").write_text("changed")
    assert (source / "a.txt").read_text() == "a"
    file = fetch((source / "a.txt").as_uri(), tmp_path / "a.txt", private=True).path
    assert file.read_text() == "a"
    os.mkfifo(source / "pipe")
    with pytest.raises(InvalidInput, match="neither file nor directory"):
        fetch(source.as_uri(), tmp_path / "other", private=True)
    assert not (tmp_path / "other").exists()


def test_a_machine_without_git_is_told_so(repository, tmp_path, monkeypatch):
    git, commit = repository
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Permanent, match="`git` is not installed"):
        fetch(f"git+{git.as_uri()}?commit={commit}", tmp_path / "target")


def test_git_that_hangs_is_ended(repository, tmp_path, monkeypatch):
    git, commit = repository
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "git").write_text("#!/bin/sh\nexec sleep 600\n")
    (programs / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    with pytest.raises(PluginError, match=r"git did not finish within 0\.2 s") as raised:
        fetch(f"git+{git.as_uri()}?commit={commit}", tmp_path / "target", timeout=0.2)
    assert raised.value.retryable
    assert not (tmp_path / "target").exists()


def test_the_schemes_are_those_that_locations_may_have():
    assert fetching.SCHEMES == ("file", "git+file", "git+http", "git+https")


def test_supervisors_import_it_without_pydantic():
    code = "import sys, fuseml_sdk.fetching; print(sorted({'pydantic', 'pluggy', 'shutil'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"],
                          capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_r57_commits_with_the_longer_ids_are_fetched(tmp_path):
    place = tmp_path / "code"
    git = ["git", "-C", str(place), "-c", "user.name=t", "-c", "user.email=t@localhost"]
    subprocess.run(["git", "init", "-q", "--object-format=sha256", str(place)], check=True)
    (place / "main.py").write_text("print(1)\n")
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "one"], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert len(commit) == 64
    fetched = fetch(f"git+{(place / '.git').as_uri()}?commit={commit}", tmp_path / "target")
    assert os.listdir(fetched.path) == ["main.py"]
