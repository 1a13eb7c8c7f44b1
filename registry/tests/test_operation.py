"""Running a registry: audit log, metrics, bounds for clients, read-only mode, a full disk."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from urllib.parse import urljoin, urlsplit

import pytest
import requests

from fuseml_oci.digests import digest_bytes
from fuseml_registry.access.accounts import Accounts
from fuseml_registry.audit import AuditLog

DATA = os.urandom(300_000)
DIGEST = digest_bytes(DATA)


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def recorded(log, count):
    """Wait for `count` records: each is written when its answer is out, so the next request could overtake it."""
    wait_for(lambda: log.exists() and len(records(log)) >= count)


def wait_for(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# Audit log

def test_r65_changes_logins_and_refusals_are_recorded_without_secrets(serve, tmp_path, pusher, http):
    Accounts(tmp_path / "users").add("alice", "alice-secret-1")
    log = tmp_path / "registry/audit.jsonl"
    with serve(tmp_path / "registry", auth={"method": "token", "users": tmp_path / "users"}) as running:
        http.auth = ("alice", "alice-secret-1")
        http.headers["User-Agent"] = "tester/1"
        repository = pusher(running.url, "team/a")
        image = repository.image("1.0.0")
        repository.has(image)
        repository.delete(image)
        recorded(log, 4)
        query = {"service": "fuseml-registry", "scope": "repository:team/a:pull", "offline_token": "true"}
        tokens = http.get(f"http://{running.host}/token", params=query).json()
        recorded(log, 5)
        http.auth = None
        http.get(f"http://{running.host}/token", auth=("", ""))  # anonymous: nobody logged in
        http.get(f"{running.url}/team/a/tags/list")  # told to log in: nothing to record
        http.get(f"{running.url}/team/a/tags/list", headers={"Authorization": f"Bearer {tokens['token']}x"})
        recorded(log, 6)
        http.post(f"{running.url}/team/a/blobs/uploads/", headers={"Authorization": f"Bearer {tokens['token']}"})
        recorded(log, 7)
        http.get(f"{running.url}/", auth=("alice", "a-wrong-password"))
        recorded(log, 8)
    text = log.read_text()
    for secret in ("alice-secret-1", "a-wrong-password", tokens["token"], tokens["refresh_token"]):
        assert secret not in text
    found = records(log)
    assert sorted(r["action"] for r in found[:4]) == ["delete-manifest", "push-blob", "push-blob", "push-manifest"]
    assert [r["action"] for r in found[4:]] == ["login", "read-tag", "push-blob", "read-version"]
    changes = {r["action"]: r for r in found[:4]}
    pushed = changes["push-manifest"]
    assert {"user": "alice", "auth": "basic", "address": "127.0.0.1", "method": "PUT", "status": 201,
            "repository": "team/a", "reference": "1.0.0", "agent": "tester/1"}.items() <= pushed.items()
    assert pushed["time"].endswith("Z")
    assert 2 in [r.get("received") for r in found[:4]]
    assert changes["delete-manifest"]["reference"] == image["digest"]
    assert [r.get("error", "") for r in found[5:]] == ["UNAUTHORIZED"] * 3
    assert (found[-1]["user"], found[-1]["auth"]) == ("alice", "failed")
    assert log.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("record", "reads", "writes"), [("off", 0, 0), ("writes", 0, 1), ("all", 1, 1)])
def test_what_is_recorded_can_be_chosen(serve, tmp_path, http, record, reads, writes):
    with serve(tmp_path, audit={"record": record}) as running:
        http.post(f"{running.url}/a/blobs/uploads/", params={"digest": DIGEST}, data=DATA)
        http.get(f"{running.url}/a/blobs/{DIGEST}")
    log = tmp_path / "audit.jsonl"
    actions = [r["action"] for r in records(log)] if log.exists() else []
    assert sorted(actions) == ["push-blob"] * writes + ["read-blob"] * reads


def test_nobody_writes_lines_of_his_own_into_the_log(serve, tmp_path, http):
    with serve(tmp_path, audit={"record": "all"}) as running:
        http.get(f'{running.url}/a/manifests/x"%0A{{"user": "root"}}', headers={"User-Agent": 'x" \t{}' + "y" * 5000})
    (record,) = records(tmp_path / "audit.jsonl")
    assert record["status"] == 400
    assert len(record["agent"]) == 300


def test_the_log_is_rotated_by_size_and_loses_no_record(tmp_path):
    log = AuditLog(tmp_path / "audit.jsonl", "all", max_size=2000, files=100)
    threads = [threading.Thread(target=lambda: [log.write({"n": n}) for n in range(100)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    files = list(tmp_path.iterdir())
    assert len(files) > 5
    assert all(path.stat().st_size <= 2000 for path in files)
    assert sorted(r["n"] for path in files for r in records(path)) == sorted([*range(100)] * 4)


def test_no_more_old_logs_are_kept_than_configured(tmp_path):
    log = AuditLog(tmp_path / "audit.jsonl", "all", max_size=200, files=2)
    for number in range(50):
        log.write({"n": number})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"]
    assert records(tmp_path / "audit.jsonl")[-1]["n"] == 49


def test_a_log_that_cannot_be_written_stops_nothing_and_is_counted(serve, tmp_path, http):
    (tmp_path / "blocked").write_text("a file, not a folder")
    with serve(tmp_path / "r", audit={"file": tmp_path / "blocked" / "audit.jsonl"}) as running:
        answer = http.post(f"{running.url}/a/blobs/uploads/", params={"digest": DIGEST}, data=DATA)
        assert answer.status_code == 201
        wait_for(lambda: "fuseml_registry_audit_lost_records 1.0" in http.get(f"http://{running.host}/metrics").text)


# Metrics

def test_metrics_count_requests_bytes_and_uploads(serve, tmp_path, http):
    with serve(tmp_path) as running:
        http.post(f"{running.url}/a/blobs/uploads/", params={"digest": DIGEST}, data=DATA)
        http.get(f"{running.url}/a/blobs/{DIGEST}")
        http.get(f"{running.url}/a/blobs/nonsense")
        http.post(f"{running.url}/a/blobs/uploads/")
        answer = http.get(f"http://{running.host}/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    lines = dict(line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#"))
    prefix = "fuseml_registry_"
    assert lines[f'{prefix}requests_total{{method="POST",route="uploads",status="201"}}'] == "1.0"
    assert lines[f'{prefix}requests_total{{method="GET",route="blobs",status="400"}}'] == "1.0"
    assert float(lines[f"{prefix}received_bytes_total"]) == len(DATA)
    assert float(lines[f"{prefix}sent_bytes_total"]) >= len(DATA)
    assert lines[f"{prefix}upload_sessions"] == "1.0"
    assert lines[f"{prefix}active_requests"] == "1.0"
    assert float(lines[f"{prefix}disk_free_bytes"]) > 0
    assert float(lines[f'{prefix}request_seconds_count{{route="uploads"}}']) == 2


def test_metrics_can_be_switched_off(serve, tmp_path, http):
    with serve(tmp_path, metrics="off") as running:
        assert http.get(f"http://{running.host}/metrics").status_code == 404


# Bounds

def connect(server):
    host, _, port = server.host.partition(":")
    return socket.create_connection((host, int(port)), 10)


def test_a_body_that_stops_is_408_and_what_arrived_is_kept(serve, tmp_path, http):
    with serve(tmp_path, limits={"idle": "0.3s"}) as running:
        location = http.post(f"{running.url}/a/blobs/uploads/").headers["Location"]
        with connect(running) as connection:
            connection.sendall(f"PATCH {location} HTTP/1.1\r\nHost: {running.host}\r\nContent-Length: 10\r\n\r\n12345"
                               .encode())
            assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")
        assert http.get(urljoin(running.url, location)).headers["Range"] == "0-4"
        rest = http.put(urljoin(running.url, location), params={"digest": digest_bytes(b"1234567890")}, data=b"67890")
        assert rest.status_code == 201


def test_a_body_that_drips_is_408(serve, tmp_path, http):
    """Each byte comes in time; together they would take for ever."""
    with serve(tmp_path, limits={"idle": "0.4s", "slowest": 1000}) as running:
        location = http.post(f"{running.url}/a/blobs/uploads/").headers["Location"]
        with connect(running) as connection:
            connection.sendall(f"PATCH {location} HTTP/1.1\r\nHost: {running.host}\r\nContent-Length: 10000\r\n\r\n"
                               .encode())
            connection.settimeout(0.05)
            deadline, answer = time.monotonic() + 10, b""
            while not answer:
                assert time.monotonic() < deadline
                try:
                    connection.sendall(b"x")
                    answer = connection.recv(1000)
                except TimeoutError:
                    pass
            assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_client_that_does_not_take_its_answer_is_let_go(serve, tmp_path, http):
    with serve(tmp_path, limits={"idle": "0.2s", "slowest": 100_000_000}) as running:
        data = os.urandom(30 << 20)
        http.post(f"{running.url}/a/blobs/uploads/", params={"digest": digest_bytes(data)}, data=data)
        with connect(running) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(f"GET /v2/a/blobs/{digest_bytes(data)} HTTP/1.1\r\nHost: {running.host}\r\n\r\n".encode())
            wait_for(lambda: "active_requests 1.0" in http.get(f"http://{running.host}/metrics").text)


def test_too_many_requests_at_once_are_503_and_come_back(serve, tmp_path, http):
    with serve(tmp_path, limits={"requests": 2}) as running:
        location = http.post(f"{running.url}/a/blobs/uploads/").headers["Location"]
        other = http.post(f"{running.url}/a/blobs/uploads/").headers["Location"]
        with connect(running) as one, connect(running) as two:
            for connection, path in ((one, location), (two, other)):
                connection.sendall(f"PATCH {path} HTTP/1.1\r\nHost: {running.host}\r\nContent-Length: 5\r\n"
                                   "Expect: 100-continue\r\n\r\n".encode())
                assert connection.recv(1000).startswith(b"HTTP/1.1 100")
            answer = http.get(f"{running.url}/")
            assert answer.status_code == 503
            assert answer.headers["Retry-After"]
            assert answer.json()["errors"][0]["code"] == "TOOMANYREQUESTS"
            one.sendall(b"12345")
            assert one.recv(1000).startswith(b"HTTP/1.1 202")
        wait_for(lambda: http.get(f"{running.url}/").status_code == 200)


def test_too_many_unfinished_uploads_are_429(serve, tmp_path, http):
    with serve(tmp_path, limits={"uploads": 2}) as running:
        locations = [http.post(f"{running.url}/a/blobs/uploads/").headers["Location"] for _ in range(2)]
        assert http.post(f"{running.url}/a/blobs/uploads/").status_code == 429
        http.delete(urljoin(running.url, locations[0]))
        assert http.post(f"{running.url}/a/blobs/uploads/").status_code == 202


@pytest.mark.parametrize("how", ["post", "put", "patch"])
def test_a_blob_larger_than_configured_is_413(serve, tmp_path, http, how):
    with serve(tmp_path, limits={"blob": "100kB"}) as running:
        if how == "post":
            answer = http.post(f"{running.url}/a/blobs/uploads/", params={"digest": DIGEST}, data=DATA)
        else:
            location = urljoin(running.url, http.post(f"{running.url}/a/blobs/uploads/").headers["Location"])
            answer = http.request(how, location, params={"digest": DIGEST}, data=DATA)
        assert answer.status_code == 413
        assert answer.json()["errors"][0]["code"] == "SIZE_INVALID"
        assert http.post(f"{running.url}/a/blobs/uploads/", params={"digest": digest_bytes(b"x")}, data=b"x").ok


# Read-only

def test_a_read_only_registry_gives_and_takes_nothing(serve, tmp_path, pusher, http):
    with serve(tmp_path) as running:
        image = pusher(running.url, "a").image("v1")
    http.close()
    with serve(tmp_path, read_only=True) as running:
        repository = pusher(running.url, "a")
        assert repository.has(image)
        for method, path in (("POST", "blobs/uploads/"), ("PUT", "manifests/v2"), ("DELETE", "manifests/v1"),
                             ("DELETE", f"blobs/{DIGEST}"), ("PATCH", "blobs/uploads/" + "0" * 32)):
            answer = http.request(method, f"{repository.url}/{path}", data=b"{}")
            assert answer.status_code == 405
            assert answer.json()["errors"][0]["code"] == "UNSUPPORTED"
        assert repository.has(image)


# A full disk

@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], capture_output=True, text=True)
    if mount.returncode:
        pytest.skip(f"no file system can be mounted: {mount.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_on_a_full_disk_everything_is_507_nothing_breaks_and_deleting_helps(serve, small_disk, pusher, http):
    with serve(small_disk, lifespan="on", collection={"age": "0s", "interval": 0}) as running:
        repository = pusher(running.url, "a")
        image = repository.image("1.0.0", layer=os.urandom(800_000))
        location = urljoin(running.url, http.post(f"{running.url}/a/blobs/uploads/").headers["Location"])
        large = os.urandom(4 << 20)
        answer = http.patch(location, data=large)
        assert answer.status_code == 507
        assert "space" in answer.json()["errors"][0]["message"]
        filler = small_disk / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while file.write(b"x" * 4096):
                    pass
            except OSError:
                pass
        config = b"{}"
        document = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": [],
                    "config": {"mediaType": "x/y", "digest": digest_bytes(config), "size": 2}, "annotations": {"a": "b"}}
        answer = http.put(f"{running.url}/a/manifests/2.0.0", json=document,
                          headers={"Content-Type": document["mediaType"]})
        assert answer.status_code == 507, answer.text
        assert http.get(f"{running.url}/a/manifests/2.0.0").status_code == 404
        assert http.post(f"{running.url}/a/blobs/uploads/").status_code in (202, 507)
        assert repository.has(image), "what was there is whole"
        repository.delete(image)
        for session in (small_disk / "uploads").iterdir():
            http.delete(f"{running.url}/a/blobs/uploads/{session.name}")
        from fuseml_registry.collection.ownership import ask

        filler.unlink()
        ask(small_disk, {"work": "collect", "dry_run": False, "policy": {}}, 20)
        assert repository.has(repository.image("2.0.0", layer=os.urandom(800_000)))
        assert urlsplit(location).path


# Names

def test_pages_in_a_browser_can_do_nothing(serve, tmp_path, http):
    """DNS rebinding and cross-site requests: a registry without authentication answers to its own names only."""
    with serve(tmp_path) as running:
        assert http.get(f"{running.url}/", headers={"Host": "evil.example"}).status_code == 421
        url = f"{running.url}/a/blobs/uploads/"
        assert http.post(url, headers={"Origin": "http://evil.example"}).status_code == 403
        assert http.post(url).status_code == 202
        assert http.get(f"http://{running.host}/healthz").json()["status"] == "ok"
        assert http.get(f"http://{running.host}/elsewhere").status_code == 404


def test_a_client_that_goes_away_leaves_nothing_behind(serve, tmp_path, http):
    with serve(tmp_path) as running:
        with connect(running) as connection:
            connection.sendall(f"POST /v2/a/blobs/uploads/?digest={DIGEST} HTTP/1.1\r\nHost: {running.host}\r\n"
                               f"Content-Length: {len(DATA)}\r\n\r\n".encode() + DATA[:1000])
        wait_for(lambda: not list((tmp_path / "uploads").iterdir()))
        assert requests.get(f"{running.url}/a/blobs/{DIGEST}").status_code == 404
