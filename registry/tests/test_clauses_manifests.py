"""distribution-spec 1.1 and draft, clause by clause: manifests, tags, referrers, and deleting them.

Each test is named for the endpoint in the table "Endpoints" of the specification; its docstring names the section.
"""

from __future__ import annotations

import base64
import json
import os
import threading
import uuid

import pytest
import requests

from fuseml_oci import media
from fuseml_oci.digests import digest_bytes

ALGORITHMS = pytest.mark.parametrize("algorithm", ["sha256", "sha512"])


class Repository:
    """A new repository, and how to fill it."""

    def __init__(self, http, base):
        self.http, self.base = http, base

    def blob(self, data, algorithm="sha256", kind="application/octet-stream"):
        digest = digest_bytes(data, algorithm)
        assert self.http.post(f"{self.base}/blobs/uploads/", params={"digest": digest}, data=data).status_code == 201
        return {"mediaType": kind, "digest": digest, "size": len(data)}

    def image(self, algorithm="sha256", **more):
        return {"schemaVersion": 2, "mediaType": media.MANIFEST, "config": self.blob(b"{}", algorithm, media.EMPTY),
                "layers": [self.blob(os.urandom(50), algorithm)], **more}

    def put(self, document, reference="", algorithm="sha256", query=""):
        """Push by a reference, or by digest without one. Returns (answer, descriptor, bytes)."""
        data = json.dumps(document).encode()
        digest = digest_bytes(data, algorithm)
        answer = self.http.put(f"{self.base}/manifests/{reference or digest}{query}", data=data,
                               headers={"Content-Type": document["mediaType"]})
        return answer, {"mediaType": document["mediaType"], "digest": digest, "size": len(data)}, data

    def get(self, reference, method="GET"):
        return self.http.request(method, f"{self.base}/manifests/{reference}")

    def tags(self, query=""):
        return self.http.get(f"{self.base}/tags/list{query}").json()["tags"]

    def referrers(self, digest, query=""):
        return self.http.get(f"{self.base}/referrers/{digest}{query}")


@pytest.fixture
def repository(server, http):
    return Repository(http, f"{server.url}/clauses/{uuid.uuid4().hex}")


def index(*members, **more):
    return {"schemaVersion": 2, "mediaType": media.INDEX, "manifests": list(members), **more}


def error(answer, status, code):
    assert answer.status_code == status, answer.text
    assert answer.json()["errors"][0]["code"] == code


KINDS = {
    "image": lambda r, a: r.image(a),
    "artifact": lambda r, a: r.image(a, artifactType="application/vnd.x"),
    "no-layers": lambda r, a: r.image(a, layers=[]),
    "custom-fields": lambda r, a: r.image(a, **{"io.example": {"deep": [1, None, "ü"]}}),
    "data-field": lambda r, a: r.image(a, layers=[{**r.blob(b"inline", a), "data": base64.b64encode(b"inline").decode()}]),
    "annotations": lambda r, a: r.image(a, annotations={"b": "1", "a": "2"}),
    "non-distributable": lambda r, a: r.image(a, layers=[{
        "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "size": 5,
        "digest": digest_bytes(os.urandom(5), a), "urls": ["https://example.invalid/layer"]}]),
    "index": lambda r, a: index(r.put(r.image(a), algorithm=a)[1]),
    "nested-index": lambda r, a: index(r.put(index(r.put(r.image(a), algorithm=a)[1]), algorithm=a)[1]),
    "artifact-index": lambda r, a: index(r.put(r.image(a), algorithm=a)[1], artifactType="application/vnd.y"),
    "empty-index": lambda r, a: index(),
    "sparse-index": lambda r, a: index({"mediaType": media.MANIFEST, "digest": digest_bytes(b"elsewhere", a), "size": 9}),
    "missing-subject": lambda r, a: r.image(a, subject={"mediaType": media.MANIFEST, "digest": digest_bytes(b"?", a), "size": 1}),
    "index-with-subject": lambda r, a: index(subject=r.put(r.image(a), algorithm=a)[1]),
}


# end-3, end-7a

@ALGORITHMS
@pytest.mark.parametrize("kind", KINDS)
def test_end_7a_end_3_every_kind_of_manifest_comes_back_byte_for_byte(repository, kind, algorithm):
    """Pushing Manifests: 201, Location, Docker-Content-Digest; the registry must store the exact bytes."""
    document = KINDS[kind](repository, algorithm)
    answer, descriptor, data = repository.put(document, algorithm=algorithm)
    assert answer.status_code == 201, answer.text
    assert answer.headers["Location"].endswith(f"/manifests/{descriptor['digest']}")
    assert answer.headers["Docker-Content-Digest"] == descriptor["digest"]
    if "subject" in document:
        assert answer.headers["OCI-Subject"] == document["subject"]["digest"]
    for method in ("GET", "HEAD"):
        found = repository.get(descriptor["digest"], method)
        assert found.status_code == 200
        assert found.headers["Content-Type"] == document["mediaType"]
        assert found.headers["Docker-Content-Digest"] == descriptor["digest"]
        assert found.headers["Content-Length"] == str(len(data))
        assert found.content == (data if method == "GET" else b"")


@pytest.mark.parametrize("tag", ["a", "_", "9", "A.b-C_d", "x" * 128])
def test_end_7a_end_3_by_tag(repository, tag):
    """Pushing Manifests: the grammar of tags."""
    answer, descriptor, data = repository.put(repository.image(), tag)
    assert answer.status_code == 201
    found = repository.get(tag)
    assert (found.content, found.headers["Docker-Content-Digest"]) == (data, descriptor["digest"])


@pytest.mark.parametrize("tag", ["-a", ".a", "a b", "a+b", "x" * 129, "ä"])
def test_end_7a_tags_that_are_none(repository, tag):
    """Pushing Manifests: 400 MANIFEST_INVALID (code-5), or 404 where no endpoint matches."""
    assert repository.put(repository.image(), tag)[0].status_code in (400, 404)


def test_end_7a_a_tag_moves_and_the_former_manifest_stays(repository):
    """Pushing Manifests: pushing under a tag again moves it."""
    _, first, _ = repository.put(repository.image(), "moving")
    _, second, _ = repository.put(repository.image(), "moving")
    assert repository.get("moving").headers["Docker-Content-Digest"] == second["digest"]
    assert repository.get(first["digest"]).status_code == 200


@ALGORITHMS
def test_end_7a_another_digest_than_the_contents(repository, algorithm):
    """Pushing Manifests: 400 DIGEST_INVALID (code-4)."""
    error(repository.put(repository.image(), digest_bytes(b"other", algorithm))[0], 400, "DIGEST_INVALID")


@pytest.mark.parametrize("missing", ["config", "layers"])
def test_end_7a_blobs_that_are_missing(repository, missing):
    """Pushing Manifests: 404 MANIFEST_BLOB_UNKNOWN (code-2)."""
    gone = {"mediaType": "a/b", "digest": digest_bytes(os.urandom(9)), "size": 9}
    document = repository.image(**{missing: gone if missing == "config" else [gone]})
    error(repository.put(document, "x")[0], 404, "MANIFEST_BLOB_UNKNOWN")
    assert repository.get("x").status_code == 404


def test_end_7a_blobs_of_another_repository_do_not_count(repository, server, http):
    """Pushing Manifests: blobs are pushed, or mounted, to the manifest's own repository."""
    other = Repository(http, f"{server.url}/clauses/other")
    error(repository.put(other.image(), "x")[0], 404, "MANIFEST_BLOB_UNKNOWN")


@pytest.mark.parametrize(("size", "status"), [(4 << 20, 201), ((4 << 20) + 1, 413)])
def test_end_7a_large_manifests(repository, size, status):
    """Pushing Manifests: at least 4 MiB should be accepted; 413 above the limit."""
    document = repository.image(annotations={"a": ""})
    document["annotations"]["a"] = "x" * (size - len(json.dumps(document)))
    assert repository.put(document, "large")[0].status_code == status


# end-7b

@ALGORITHMS
def test_end_7b_several_tags_at_once(repository, algorithm):
    """Pushing Manifests with tags: each `tag` parameter, and an OCI-Tag header for each tag set."""
    answer, descriptor, _ = repository.put(repository.image(algorithm), algorithm=algorithm, query="?tag=a&tag=b&tag=c")
    assert answer.status_code == 201
    assert [tag.strip() for tag in answer.headers["OCI-Tag"].split(",")] == ["a", "b", "c"]
    assert repository.tags() == ["a", "b", "c"]
    assert repository.get("b").headers["Docker-Content-Digest"] == descriptor["digest"]


def test_end_7b_one_bad_tag_sets_none(repository):
    """Pushing Manifests with tags: all or nothing."""
    assert repository.put(repository.image(), query="?tag=good&tag=.bad")[0].status_code == 400
    assert repository.http.get(f"{repository.base}/tags/list").json().get("tags", []) == []


# end-3

@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("reference", ["missing", digest_bytes(b"missing"), digest_bytes(b"missing", "sha512")])
def test_end_3_manifests_that_are_not_there(repository, method, reference):
    """Pulling manifests: 404 MANIFEST_UNKNOWN (code-6)."""
    answer = repository.get(reference, method)
    assert answer.status_code == 404
    if method == "GET":
        error(answer, 404, "MANIFEST_UNKNOWN")


@pytest.mark.parametrize("accept", ["", "*/*", media.MANIFEST, f"{media.INDEX}, {media.MANIFEST}", "text/plain"])
def test_end_3_the_accept_header_changes_nothing(repository, accept):
    """Pulling manifests: the client says what it understands; the registry never converts."""
    _, _, data = repository.put(repository.image(), "x")
    answer = repository.http.get(f"{repository.base}/manifests/x", headers={"Accept": accept})
    assert (answer.status_code, answer.content) == (200, data)


def test_end_3_a_blob_is_no_manifest(repository):
    """Pulling manifests: content that was pushed as a blob is not served as a manifest, and the other way round."""
    document = repository.image()
    data = json.dumps(document).encode()
    blob = repository.blob(data)
    error(repository.get(blob["digest"]), 404, "MANIFEST_UNKNOWN")
    _, other, _ = repository.put(repository.image())
    assert repository.http.get(f"{repository.base}/blobs/{other['digest']}").status_code == 404


# end-8

def test_end_8a_tags_in_order(repository):
    """Listing Tags: all tags, in lexical (ASCIIbetical) order."""
    document = repository.image()
    for tag in ("b", "a", "B", "1.10.0", "1.9.0", "_"):
        repository.put(document, tag)
    assert repository.tags() == ["1.10.0", "1.9.0", "B", "_", "a", "b"]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 10_000])
def test_end_8b_pages(repository, size):
    """Listing Tags: n limits, Link leads on, last begins after; n=0 is an empty list without a Link."""
    document = repository.image()
    for number in range(4):
        repository.put(document, f"t{number}")
    url, seen = f"{repository.base}/tags/list?n={size}", []
    for _ in range(10):
        answer = repository.http.get(url)
        page = answer.json()["tags"]
        assert len(page) <= size
        seen += page
        if "next" not in answer.links:
            break
        url = requests.compat.urljoin(url, answer.links["next"]["url"])
    assert seen == ([f"t{number}" for number in range(4)] if size else [])
    assert repository.tags("?last=t1") == ["t2", "t3"]
    assert repository.tags("?n=1&last=t1") == ["t2"]
    assert repository.tags("?last=zzz") == []


def test_end_8a_unknown_repositories(server, http):
    """Listing Tags: 404 NAME_UNKNOWN (code-8)."""
    error(http.get(f"{server.url}/clauses/{uuid.uuid4().hex}/tags/list"), 404, "NAME_UNKNOWN")


# end-9

def test_end_9_delete_a_tag_keeps_the_manifest(repository):
    """Deleting tags: 202; the manifest and its other tags stay."""
    document = repository.image()
    _, descriptor, _ = repository.put(document, "one")
    repository.put(document, "two")
    assert repository.http.delete(f"{repository.base}/manifests/one").status_code == 202
    error(repository.get("one"), 404, "MANIFEST_UNKNOWN")
    assert repository.tags() == ["two"]
    assert repository.get(descriptor["digest"]).status_code == 200


@ALGORITHMS
def test_end_9_delete_a_manifest(repository, algorithm):
    """Deleting Manifests: 202; it and its tags are gone at once, and can be pushed again."""
    document = repository.image(algorithm)
    _, descriptor, _ = repository.put(document, algorithm=algorithm, query="?tag=a&tag=b")
    assert repository.http.delete(f"{repository.base}/manifests/{descriptor['digest']}").status_code == 202
    for reference in ("a", "b", descriptor["digest"]):
        error(repository.get(reference), 404, "MANIFEST_UNKNOWN")
    assert repository.tags() == []
    assert repository.put(document, "a")[0].status_code == 201


@pytest.mark.parametrize("reference", ["missing", digest_bytes(b"missing")])
def test_end_9_delete_what_is_not_there(repository, reference):
    """Deleting Manifests: 404 MANIFEST_UNKNOWN (code-6)."""
    repository.put(repository.image(), "x")
    error(repository.http.delete(f"{repository.base}/manifests/{reference}"), 404, "MANIFEST_UNKNOWN")


def test_end_9_deletes_and_pushes_at_once_leave_no_half_things(repository, server):
    """Deleting: whatever the order, a tag that is listed leads to a manifest that is there."""
    documents = [repository.image() for _ in range(3)]
    stop = threading.Event()

    def churn(document):
        with requests.Session() as session:
            session.trust_env = False
            mine = Repository(session, repository.base)
            while not stop.is_set():
                _, descriptor, _ = mine.put(document, "shared")
                session.delete(f"{mine.base}/manifests/{descriptor['digest']}")

    threads = [threading.Thread(target=churn, args=(document,)) for document in documents]
    for thread in threads:
        thread.start()
    try:
        for _ in range(150):
            answer = repository.get("shared")
            assert answer.status_code in (200, 404)
            if answer.status_code == 200:
                assert digest_bytes(answer.content) == answer.headers["Docker-Content-Digest"]
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
    for tag in repository.tags():
        assert repository.get(tag).status_code == 200


# end-12

def test_end_12a_no_referrers(repository):
    """Listing Referrers: 200 with an empty index, never 404, whether the subject or the repository exists or not."""
    for digest in (digest_bytes(b"nothing"), digest_bytes(b"nothing", "sha512")):
        answer = repository.referrers(digest)
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == media.INDEX
        assert answer.json() == {"schemaVersion": 2, "mediaType": media.INDEX, "manifests": []}


@pytest.mark.parametrize("digest", ["sha256:x", "latest", "sha256:" + "A" * 64, "sha1:" + "a" * 40])
def test_end_12a_malformed_digests(repository, digest):
    """Listing Referrers: 400."""
    error(repository.referrers(digest), 400, "DIGEST_INVALID")


@ALGORITHMS
def test_end_12a_what_a_descriptor_says(repository, algorithm):
    """Listing Referrers: artifactType of the manifest, else the config's media type, for an index none; annotations."""
    _, subject, _ = repository.put(repository.image(algorithm), algorithm=algorithm)
    wanted = []
    for document, kind in (
        (repository.image(algorithm, subject=subject, artifactType="a/explicit", annotations={"k": "v"}), "a/explicit"),
        (repository.image(algorithm, subject=subject), media.EMPTY),
        (index(subject=subject, artifactType="a/index"), "a/index"), (index(subject=subject, annotations={"i": "1"}), None),
    ):
        _, descriptor, _ = repository.put(document, algorithm=algorithm)
        expected = {**descriptor, **({"artifactType": kind} if kind else {})}
        if "annotations" in document:
            expected["annotations"] = document["annotations"]
        wanted.append(expected)
    found = repository.referrers(subject["digest"]).json()["manifests"]
    assert sorted(found, key=lambda d: d["digest"]) == sorted(wanted, key=lambda d: d["digest"])


def test_end_12b_filter_by_artifact_type(repository):
    """Listing Referrers: a filter that was applied is named in OCI-Filters-Applied."""
    _, subject, _ = repository.put(repository.image())
    _, wanted, _ = repository.put(repository.image(subject=subject, artifactType="a/one"))
    repository.put(repository.image(subject=subject, artifactType="a/two"))
    answer = repository.referrers(subject["digest"], "?artifactType=a/one")
    assert answer.headers["OCI-Filters-Applied"] == "artifactType"
    assert [d["digest"] for d in answer.json()["manifests"]] == [wanted["digest"]]
    assert repository.referrers(subject["digest"], "?artifactType=a/none").json()["manifests"] == []
    assert "OCI-Filters-Applied" not in repository.referrers(subject["digest"]).headers


def test_end_12a_referrers_of_a_subject_that_comes_later_or_goes(repository):
    """Pushing Manifests with Subject: the subject may be missing; its referrers are listed all the same."""
    image = repository.image()
    data = json.dumps(image).encode()
    subject = {"mediaType": media.MANIFEST, "digest": digest_bytes(data), "size": len(data)}
    answer, referrer, _ = repository.put(repository.image(subject=subject))
    assert answer.headers["OCI-Subject"] == subject["digest"]

    def listed():
        return [d["digest"] for d in repository.referrers(subject["digest"]).json()["manifests"]]

    assert listed() == [referrer["digest"]]
    repository.put(image, "now")
    assert listed() == [referrer["digest"]]
    repository.http.delete(f"{repository.base}/manifests/{subject['digest']}")
    assert listed() == [referrer["digest"]]
    repository.http.delete(f"{repository.base}/manifests/{referrer['digest']}")
    assert listed() == []


def test_end_12a_a_referrer_pushed_twice_is_listed_once(repository):
    """Listing Referrers: no duplicates, also when tagged."""
    _, subject, _ = repository.put(repository.image())
    document = repository.image(subject=subject)
    for reference in ("", "a", "b"):
        repository.put(document, reference)
    assert len(repository.referrers(subject["digest"]).json()["manifests"]) == 1


# Errors

@pytest.mark.parametrize("body", [
    b"", b"null", b"{", b'"x"', b"\xff\xfe", b'{"schemaVersion": 2}', b'{"schemaVersion": 1, "mediaType": "%b"}' % media.MANIFEST.encode(),
    b'{"schemaVersion": 2, "mediaType": "%b", "layers": []}' % media.MANIFEST.encode(), b"[" * 10_000,
    b'{"schemaVersion": 2, "schemaVersion": 2, "mediaType": "%b", "manifests": []}' % media.MANIFEST.encode(),
    b'{"schemaVersion": 2, "mediaType": "%b", "config": {"digest": "sha256:..", "size": 1, "mediaType": "x"}, "layers": []}'
    % media.MANIFEST.encode(),
])
def test_code_5_manifests_that_are_none(repository, body):
    """Error Codes: 400 MANIFEST_INVALID (code-5)."""
    answer = repository.http.put(f"{repository.base}/manifests/x", data=body, headers={"Content-Type": media.MANIFEST})
    error(answer, 400, "MANIFEST_INVALID")


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize("path", ["manifests/x", "tags/list", f"referrers/{digest_bytes(b'')}", f"blobs/{digest_bytes(b'')}"])
def test_code_15_methods_that_are_not_supported(repository, method, path):
    """Error Codes: 405 UNSUPPORTED (code-15), and what is."""
    answer = repository.http.request(method, f"{repository.base}/{path}")
    error(answer, 405, "UNSUPPORTED")
    assert "GET" in answer.headers["Allow"]
