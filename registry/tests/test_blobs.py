"""distribution-spec 1.1, "Pulling blobs" and "Deleting Blobs" (end-2, end-10)."""

from __future__ import annotations

import os
import uuid

import pytest
import requests

from fuseml_oci.digests import digest_bytes

DATA = bytes(range(256)) * 8000


@pytest.fixture
def blob(client):
    name, digest = f"blobs/{uuid.uuid4().hex}", digest_bytes(DATA)
    client.push_blob(name, DATA, digest, "application/octet-stream")
    return name, digest


def test_r65_get_and_head_name_the_digest(server, http, blob):
    name, digest = blob
    url = f"{server.url}/{name}/blobs/{digest}"
    for method in ("GET", "HEAD"):
        answer = http.request(method, url)
        assert answer.status_code == 200
        assert answer.headers["Docker-Content-Digest"] == digest
        assert answer.headers["Content-Length"] == str(len(DATA))
        assert answer.content == (DATA if method == "GET" else b"")


@pytest.mark.parametrize(("header", "start", "stop"), [
    ("bytes=0-0", 0, 1), ("bytes=10-19", 10, 20), ("bytes=2047000-", 2047000, len(DATA)),
    ("bytes=-7", len(DATA) - 7, len(DATA)), ("bytes=5-99999999", 5, len(DATA)), ("bytes=-99999999", 0, len(DATA)),
])
def test_range_requests_give_206(server, http, blob, header, start, stop):
    answer = http.get(f"{server.url}/{blob[0]}/blobs/{blob[1]}", headers={"Range": header})
    assert answer.status_code == 206
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(DATA)}"
    assert answer.content == DATA[start:stop]


@pytest.mark.parametrize("header", [f"bytes={len(DATA)}-", "bytes=20-10", "bytes=-0", "bytes=99999999999999-"])
def test_unsatisfiable_ranges_give_416(server, http, blob, header):
    answer = http.get(f"{server.url}/{blob[0]}/blobs/{blob[1]}", headers={"Range": header})
    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == f"bytes */{len(DATA)}"


@pytest.mark.parametrize("header", ["bytes=", "bytes=a-b", "lines=0-3", "bytes=0-1,4-5", "bytes=-"])
def test_ranges_that_may_be_ignored_give_everything(server, http, blob, header):
    answer = http.get(f"{server.url}/{blob[0]}/blobs/{blob[1]}", headers={"Range": header})
    assert answer.status_code == 200
    assert answer.content == DATA


@pytest.mark.parametrize("digest", [
    "sha256:zz", "sha256:" + "A" * 64, "sha256", "md5:" + "0" * 32, "sha256:..%2F..%2Fetc", "sha256:" + "0" * 63,
])
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_malformed_digests_are_400(server, http, digest, method):
    answer = http.request(method, f"{server.url}/some/name/blobs/{digest}")
    assert answer.status_code in (400, 404)
    if "%2F" not in digest:
        assert answer.status_code == 400
    if method == "GET" and answer.status_code == 400:
        assert answer.json()["errors"][0]["code"] == "DIGEST_INVALID"


@pytest.mark.parametrize("name", ["UPPER", "a//b", "a/../b", "-a", "a_", "a" * 256, "a/_blobs"])
def test_malformed_names_are_refused(server, http, name):
    path = f"{server.url}/{name}/blobs/{digest_bytes(b'')}"
    request = http.prepare_request(requests.Request("GET", path))
    request.url = path  # requests would resolve the dots
    answer = http.send(request)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["code"] == "NAME_INVALID"


def test_unknown_blobs_are_404(server, http):
    answer = http.get(f"{server.url}/no/such/blobs/{digest_bytes(b'nothing')}")
    assert answer.status_code == 404
    assert answer.json()["errors"][0]["code"] == "BLOB_UNKNOWN"


def test_a_blob_belongs_to_the_repositories_that_took_it(server, http, blob):
    assert http.head(f"{server.url}/another/place/blobs/{blob[1]}").status_code == 404


def test_delete_takes_effect_at_once(server, http, blob):
    url = f"{server.url}/{blob[0]}/blobs/{blob[1]}"
    assert http.delete(url).status_code == 202
    assert http.get(url).status_code == 404
    assert http.delete(url).status_code == 404


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("data", [b"", b"{}", os.urandom(3 << 20)], ids=["empty", "json", "3MiB"])
def test_both_algorithms_and_sizes(client, server, http, algorithm, data):
    digest = digest_bytes(data, algorithm)
    client.push_blob("both/algorithms", data, digest, "x/y")
    answer = http.get(f"{server.url}/both/algorithms/blobs/{digest}")
    assert answer.content == data
    assert answer.headers["Docker-Content-Digest"] == digest


def test_other_paths_and_methods_are_errors_in_json(server, http):
    assert http.get(f"{server.url}/a/b/nonsense").json()["errors"]
    answer = http.post(f"{server.url}/a/b/tags/list")
    assert answer.status_code == 405
    assert "GET" in answer.headers["Allow"]
