from __future__ import annotations

import contextlib
import gzip
import http.client
import os
import random
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest


def head(run, folder):
    return run("rev-parse", "HEAD", cwd=folder)


def sound(run, repository):
    run("fsck", "--full", "--strict", cwd=repository)


def test_r35_clone_push_and_fetch_over_http(server, repository, run, work, tmp_path):
    url = f"{server.url}/p/app.git"
    run("push", "-q", url, "main", cwd=work)
    clone = tmp_path / "clone"
    run("clone", "-q", url, clone)
    assert head(run, clone) == head(run, work)
    (work / "train.py").write_text("print('more')\n")
    run("commit", "-qam", "Second", cwd=work)
    run("push", "-q", url, "HEAD:refs/heads/side/branch", cwd=work)
    run("fetch", "-q", "origin", cwd=clone)
    assert run("rev-parse", "origin/side/branch", cwd=clone) == head(run, work)
    sound(run, repository)


@pytest.mark.parametrize("version", ["0", "1", "2"])
def test_every_protocol_version_is_served(server, repository, run, work, tmp_path, version):
    url = f"{server.url}/p/app.git"
    run("-c", f"protocol.version={version}", "push", "-q", url, "main", cwd=work)
    trace = run("-c", f"protocol.version={version}", "ls-remote", url, GIT_TRACE_PACKET="1")
    assert ("version 2" in trace) == (version == "2")
    run("-c", f"protocol.version={version}", "clone", "-q", url, tmp_path / "clone")
    assert head(run, tmp_path / "clone") == head(run, work)


def test_r194_a_plain_push_is_told_by_events(server, repository, store, run, work):
    start = store.store_events("", 0).cursor
    found = []

    def listen():
        while not found or not found[-1].events:
            found.append(store.store_events(start, 20))

    waiting = threading.Thread(target=listen)
    waiting.start()
    run("push", "-q", f"{server.url}/p/app.git", "main", cwd=work)
    waiting.join(20)
    [event] = found[-1].events
    assert (event.type, event.project, event.name, event.aliases) == ("created", "p", "app", ["main"])
    assert event.digest == f"git:{head(run, work)}"
    assert store.store_events(found[-1].cursor, 0).events == []


def test_a_push_of_a_thousand_files(server, repository, store, run, work):
    for number in range(1000):
        (work / f"file-{number:04}.txt").write_text(f"{number}\n" * 20)
    run("add", ".", cwd=work)
    run("commit", "-qm", "Many", cwd=work)
    run("push", "-q", f"{server.url}/p/app.git", "main", cwd=work)
    from fuseml_sdk.types import ArtifactRef

    listing = store.store_files(ArtifactRef(kind="codeset", project="p", name="app", digest="main"), [], 0)
    assert len(listing.files) == 1002
    sound(run, repository)


def test_large_pushes_stream_in_both_directions(server, repository, run, work, tmp_path):
    (work / "large.bin").write_bytes(random.Random(1).randbytes(40 << 20))
    run("add", ".", cwd=work)
    run("commit", "-qm", "Large", cwd=work)
    run("push", "-q", f"{server.url}/p/app.git", "main", cwd=work)
    with open(f"/proc/{server.process.pid}/status") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    assert peak < 100 * 1024, f"{peak} KiB: the push was held in memory"
    run("clone", "-q", f"{server.url}/p/app.git", tmp_path / "clone")
    assert (tmp_path / "clone" / "large.bin").read_bytes() == (work / "large.bin").read_bytes()


def test_two_pushes_at_once_to_one_branch_leave_one_winner(server, repository, run, work, tmp_path):
    url = f"{server.url}/p/app.git"
    run("push", "-q", url, "main", cwd=work)
    clones = []
    for number in range(2):
        clone = tmp_path / f"clone-{number}"
        run("clone", "-q", url, clone)
        (clone / "who.txt").write_text(f"{number}\n")
        run("add", ".", cwd=clone)
        run("commit", "-qm", f"By {number}", cwd=clone)
        clones.append(clone)
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda clone: run("push", "origin", "main", cwd=clone, check=False), clones))
    assert sorted(d.returncode for d in done) in ([0, 1], [0, 128]), [d.stdout for d in done]
    winner = clones[[d.returncode for d in done].index(0)]
    assert run("rev-parse", "main", cwd=repository) == head(run, winner)
    sound(run, repository)


def test_r32_pushes_at_once_to_several_branches_succeed_and_are_told(server, repository, store, run, work):
    url = f"{server.url}/p/app.git"
    start = store.store_events("", 0).cursor
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda branch: run("push", "-q", url, f"main:{branch}", cwd=work), [f"b{n}" for n in range(6)]))
    assert sorted(a for e in store.store_events(start, 5).events for a in e.aliases) == [f"b{n}" for n in range(6)]


def test_unknown_repositories_are_refused_with_a_clear_text(server, repository, run, work):
    for path in ("p/other.git", "p/app", "../app.git", "p/..%2f..%2fapp.git", "P/app.git", ".home/app.git"):
        done = run("ls-remote", f"{server.url}/{path}", check=False)
        assert done.returncode != 0, path
    done = run("push", f"{server.url}/p/other.git", "main", cwd=work, check=False)
    assert "There is no such git repository" in done.stdout


def open_post(server, service, length=None):
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=20)
    connection.putrequest("POST", f"/p/app.git/{service}")
    connection.putheader("Content-Type", f"application/x-{service}-request")
    if length is not None:
        connection.putheader("Content-Length", str(length))
    return connection


def push_body(run, work, repository):
    """What `git push` sends for the first push of main: the command and the pack."""
    commit = head(run, work)
    command = f"{'0' * 40} {commit} refs/heads/main\0report-status agent=test\n".encode()
    pack = subprocess.run(["git", "pack-objects", "--all", "--stdout", "-q"], cwd=work, input=b"", check=True,
                          capture_output=True).stdout
    return b"%04x" % (len(command) + 4) + command + b"0000" + pack


def test_gzip_request_bodies_are_understood(server, repository, run, work):
    body = gzip.compress(push_body(run, work, repository))
    connection = open_post(server, "git-receive-pack", len(body))
    connection.putheader("Content-Encoding", "gzip")
    connection.endheaders(body)
    answer = connection.getresponse()
    assert answer.status == 200
    assert b"unpack ok" in answer.read()
    connection.close()
    assert run("rev-parse", "main", cwd=repository) == head(run, work)


def git_processes(server):
    """Process ids of git processes that the server started."""
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(server.process.pid)], capture_output=True, text=True,
                              check=False)
    return children.stdout.split()


def test_a_connection_cut_in_the_middle_of_a_push_leaves_a_sound_repository(server, repository, store, run, work,
                                                                            eventually):
    (work / "large.bin").write_bytes(os.urandom(8 << 20))
    run("add", ".", cwd=work)
    run("commit", "-qm", "Large", cwd=work)
    body = push_body(run, work, repository)
    cursor = store.store_events("", 0).cursor
    for share in (0.1, 0.5, 0.99):
        connection = open_post(server, "git-receive-pack", len(body))
        connection.endheaders(body[:int(len(body) * share)])
        eventually(lambda: git_processes(server))
        connection.sock.shutdown(socket.SHUT_RDWR)
        connection.close()
        eventually(lambda: not git_processes(server))
    assert run("for-each-ref", cwd=repository) == ""
    assert list(repository.glob("objects/tmp_objdir*")) == []
    assert store.store_events(cursor, 0).events == []
    run("push", "-q", f"{server.url}/p/app.git", "main", cwd=work)
    sound(run, repository)


def test_a_client_that_leaves_ends_a_fetch(server, repository, run, work, eventually):
    (work / "large.bin").write_bytes(os.urandom(30 << 20))
    run("add", ".", cwd=work)
    run("commit", "-qm", "Large", cwd=work)
    run("push", "-q", f"{server.url}/p/app.git", "main", cwd=work)
    want = f"want {head(run, work)} side-band-64k agent=test\n".encode()
    body = b"%04x" % (len(want) + 4) + want + b"0000" + b"0009done\n"
    connection = open_post(server, "git-upload-pack", len(body))
    connection.endheaders(body)
    answer = connection.getresponse()
    assert answer.read(1000)
    assert git_processes(server)
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()
    eventually(lambda: not git_processes(server))


def test_packs_are_joined_and_nothing_is_lost(server, repository, run, work):
    """Each push arrives as one pack; many are joined by a later push, with commits that nothing reaches any more."""
    run("config", "gc.autoPackLimit", "3", cwd=repository)
    url = f"{server.url}/p/app.git"
    run("push", "-q", url, "main", cwd=work)
    run("commit", "-q", "--allow-empty", "-m", "Given up", cwd=work)
    given_up = head(run, work)
    run("push", "-q", url, "main", cwd=work)
    run("reset", "-q", "--hard", "HEAD~1", cwd=work)
    for number in range(6):
        (work / "train.py").write_text(f"print({number})\n")
        run("commit", "-qam", f"Number {number}", cwd=work)
        run("push", "-qf", url, "main", cwd=work)
    assert len(list(repository.glob("objects/pack/*.pack"))) <= 4
    assert run("cat-file", "-t", given_up, cwd=repository) == "commit"
    sound(run, repository)


@pytest.mark.full
def test_kill_9_of_the_server_in_the_middle_of_pushes(server, repository, store, run, work, eventually):
    """Whatever a push got to before the kill: the repository is sound, the next push works, each tip is told."""
    url = f"{server.url}/p/app.git"
    cursor = store.store_events("", 0).cursor
    told = set()
    for delay in (0.0, 0.02, 0.05, 0.1, 0.15, 0.2):
        (work / "large.bin").write_bytes(os.urandom(2 << 20))
        run("add", ".", cwd=work)
        run("commit", "-qm", f"After {delay}", cwd=work)
        pushing = threading.Thread(target=lambda: run("push", url, "main", cwd=work, check=False))
        killer = threading.Timer(delay, server.kill)
        pushing.start()
        killer.start()
        killer.join()
        server.start()
        pushing.join()
        sound(run, repository)
    run("push", "-q", url, "main", cwd=work)
    store._compared_at = float("-inf")
    with contextlib.suppress(StopIteration):
        for event in store.store_events(cursor, 1).events:
            told.add(event.digest)
    assert f"git:{head(run, work)}" in told
    assert run("rev-parse", "main", cwd=repository) == head(run, work)
