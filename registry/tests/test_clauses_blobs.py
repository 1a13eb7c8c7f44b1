"""distribution-spec 1.1 and draft, clause by clause: determining support, pulling, pushing and deleting blobs.

Each test is named for the endpoint in the table "Endpoints" of the specification; its docstring names the section.
"""

from __future__ import annotations

import os
import threading
import uuid
from urllib.parse import urljoin, urlsplit

import pytest
import requests

from fuseml_oci import media
from fuseml_oci.digests import digest_bytes

ALGORITHMS = pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
CONTENTS = {"empty": b"", "empty-json": b"{}", "one-byte": b"x", "two-batches": os.urandom((1 << 20) + 7)}
CONTENT = pytest.mark.parametrize("data", CONTENTS.values(), ids=CONTENTS)
CHUNK = 10_000
DATA = os.urandom(3 * CHUNK + 17)


@pytest.fixture
def base(server):
    """URL of a new repository."""
    return f"{server.url}/clauses/{uuid.uuid4().hex}"


def error(answer, status, code):
    """Demand an error as in "Error Codes": a status, a JSON body, a code, and a message for people."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    (first,) = answer.json()["errors"]
    assert first["code"] == code
    assert first["message"]


def begin(http, base, query=""):
    answer = http.post(f"{base}/blobs/uploads/{query}")
    assert answer.status_code == 202
    assert answer.content == b""
    return urljoin(base, answer.headers["Location"])


def chunk(http, location, first, data):
    return http.patch(location, data=data, headers={"Content-Range": f"{first}-{first + len(data) - 1}",
                                                    "Content-Type": "application/octet-stream"})


def push(http, base, data, algorithm="sha256"):
    digest = digest_bytes(data, algorithm)
    assert http.post(f"{base}/blobs/uploads/", params={"digest": digest}, data=data).status_code == 201
    return digest


# end-1

@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_end_1_version_check(server, http, method):
    """Determining Support: a GET to /v2/ answers 200 if the registry implements the specification."""
    assert http.request(method, f"{server.url}/").status_code == 200


# end-2

@ALGORITHMS
@CONTENT
def test_end_2_get_and_head_of_a_blob(http, base, algorithm, data):
    """Pulling blobs: 200 with the bytes; Docker-Content-Digest in the algorithm asked for; HEAD has the length too."""
    digest = push(http, base, data, algorithm)
    for method in ("GET", "HEAD"):
        answer = http.request(method, f"{base}/blobs/{digest}")
        assert answer.status_code == 200
        assert answer.headers["Docker-Content-Digest"] == digest
        assert answer.headers["Content-Length"] == str(len(data))
        assert answer.content == (data if method == "GET" else b"")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_end_2_a_blob_that_is_not_there(http, base, method):
    """Pulling blobs: 404; the body of GET should name BLOB_UNKNOWN (code-1)."""
    answer = http.request(method, f"{base}/blobs/{digest_bytes(b'never pushed')}")
    if method == "GET":
        error(answer, 404, "BLOB_UNKNOWN")
    else:
        assert (answer.status_code, answer.content) == (404, b"")


@pytest.mark.parametrize(("header", "start", "stop"), [("bytes=0-99", 0, 100), ("bytes=100-", 100, None), ("bytes=-1", -1, None)])
@ALGORITHMS
def test_end_2_ranges(http, base, algorithm, header, start, stop):
    """Pulling blobs: a registry should support the Range header of RFC 9110, with 206."""
    digest = push(http, base, DATA, algorithm)
    answer = http.get(f"{base}/blobs/{digest}", headers={"Range": header})
    assert answer.status_code == 206
    assert answer.content == DATA[start:stop]
    assert answer.headers["Docker-Content-Digest"] == digest


@ALGORITHMS
def test_end_2_a_range_behind_the_end(http, base, algorithm):
    """RFC 9110, 15.5.17: 416 with the length."""
    answer = http.get(f"{base}/blobs/{push(http, base, DATA, algorithm)}", headers={"Range": f"bytes={len(DATA)}-"})
    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == f"bytes */{len(DATA)}"


def test_end_2_a_blob_of_another_repository(http, server, base):
    """Pulling blobs: names the repository; that another one holds the blob is nobody's business here."""
    digest = push(http, f"{server.url}/clauses/elsewhere", os.urandom(100))
    error(http.get(f"{base}/blobs/{digest}"), 404, "BLOB_UNKNOWN")


# end-4a, end-6

@ALGORITHMS
@CONTENT
def test_end_4a_end_6_post_then_put(http, base, algorithm, data):
    """POST then PUT: 202 with Location, then 201 with the blob's Location."""
    digest = digest_bytes(data, algorithm)
    answer = http.put(begin(http, base), params={"digest": digest}, data=data,
                      headers={"Content-Type": "application/octet-stream"})
    assert answer.status_code == 201
    assert answer.headers["Docker-Content-Digest"] == digest
    assert http.get(urljoin(base, answer.headers["Location"])).content == data


def test_end_4a_location_keeps_what_it_carries(http, base):
    """POST then PUT: the Location may contain parameters; the client appends the digest to it as it is."""
    location = begin(http, base)
    joined = f"{location}{'&' if urlsplit(location).query else '?'}digest={digest_bytes(DATA)}"
    assert http.put(joined, data=DATA).status_code == 201


# end-4b

@ALGORITHMS
@CONTENT
def test_end_4b_single_post(http, base, algorithm, data):
    """Single POST: 201 when the registry takes the blob at once."""
    digest = digest_bytes(data, algorithm)
    answer = http.post(f"{base}/blobs/uploads/", params={"digest": digest}, data=data)
    assert answer.status_code == 201
    assert http.get(urljoin(base, answer.headers["Location"])).content == data


@ALGORITHMS
def test_end_4b_wrong_digest(http, base, algorithm):
    """Single POST: content that does not match is 400 DIGEST_INVALID (code-4) and stays invisible."""
    wrong = digest_bytes(b"something else", algorithm)
    error(http.post(f"{base}/blobs/uploads/", params={"digest": wrong}, data=DATA), 400, "DIGEST_INVALID")
    for digest in (wrong, digest_bytes(DATA, algorithm)):
        assert http.head(f"{base}/blobs/{digest}").status_code == 404


# end-4c

@ALGORITHMS
def test_end_4c_the_algorithm_is_announced(http, base, algorithm):
    """POST with digest-algorithm: the session hashes on the way with what the client will use."""
    location = begin(http, base, f"?digest-algorithm={algorithm}")
    assert http.put(location, params={"digest": digest_bytes(DATA, algorithm)}, data=DATA).status_code == 201


def test_end_4c_an_algorithm_that_is_not_supported(http, base):
    """POST with digest-algorithm: 400 for one the registry does not know."""
    error(http.post(f"{base}/blobs/uploads/?digest-algorithm=crc32"), 400, "DIGEST_INVALID")


@pytest.mark.parametrize(("announced", "used"), [("sha256", "sha512"), ("sha512", "sha256")])
def test_end_4c_another_algorithm_than_announced(http, base, announced, used):
    """POST with digest-algorithm is a hint: the digest of the closing PUT decides."""
    location = begin(http, base, f"?digest-algorithm={announced}")
    assert http.put(location, params={"digest": digest_bytes(DATA, used)}, data=DATA).status_code == 201


# end-5

@ALGORITHMS
@pytest.mark.parametrize("closing", [False, True], ids=["all-patched", "last-chunk-in-put"])
def test_end_5_chunks_in_order(http, base, algorithm, closing):
    """Pushing a blob in chunks: 202 with Range and Location after each; the closing PUT may bring the last one."""
    location = begin(http, base, f"?digest-algorithm={algorithm}")
    pieces = [(first, DATA[first:first + CHUNK]) for first in range(0, len(DATA), CHUNK)]
    last = pieces.pop() if closing else None
    for first, data in pieces:
        answer = chunk(http, location, first, data)
        assert answer.status_code == 202
        assert answer.headers["Range"] == f"0-{first + len(data) - 1}"
        location = urljoin(base, answer.headers["Location"])
    headers = {"Content-Range": f"{last[0]}-{len(DATA) - 1}"} if last else {}
    digest = digest_bytes(DATA, algorithm)
    answer = http.put(location, params={"digest": digest}, data=last[1] if last else b"", headers=headers)
    assert answer.status_code == 201
    assert http.get(f"{base}/blobs/{digest}").content == DATA


def test_end_5_one_chunk_is_a_stream(http, base):
    """Pushing a blob in chunks: PATCH without Content-Range streams; the length need not be known."""
    location = begin(http, base)
    answer = http.patch(location, data=iter([DATA[:100], DATA[100:]]))
    assert answer.status_code == 202
    assert http.put(urljoin(base, answer.headers["Location"]), params={"digest": digest_bytes(DATA)}).status_code == 201


@pytest.mark.parametrize("first", [0, CHUNK - 1, CHUNK + 1, 10 * CHUNK], ids=["again", "overlap", "gap", "far"])
def test_end_5_chunks_out_of_order(http, base, first):
    """Pushing a blob in chunks: 416 for a chunk that does not follow the last; what arrived stays."""
    location = begin(http, base)
    chunk(http, location, 0, DATA[:CHUNK])
    answer = chunk(http, location, first, DATA[CHUNK:2 * CHUNK])
    assert answer.status_code == 416
    assert answer.headers["Range"] == f"0-{CHUNK - 1}"
    assert chunk(http, location, CHUNK, DATA[CHUNK:]).status_code == 202
    assert http.put(location, params={"digest": digest_bytes(DATA)}).status_code == 201


def test_end_5_a_first_chunk_that_does_not_begin_at_zero(http, base):
    """Pushing a blob in chunks: the first chunk's range must begin with 0."""
    assert chunk(http, begin(http, base), 1, DATA[:CHUNK]).status_code == 416


@pytest.mark.parametrize("announced", [CHUNK - 1, CHUNK + 1], ids=["longer", "shorter"])
def test_end_5_a_chunk_of_another_length_than_announced(http, base, announced):
    """Pushing a blob in chunks: Content-Range is inclusive at both ends and must match the body."""
    location = begin(http, base)
    answer = http.patch(location, data=DATA[:CHUNK], headers={"Content-Range": f"0-{announced - 1}"})
    error(answer, 400, "SIZE_INVALID")
    assert chunk(http, location, 0, DATA).status_code == 202
    assert http.put(location, params={"digest": digest_bytes(DATA)}).status_code == 201


def test_end_5_two_clients_of_one_session_never_mix_their_bytes(http, base):
    """Pushing a blob in chunks is sequential: of chunks sent at once, one is taken, the others refused."""
    location = begin(http, base)
    statuses = []

    def send():
        with requests.Session() as session:
            session.trust_env = False
            statuses.append(chunk(session, location, 0, DATA).status_code)

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses.count(202) == 1
    assert set(statuses) <= {202, 409, 416}
    assert http.put(location, params={"digest": digest_bytes(DATA)}).status_code == 201


# end-6

@pytest.mark.parametrize("digest", ["", "sha256", "sha256:", "sha256:abc", "md5:d41d8cd98f00b204e9800998ecf8427e",
                                    "sha256:" + "G" * 64, "../../etc/passwd", "sha256:" + "a" * 65])
def test_end_6_malformed_digests(http, base, digest):
    """PUT: a digest that is none is 400 DIGEST_INVALID (code-4)."""
    error(http.put(begin(http, base), params={"digest": digest}, data=DATA), 400, "DIGEST_INVALID")


@ALGORITHMS
def test_end_6_wrong_digest(http, base, algorithm):
    """PUT: content that does not match is 400; nothing becomes visible."""
    wrong = digest_bytes(b"else", algorithm)
    error(http.put(begin(http, base), params={"digest": wrong}, data=DATA), 400, "DIGEST_INVALID")
    assert http.head(f"{base}/blobs/{wrong}").status_code == 404


def test_end_6_a_closing_chunk_out_of_order(http, base):
    """PUT: the draft demands 416 for the last chunk too."""
    location = begin(http, base)
    chunk(http, location, 0, DATA[:CHUNK])
    answer = http.put(location, params={"digest": digest_bytes(DATA)}, data=DATA[CHUNK:],
                      headers={"Content-Range": f"{CHUNK + 1}-{len(DATA)}"})
    assert answer.status_code == 416
    assert http.get(location).headers["Range"] == f"0-{CHUNK - 1}"


@pytest.mark.parametrize("method", ["PUT", "PATCH", "GET", "DELETE"])
@pytest.mark.parametrize("key", ["0" * 32, "not-a-session", "a" * 4000])
def test_end_5_end_6_end_13_end_14_unknown_sessions(http, base, method, key):
    """404 BLOB_UPLOAD_UNKNOWN (code-3)."""
    answer = http.request(method, f"{base}/blobs/uploads/{key}", params={"digest": digest_bytes(DATA)}, data=DATA)
    error(answer, 404, "BLOB_UPLOAD_UNKNOWN")


# end-10

@ALGORITHMS
def test_end_10_delete_a_blob(http, base, algorithm):
    """Deleting Blobs: 202, and 404 from then on."""
    url = f"{base}/blobs/{push(http, base, DATA, algorithm)}"
    assert http.delete(url).status_code == 202
    for method in ("GET", "HEAD", "DELETE"):
        assert http.request(method, url).status_code == 404


def test_end_10_a_deleted_blob_can_be_pushed_again(http, base):
    """Deleting Blobs says nothing for ever."""
    digest = push(http, base, DATA)
    http.delete(f"{base}/blobs/{digest}")
    assert push(http, base, DATA) == digest
    assert http.get(f"{base}/blobs/{digest}").content == DATA


# end-11

@ALGORITHMS
@pytest.mark.parametrize("named", [True, False], ids=["from", "anonymous"])
def test_end_11_mount(http, server, base, algorithm, named):
    """Mounting a blob: 201 with the Location in the new repository; `from` may be left out."""
    data, source = os.urandom(1000), f"clauses/{uuid.uuid4().hex}"
    digest = push(http, f"{server.url}/{source}", data, algorithm)
    answer = http.post(f"{base}/blobs/uploads/", params={"mount": digest} | ({"from": source} if named else {}))
    assert answer.status_code == 201
    assert urljoin(base, answer.headers["Location"]) == f"{base}/blobs/{digest}"
    assert http.get(f"{base}/blobs/{digest}").content == data


@pytest.mark.parametrize("source", ["clauses/none", None], ids=["from", "anonymous"])
def test_end_11_mount_of_what_is_missing(http, base, source):
    """Mounting a blob: 202 with an upload session, so that the client goes on by pushing."""
    data = os.urandom(100)
    answer = http.post(f"{base}/blobs/uploads/", params={"mount": digest_bytes(data), "from": source})
    assert answer.status_code == 202
    location = urljoin(base, answer.headers["Location"])
    assert http.put(location, params={"digest": digest_bytes(data)}, data=data).status_code == 201


@pytest.mark.parametrize("query", [{"mount": "sha256:zz", "from": "a/b"}, {"mount": digest_bytes(b""), "from": "A/../B"}])
def test_end_11_nonsense(http, base, query):
    """Mounting a blob: malformed digests and names are 400."""
    assert http.post(f"{base}/blobs/uploads/", params=query).status_code == 400


def test_end_11_a_mounted_blob_outlives_its_source(http, server, base):
    """Mounting a blob makes it this repository's own."""
    source = f"{server.url}/clauses/{uuid.uuid4().hex}"
    digest = push(http, source, DATA)
    http.post(f"{base}/blobs/uploads/", params={"mount": digest, "from": source.partition("/v2/")[2]})
    http.delete(f"{source}/blobs/{digest}")
    assert http.get(f"{base}/blobs/{digest}").content == DATA


# end-13, end-14

def test_end_13_progress_of_an_upload(http, base):
    """Getting upload status: 204 with Location and Range."""
    location = begin(http, base)
    assert http.get(location).status_code == 204
    chunk(http, location, 0, DATA[:CHUNK])
    answer = http.get(location)
    assert (answer.status_code, answer.headers["Range"], answer.content) == (204, f"0-{CHUNK - 1}", b"")
    location = urljoin(base, answer.headers["Location"])
    assert chunk(http, location, CHUNK, DATA[CHUNK:]).status_code == 202


def test_end_14_cancel(http, base):
    """Canceling an upload: 204, and the session is unknown from then on."""
    location = begin(http, base)
    chunk(http, location, 0, DATA)
    assert http.delete(location).status_code == 204
    error(http.put(location, params={"digest": digest_bytes(DATA)}), 404, "BLOB_UPLOAD_UNKNOWN")


# Names

@pytest.mark.parametrize("name", ["A", "a/B", "a//b", "/a", "a/", "a/-b", "a..b", "a/.b", "ä", "a b", "a_/b", "x" * 256])
def test_names_that_are_none(http, server, name):
    """Pulling manifests: the grammar of <name>; 400 NAME_INVALID (code-7), or 404 where no endpoint matches."""
    answer = http.get(f"{server.url}/{name}/tags/list")
    assert answer.status_code in (400, 404)
    assert answer.json()["errors"][0]["code"] in ("NAME_INVALID", "NAME_UNKNOWN")


@pytest.mark.parametrize("name", ["a", "a/b", "a-b", "a--b", "a_b", "a__b", "a.b", "0/1/2", "x" * 255, "a/" * 100 + "a",
                                  "blobs", "uploads/blobs", "manifests/tags", "tags/list/manifests", "referrers/x"])
def test_names_that_are_some(http, server, name):
    """Pulling manifests: the grammar of <name>, words of the endpoints among them."""
    base = f"{server.url}/{name}"
    digest = push(http, base, DATA)
    assert http.get(f"{base}/blobs/{digest}").content == DATA
    config = {"mediaType": media.EMPTY, "digest": push(http, base, b"{}"), "size": 2}
    document = {"schemaVersion": 2, "mediaType": media.MANIFEST, "config": config, "layers": []}
    assert http.put(f"{base}/manifests/blobs", json=document,
                    headers={"Content-Type": media.MANIFEST}).status_code == 201
    assert http.get(f"{base}/tags/list").json() == {"name": name, "tags": ["blobs"]}
