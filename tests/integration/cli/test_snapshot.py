"""Pushing folders with real git to a real bare repository, by file path and through `git http-backend`."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fuseml_core.cli.snapshot import Remote, check_branch, push
from fuseml_core.cli.survey import survey
from fuseml_core.domain.errors import Conflict, Invalid, Refused, Unavailable


def git(folder: Path, *arguments: str) -> str:
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    for role in ("AUTHOR", "COMMITTER"):
        env |= {f"GIT_{role}_NAME": "Ada", f"GIT_{role}_EMAIL": "ada@example.org"}
    done = subprocess.run(["git", *arguments], cwd=folder, env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    path = tmp_path / "server" / "myapp.git"
    path.mkdir(parents=True)
    git(path, "init", "--quiet", "--bare", "-b", "main", ".")
    git(path, "config", "http.receivepack", "true")
    return path


@pytest.fixture
def remote(bare: Path) -> Remote:
    return Remote(str(bare), "main")


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "train.py").write_text("print('hello')\n")
    return folder


def tree(bare: Path, commit: str = "main") -> dict[str, str]:
    """Path to mode of all files of a commit."""
    entries = git(bare, "ls-tree", "-r", "-z", commit).split("\0")
    return {e.split("\t", 1)[1]: e.split(" ", 1)[0] for e in entries if e}


def commit_all(folder: Path, message: str = "work") -> str:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", message)
    return git(folder, "rev-parse", "HEAD")


def state_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(p.relative_to(folder)): (p.stat().st_mtime_ns, p.read_bytes())
            for p in sorted(folder.rglob("*")) if p.is_file() and not p.is_symlink()}


def test_r178_a_plain_folder_becomes_a_snapshot(code: Path, remote: Remote, bare: Path) -> None:
    pushed = push(survey(code), remote)
    assert pushed.new
    assert pushed.snapshot
    assert git(bare, "rev-parse", "main") == pushed.commit
    assert tree(bare) == {"train.py": "100644"}
    author = git(bare, "log", "-1", "--format=%an <%ae>")
    assert author.startswith("fuseml <")
    assert "@" in author
    assert git(bare, "log", "-1", "--format=%s") == "Snapshot of code"
    assert sorted(p.name for p in code.iterdir()) == ["train.py"]


def test_r29_equal_contents_are_no_new_version(code: Path, remote: Remote) -> None:
    first = push(survey(code), remote)
    again = push(survey(code), remote)
    assert again.commit == first.commit
    assert not again.new


def test_r178_the_next_snapshot_builds_on_the_servers_tip(code: Path, remote: Remote, bare: Path) -> None:
    first = push(survey(code), remote)
    (code / "train.py").write_text("print('other')\n")
    second = push(survey(code), remote, "Train otherwise")
    assert git(bare, "rev-parse", "main^") == first.commit
    assert git(bare, "log", "-1", "--format=%s") == "Train otherwise"
    assert second.new


def test_r178_a_clean_git_root_is_pushed_as_its_own_head(code: Path, remote: Remote, bare: Path) -> None:
    git(code, "init", "-q", "-b", "trunk")
    head = commit_all(code)
    before = state_of(code)
    pushed = push(survey(code), remote)
    assert (pushed.commit, pushed.new, pushed.snapshot) == (head, True, False)
    assert git(bare, "rev-parse", "main") == head
    assert state_of(code) == before
    assert not push(survey(code), remote).new


def test_r178_a_changed_work_tree_is_a_snapshot_and_the_repository_is_untouched(
        code: Path, remote: Remote, bare: Path) -> None:
    git(code, "init", "-q")
    head = commit_all(code)
    (code / "new.py").write_text("x = 1\n")
    (code / "train.py").write_text("print('changed')\n")
    os.utime(code / "train.py", (1, 1))
    before = state_of(code)
    pushed = push(survey(code), remote)
    assert pushed.snapshot
    assert pushed.commit != head
    assert tree(bare) == {"new.py": "100644", "train.py": "100644"}
    assert state_of(code) == before


def test_r178_a_sub_folder_of_a_repository_is_a_snapshot_of_that_folder(code: Path, remote: Remote, bare: Path) -> None:
    git(code, "init", "-q")
    (code / "sub" / "deep").mkdir(parents=True)
    (code / "sub" / "a.py").write_text("a\n")
    (code / "sub" / "deep" / "x.log").write_text("x\n")
    (code / ".gitignore").write_text("*.log\n")
    commit_all(code)
    push(survey(code / "sub"), remote)
    assert tree(bare) == {"a.py": "100644"}


def test_r178_ignored_files_stay_at_home(code: Path, remote: Remote, bare: Path) -> None:
    (code / ".gitignore").write_text("*.log\n/build/\n")
    (code / ".fusemlignore").write_text("notes/\n!keep\n*.tmp\n")
    for name in ("a.log", "build/x", "notes/n", "deep/b.tmp", "deep/ok.py"):
        (code / name).parent.mkdir(exist_ok=True)
        (code / name).write_text(name)
    push(survey(code), remote)
    assert set(tree(bare)) == {".fusemlignore", ".gitignore", "deep/ok.py", "train.py"}


def test_r178_fusemlignore_of_tracked_files_makes_a_snapshot(code: Path, remote: Remote, bare: Path) -> None:
    git(code, "init", "-q")
    (code / ".fusemlignore").write_text("data/\n")
    (code / "data").mkdir()
    (code / "data" / "x").write_text("x")
    commit_all(code)
    assert push(survey(code), remote).snapshot
    assert set(tree(bare)) == {".fusemlignore", "train.py"}


def test_r178_links_modes_and_odd_names_survive(code: Path, remote: Remote, bare: Path) -> None:
    (code / "run.sh").write_text("#!/bin/sh\n")
    (code / "run.sh").chmod(0o755)
    (code / "link").symlink_to("train.py")
    odd = ["with space", 'quote"d', "tab\there", "line\nbreak", "-dash", ":(top)x", "ünïcode", "*.star"]
    for name in odd:
        (code / name).write_text(name)
    (code / "empty").mkdir()
    push(survey(code), remote)
    expected = {"train.py": "100644", "run.sh": "100755", "link": "120000"} | dict.fromkeys(odd, "100644")
    assert tree(bare) == expected


def test_r178_bytes_are_pushed_as_they_are(code: Path, remote: Remote, bare: Path) -> None:
    (code / ".gitattributes").write_text("* text=auto eol=lf\n*.bin filter=lfs -text\n")
    (code / "dos.txt").write_bytes(b"a\r\nb\r\n")
    (code / "x.bin").write_bytes(b"\0\1")
    push(survey(code), remote)
    shown = subprocess.run(["git", "show", "main:dos.txt"], cwd=bare, capture_output=True, check=True).stdout
    assert shown == b"a\r\nb\r\n"


def test_r178_deleted_and_renamed_files_are_gone(code: Path, remote: Remote, bare: Path) -> None:
    git(code, "init", "-q")
    (code / "old.py").write_text("old")
    commit_all(code)
    (code / "old.py").rename(code / "new.py")
    push(survey(code), remote)
    assert set(tree(bare)) == {"new.py", "train.py"}


def test_a_missing_folder_a_file_and_an_empty_folder_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="does not exist"):
        survey(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(Invalid, match="not a folder"):
        survey(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(Invalid, match="nothing to push"):
        survey(tmp_path / "empty")
    git(tmp_path / "empty", "init", "-q")
    with pytest.raises(Invalid, match="nothing to push"):
        survey(tmp_path / "empty")


def test_the_inside_of_a_repository_is_not_code(code: Path) -> None:
    git(code, "init", "-q")
    with pytest.raises(Invalid, match="inside of a git repository"):
        survey(code / ".git")


@pytest.mark.parametrize("outer", [True, False])
def test_nested_repositories_are_refused_until_ignored(code: Path, remote: Remote, bare: Path, outer: bool) -> None:
    if outer:
        git(code, "init", "-q")
        commit_all(code)
    (code / "vendor" / "lib").mkdir(parents=True)
    git(code / "vendor" / "lib", "init", "-q")
    (code / "vendor" / "lib" / "l.py").write_text("l")
    commit_all(code / "vendor" / "lib")
    with pytest.raises(Invalid, match="vendor/lib"):
        survey(code)
    (code / ".fusemlignore").write_text("vendor/\n")
    push(survey(code), remote)
    assert set(tree(bare)) == {".fusemlignore", "train.py"}


def test_submodules_are_refused(code: Path, tmp_path: Path) -> None:
    lib = tmp_path / "lib"
    lib.mkdir()
    git(lib, "init", "-q")
    (lib / "l.py").write_text("l")
    commit_all(lib)
    git(code, "init", "-q")
    git(code, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(lib), "lib")
    commit_all(code)
    with pytest.raises(Invalid, match="submodules: lib"):
        survey(code)


def test_r28_data_and_models_in_code_are_warned_about(code: Path) -> None:
    (code / "model.pkl").write_bytes(b"x")
    (code / "small.csv").write_bytes(b"x")
    with (code / "big.csv").open("wb") as file:
        file.truncate(11 << 20)
    with (code / "huge.dat").open("wb") as file:
        file.truncate(51 << 20)
    (code / "pointer").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    (code / "out").symlink_to("/etc/hosts")
    warnings = "\n".join(survey(code).warnings)
    for name in ("model.pkl", "big.csv (11.0 MiB)", "huge.dat (51.0 MiB)", "pointer", "out", ".fusemlignore"):
        assert name in warnings
    assert "small.csv" not in warnings


def test_a_diverged_branch_is_a_clear_conflict(code: Path, remote: Remote, tmp_path: Path) -> None:
    git(code, "init", "-q", "-b", "main")
    commit_all(code)
    push(survey(code), remote)
    git(tmp_path, "clone", "-q", remote.url, "other")
    (tmp_path / "other" / "x").write_text("x")
    commit_all(tmp_path / "other")
    git(tmp_path / "other", "push", "-q", "origin", "HEAD:main")
    (code / "y").write_text("y")
    commit_all(code)
    with pytest.raises(Conflict, match="does not contain") as raised:
        push(survey(code), remote)
    assert "git pull" in raised.value.hint
    assert push(survey(code, snapshot=True), remote).new


def test_committing_after_a_snapshot_goes_on_as_a_snapshot(code: Path, remote: Remote, bare: Path) -> None:
    push(survey(code), remote)
    git(code, "init", "-q")
    (code / "more.py").write_text("m")
    commit_all(code)
    pushed = push(survey(code), remote)
    assert pushed.snapshot
    assert "snapshot" in pushed.note
    assert set(tree(bare)) == {"more.py", "train.py"}


def test_a_shallow_clone_is_pushed_as_a_snapshot(code: Path, remote: Remote, tmp_path: Path) -> None:
    git(code, "init", "-q")
    commit_all(code)
    (code / "b").write_text("b")
    commit_all(code)
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{code}", "shallow")
    assert push(survey(tmp_path / "shallow"), remote).snapshot


def test_two_pushes_at_once_both_arrive(tmp_path: Path, remote: Remote, bare: Path) -> None:
    folders = []
    for n in range(4):
        folder = tmp_path / f"code{n}"
        folder.mkdir()
        (folder / f"f{n}").write_text(str(n))
        folders.append(folder)
    results: list[bool] = []
    threads = [threading.Thread(target=lambda f=f: results.append(push(survey(f), remote).new)) for f in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert results == [True] * 4
    assert git(bare, "rev-list", "--count", "main") == "4"


def test_hooks_and_variables_of_the_user_have_no_say(
        code: Path, remote: Remote, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    git(code, "init", "-q")
    commit_all(code)
    hook = code / ".git" / "hooks" / "pre-push"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    assert push(survey(code), remote).new


def test_a_hook_at_the_server_that_declines_is_quoted(code: Path, remote: Remote, bare: Path) -> None:
    hook = bare / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'quota exceeded' >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(Refused, match="quota exceeded"):
        push(survey(code), remote)


def test_missing_git_is_a_clear_error(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(Unavailable, match="git is not installed"):
        survey(code)


@pytest.mark.parametrize("branch", ["", "-x", "a..b", "a b"])
def test_bad_branch_names_are_refused(branch: str) -> None:
    with pytest.raises(Invalid, match="name of a branch"):
        check_branch(branch)


def test_a_server_that_does_not_answer_is_said_so(code: Path) -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        push(survey(code), Remote("http://127.0.0.1:9/git/p/n.git", "main"))


class Backend(BaseHTTPRequestHandler):
    """CGI to `git http-backend`."""

    root: str

    def do_GET(self) -> None:
        self.serve()

    def do_POST(self) -> None:
        self.serve()

    def serve(self) -> None:
        path, _, query = self.path.partition("?")
        env = {**os.environ, "GIT_PROJECT_ROOT": self.root, "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path,
               "QUERY_STRING": query, "REQUEST_METHOD": self.command, "REMOTE_USER": "test",
               "CONTENT_TYPE": self.headers.get("Content-Type", ""),
               "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
               "GIT_PROTOCOL": self.headers.get("Git-Protocol", "")}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
        env["CONTENT_LENGTH"] = str(len(body))
        done = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True, check=True)
        head, _, answer = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def over_http(bare: Path) -> Iterator[Remote]:
    handler = type("Handler", (Backend,), {"root": str(bare.parent)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Remote(f"http://127.0.0.1:{server.server_port}/myapp.git", "main")
    server.shutdown()
    server.server_close()
    thread.join(10)


def test_r195_pushes_over_smart_http(
        code: Path, over_http: Remote, bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    first = push(survey(code), over_http)
    (code / "big").write_bytes(os.urandom(3 << 20))
    second = push(survey(code), over_http)
    assert git(bare, "rev-list", "main").split() == [second.commit, first.commit]
    assert not push(survey(code), over_http).new
    shutil.rmtree(code)
    code.mkdir()
    (code / "train.py").write_text("print('hello')\n")
    assert push(survey(code), over_http).new
    assert set(tree(bare)) == {"train.py"}
