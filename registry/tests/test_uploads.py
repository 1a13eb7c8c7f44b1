"""distribution-spec 1.1 and draft, "Pushing blobs" (end-4, 5, 6, 11, 13, 14)."""

from __future__ import annotations

import os
import socket
import time
import uuid
from urllib.parse import urljoin, urlsplit

import pytest

from fuseml_oci.digests import digest_bytes

DATA = os.urandom(2_500_000)
DIGEST = digest_bytes(DATA)


@pytest.fixture
def name():
    return f"uploads/{uuid.uuid4().hex}"


def start(http, url, name, query=""):
    answer = http.post(f"{url}/{name}/blobs/uploads/{query}")
    assert answer.status_code == 202, answer.text
    return urljoin(url, answer.headers["Location"])


def kept(answer):
    return answer.headers["Range"]


def test_post_then_put(server, http, name):
    location = start(http, server.url, name)
    answer = http.put(location, params={"digest": DIGEST}, data=DATA)
    assert answer.status_code == 201
    assert answer.headers["Docker-Content-Digest"] == DIGEST
    assert http.get(urljoin(server.url, answer.headers["Location"])).content == DATA


def test_single_post_with_digest(server, http, name):
    answer = http.post(f"{server.url}/{name}/blobs/uploads/", params={"digest": DIGEST}, data=DATA)
    assert answer.status_code == 201
    assert http.get(urljoin(server.url, answer.headers["Location"])).content == DATA


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_chunks_then_put_with_the_last_chunk(server, http, name, algorithm):
    location = start(http, server.url, name, f"?digest-algorithm={algorithm}")
    for first in (0, 1_000_000):
        chunk = DATA[first:first + 1_000_000]
        answer = http.patch(location, data=chunk, headers={"Content-Range": f"{first}-{first + len(chunk) - 1}"})
        assert answer.status_code == 202
        assert kept(answer) == f"0-{first + len(chunk) - 1}"
        location = urljoin(server.url, answer.headers["Location"])
        status = http.get(location)
        assert (status.status_code, kept(status)) == (204, f"0-{first + len(chunk) - 1}")
    digest = digest_bytes(DATA, algorithm)
    last = {"Content-Range": f"2000000-{len(DATA) - 1}"}
    assert http.put(location, params={"digest": digest}, data=DATA[2_000_000:], headers=last).status_code == 201
    assert http.get(f"{server.url}/{name}/blobs/{digest}").content == DATA
    assert http.get(location).status_code == 404, "a finished session is gone"


def test_streamed_patch_without_content_range(server, http, name):
    location = start(http, server.url, name)
    answer = http.patch(location, data=(DATA[n:n + 65536] for n in range(0, len(DATA), 65536)))
    assert answer.status_code == 202
    assert http.put(location, params={"digest": DIGEST}).status_code == 201


def test_a_digest_of_another_algorithm_than_announced_is_computed_from_the_file(server, http, name):
    location = start(http, server.url, name)
    digest = digest_bytes(DATA, "sha512")
    assert http.put(location, params={"digest": digest}, data=DATA).status_code == 201


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_chunks_out_of_order_are_416_and_change_nothing(server, http, name, method):
    location = start(http, server.url, name)
    assert http.patch(location, data=DATA[:100], headers={"Content-Range": "0-99"}).status_code == 202
    for header in ("0-99", "200-299"):
        answer = http.request(method, location, params={"digest": DIGEST}, data=DATA[:100],
                              headers={"Content-Range": header})
        assert answer.status_code == 416
        assert kept(answer) == "0-99"
        assert answer.headers["Location"]
    assert http.put(location, params={"digest": DIGEST}, data=DATA[100:]).status_code == 201


@pytest.mark.parametrize("header", ["x", "5", "9-0", "bytes 0-4/5"])
def test_malformed_content_range_is_400(server, http, name, header):
    location = start(http, server.url, name)
    assert http.patch(location, data=b"12345", headers={"Content-Range": header}).status_code == 400


def test_chunk_of_another_length_than_announced_is_refused_whole(server, http, name):
    location = start(http, server.url, name)
    assert http.patch(location, data=b"12345", headers={"Content-Range": "0-99"}).status_code == 400
    assert kept(http.get(location)) == "0-0"
    assert http.put(location, params={"digest": DIGEST}, data=DATA).status_code == 201


def test_wrong_digest_is_400_and_the_same_session_takes_the_right_bytes(server, http, name):
    location = start(http, server.url, name)
    answer = http.put(location, params={"digest": DIGEST}, data=b"something else")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["code"] == "DIGEST_INVALID"
    assert http.head(f"{server.url}/{name}/blobs/{DIGEST}").status_code == 404
    assert http.put(location, params={"digest": DIGEST}, data=DATA).status_code == 201


@pytest.mark.parametrize("query", ["", "?digest=", "?digest=sha256:1", "?digest=md5:00"])
def test_put_without_a_proper_digest_is_400(server, http, name, query):
    location = start(http, server.url, name)
    assert http.put(location + query, data=DATA).status_code == 400


def test_wrong_digest_of_a_single_post_leaves_nothing(server, http, name):
    answer = http.post(f"{server.url}/{name}/blobs/uploads/", params={"digest": DIGEST}, data=b"no")
    assert answer.status_code == 400
    assert not list((server.root / "blobs").rglob(digest_bytes(b"no")[7:]))


def test_unknown_algorithm_is_400(server, http, name):
    assert http.post(f"{server.url}/{name}/blobs/uploads/?digest-algorithm=md5").status_code == 400


def test_cancel(server, http, name):
    location = start(http, server.url, name)
    http.patch(location, data=DATA)
    assert http.delete(location).status_code == 204
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        answer = http.request(method, location, params={"digest": DIGEST})
        assert answer.status_code == 404
        assert method == "HEAD" or answer.json()["errors"][0]["code"] == "BLOB_UPLOAD_UNKNOWN"


def test_sessions_belong_to_their_repository(server, http, name):
    location = start(http, server.url, name)
    key = urlsplit(location).path.rpartition("/")[2]
    assert http.get(f"{server.url}/other/blobs/uploads/{key}").status_code == 404
    assert http.get(f"{server.url}/{name}/blobs/uploads/..").status_code == 404


@pytest.mark.parametrize("source", ["&from={name}", ""], ids=["named", "anonymous"])
def test_mount(server, http, name, source):
    http.post(f"{server.url}/{name}/blobs/uploads/", params={"digest": DIGEST}, data=DATA)
    target = f"{name}-copy{len(source)}"
    answer = http.post(f"{server.url}/{target}/blobs/uploads/?mount={DIGEST}{source.format(name=name)}")
    assert answer.status_code == 201
    assert http.get(urljoin(server.url, answer.headers["Location"])).content == DATA


def test_mount_of_what_is_missing_opens_a_session(server, http, name):
    digest = digest_bytes(b"missing")
    location = start(http, server.url, name, f"?mount={digest}&from=no/where")
    assert http.put(location, params={"digest": digest}, data=b"missing").status_code == 201


def test_interrupted_patch_keeps_what_arrived(server, http, name):
    location = start(http, server.url, name)
    cut(server, location, "PATCH", 1 << 20)
    deadline = time.monotonic() + 10
    while kept(http.get(location)) == "0-0":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    offset = int(kept(http.get(location)).partition("-")[2]) + 1
    assert 0 < offset <= 1 << 20
    rest = {"Content-Range": f"{offset}-{len(DATA) - 1}"}
    assert http.put(location, params={"digest": DIGEST}, data=DATA[offset:], headers=rest).status_code == 201


def test_interrupted_put_can_be_sent_again(server, http, name):
    location = start(http, server.url, name)
    cut(server, f"{location}?digest={DIGEST}", "PUT", 1_500_000)
    deadline = time.monotonic() + 10
    while (answer := http.put(location, params={"digest": DIGEST}, data=DATA)).status_code != 201:
        assert answer.status_code == 409, "the server has not noticed the broken connection yet"
        assert time.monotonic() < deadline
        time.sleep(0.05)


def cut(server, location, method, count):
    """Send a part of a body and drop the connection."""
    host, _, port = server.host.partition(":")
    parts = urlsplit(location)
    with socket.create_connection((host, int(port)), 10) as connection:
        connection.sendall(f"{method} {parts.path}?{parts.query} HTTP/1.1\r\nHost: {server.host}\r\n"
                           f"Content-Length: {len(DATA)}\r\n\r\n".encode())
        connection.sendall(DATA[:count])


def test_two_requests_at_once_do_not_mix(server, http, name):
    location = start(http, server.url, name)
    host, _, port = server.host.partition(":")
    with socket.create_connection((host, int(port)), 10) as connection:
        connection.sendall(f"PATCH {urlsplit(location).path} HTTP/1.1\r\nHost: {server.host}\r\n"
                           "Content-Length: 5\r\nExpect: 100-continue\r\n\r\n".encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 100"), "now the server waits for the body"
        assert http.patch(location, data=b"other").status_code == 409
        connection.sendall(b"first")
        assert connection.recv(1000).startswith(b"HTTP/1.1 202")
    assert http.put(location, params={"digest": digest_bytes(b"first")}).status_code == 201


def test_sessions_expire(serve, tmp_path, http):
    with serve(tmp_path, upload_expiry=0.4) as running:
        old = start(http, running.url, "a/b")
        time.sleep(0.7)
        start(http, running.url, "a/b")
        assert http.get(old).status_code == 404
        assert len(list((tmp_path / "uploads").iterdir())) == 1


def test_sessions_survive_a_restart(serve, tmp_path, http):
    with serve(tmp_path) as running:
        location = start(http, running.url, "a/b")
        assert http.patch(location, data=DATA[:1_000_000]).status_code == 202
    http.close()
    with serve(tmp_path) as running:
        location = urljoin(running.url, urlsplit(location).path)
        assert kept(http.get(location)) == "0-999999"
        assert http.put(location, params={"digest": DIGEST}, data=DATA[1_000_000:]).status_code == 201
        assert http.get(f"{running.url}/a/b/blobs/{DIGEST}").content == DATA


def test_full_disk_is_507_with_a_message_and_keeps_the_session(process, tmp_path, http):
    with process(tmp_path, file_limit=1_200_000) as (_, url):
        location = start(http, url, "a/b")
        assert http.patch(location, data=DATA[:1000]).status_code == 202
        answer = http.patch(location, data=DATA[1000:])
        assert answer.status_code == 507
        assert "space" in answer.json()["errors"][0]["message"]
        offset = int(kept(http.get(location)).partition("-")[2]) + 1
        assert 1000 <= offset < 1_200_000
        small = DATA[:offset] + b"end"
        assert http.put(location, params={"digest": digest_bytes(small)}, data=b"end").status_code == 201
