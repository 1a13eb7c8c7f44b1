"""distribution-spec 1.1 and draft, "Pulling manifests", "Pushing Manifests", "Deleting" (end-3, 7, 9, 12)."""

from __future__ import annotations

import json
import uuid

import pytest

from fuseml_oci import media
from fuseml_oci.descriptor import Descriptor
from fuseml_oci.digests import digest_bytes

EMPTY = {"mediaType": media.EMPTY, "digest": media.EMPTY_DIGEST, "size": 2}


@pytest.fixture
def name(client):
    name = f"manifests/{uuid.uuid4().hex}"
    client.push_blob(name, b"{}", media.EMPTY_DIGEST, media.EMPTY)
    return name


def manifest(**more):
    return {"schemaVersion": 2, "mediaType": media.MANIFEST, "artifactType": "application/x", "config": EMPTY,
            "layers": [EMPTY], **more}


def put(http, server, name, reference, document, query="", media_type=None):
    data = document if isinstance(document, bytes) else json.dumps(document, indent=3).encode()
    media_type = media_type or json.loads(data).get("mediaType", media.MANIFEST)
    answer = http.put(f"{server.url}/{name}/manifests/{reference}{query}", data=data,
                      headers={"Content-Type": media_type})
    return answer, data


def code(answer):
    return answer.json()["errors"][0]["code"]


def test_r65_exact_bytes_come_back_by_tag_and_digest(server, http, name):
    answer, data = put(http, server, name, "latest", manifest(annotations={"b": "ü", "a": "1"}, custom={"x": [1.0]}))
    digest = digest_bytes(data)
    assert answer.status_code == 201
    assert answer.headers["Docker-Content-Digest"] == digest
    assert answer.headers["Location"] == f"/v2/{name}/manifests/{digest}"
    for reference in ("latest", digest):
        for method in ("GET", "HEAD"):
            found = http.request(method, f"{server.url}/{name}/manifests/{reference}")
            assert found.status_code == 200
            assert found.headers["Content-Type"] == media.MANIFEST
            assert found.headers["Docker-Content-Digest"] == digest
            assert found.headers["Content-Length"] == str(len(data))
            assert found.content == (data if method == "GET" else b"")


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_put_by_digest_with_tags(server, http, name, algorithm):
    document = manifest(annotations={"a": algorithm})
    digest = digest_bytes(json.dumps(document, indent=3).encode(), algorithm)
    answer, data = put(http, server, name, digest, document, "?tag=one&tag=two")
    assert answer.status_code == 201
    assert answer.headers["Docker-Content-Digest"] == digest
    assert answer.headers["OCI-Tag"] == "one, two"
    for reference in ("one", "two", digest):
        found = http.get(f"{server.url}/{name}/manifests/{reference}")
        assert (found.content, found.headers["Docker-Content-Digest"]) == (data, digest)


def test_put_by_another_digest_is_400(server, http, name):
    answer, _ = put(http, server, name, digest_bytes(b"other"), manifest())
    assert answer.status_code == 400
    assert code(answer) == "DIGEST_INVALID"


@pytest.mark.parametrize("document", [
    b"", b"{", b"[]", b"null", b"[" * 100_000, {"schemaVersion": 2, "mediaType": media.MANIFEST}, manifest(schemaVersion=1),
    manifest(layers={}), manifest(layers=[{"digest": "sha256:zz"}]), manifest(layers=[{**EMPTY, "size": -1}]),
    manifest(config=None), manifest(mediaType="text/plain"), manifest(subject="x"), manifest(annotations=[]),
    {"schemaVersion": 2, "mediaType": media.INDEX, "manifests": [1]},
], ids=range(15))
def test_broken_manifests_are_400(server, http, name, document):
    kind = document.get("mediaType") if isinstance(document, dict) else media.MANIFEST
    answer, _ = put(http, server, name, "broken", document, media_type=kind)
    assert answer.status_code == 400
    assert code(answer) == "MANIFEST_INVALID"
    assert http.get(f"{server.url}/{name}/manifests/broken").status_code == 404


def test_header_and_body_must_agree_about_the_type(server, http, name):
    assert put(http, server, name, "t", manifest(), media_type=media.INDEX)[0].status_code == 400


def test_manifest_without_media_type_takes_that_of_the_header(server, http, name):
    document = manifest()
    del document["mediaType"]
    assert put(http, server, name, "bare", document)[0].status_code == 201
    assert http.get(f"{server.url}/{name}/manifests/bare").headers["Content-Type"] == media.MANIFEST


def test_missing_blobs_are_named(server, http, name):
    missing = {"mediaType": "a/b", "digest": digest_bytes(b"missing"), "size": 7}
    answer, _ = put(http, server, name, "t", manifest(layers=[missing]))
    assert answer.status_code == 404
    assert code(answer) == "MANIFEST_BLOB_UNKNOWN"
    assert missing["digest"] in answer.text


def test_layers_that_must_not_be_distributed_may_be_missing(server, http, name):
    foreign = {"mediaType": next(iter(media.NON_DISTRIBUTABLE)), "digest": digest_bytes(b"missing"), "size": 7}
    assert put(http, server, name, "t", manifest(layers=[foreign]))[0].status_code == 201


def test_no_layers_and_docker_types(server, http, name):
    assert put(http, server, name, "none", manifest(layers=[]))[0].status_code == 201
    assert put(http, server, name, "docker", manifest(mediaType=media.DOCKER_MANIFEST))[0].status_code == 201


def test_sparse_and_nested_indexes(server, http, name):
    index = {"schemaVersion": 2, "mediaType": media.INDEX,
             "manifests": [{"mediaType": media.MANIFEST, "digest": digest_bytes(b"elsewhere"), "size": 9}]}
    answer, data = put(http, server, name, "sparse", index)
    assert answer.status_code == 201
    nested = {**index, "manifests": [{"mediaType": media.INDEX, "digest": digest_bytes(data), "size": len(data)}]}
    assert put(http, server, name, "nested", nested)[0].status_code == 201


def test_four_mebibytes_are_accepted_and_more_is_413(server, http, name):
    document = manifest(annotations={"a": ""})
    room = (4 << 20) - len(json.dumps(document, indent=3))
    document["annotations"]["a"] = "x" * room
    assert put(http, server, name, "large", document)[0].status_code == 201
    document["annotations"]["a"] += "x"
    assert put(http, server, name, "larger", document)[0].status_code == 413


@pytest.mark.parametrize("reference", ["sha256:zz", ".dot", "a" * 129, "a+b", "sha256:" + "0" * 63])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
def test_malformed_references_are_400(server, http, name, reference, method):
    assert http.request(method, f"{server.url}/{name}/manifests/{reference}", data=b"{}").status_code == 400


def test_r9_versions_are_immutable_and_other_tags_move(server, http, name):
    first, data = put(http, server, name, "1.2.3", manifest())
    assert first.status_code == 201
    assert put(http, server, name, "1.2.3", data)[0].status_code == 201, "the same content is fine"
    for tag, status in (("1.2.3", 409), ("v1.2.3", 201), ("1.2", 201), ("latest", 201)):
        put(http, server, name, tag, manifest())
        answer, _ = put(http, server, name, tag, manifest(annotations={"changed": "1"}))
        assert answer.status_code == status, tag
    answer, changed = put(http, server, name, "1.2.3", manifest(annotations={"changed": "1"}))
    assert code(answer) == "DENIED"
    assert "publish the new content under a new version" in answer.text
    by_digest, _ = put(http, server, name, digest_bytes(changed), changed, "?tag=1.2.3")
    assert by_digest.status_code == 409
    assert http.get(f"{server.url}/{name}/manifests/1.2.3").content == data
    other = digest_bytes(data, "sha512")
    assert put(http, server, name, other, data, "?tag=1.2.3")[0].status_code == 201, "same bytes, other algorithm"


def test_deleting_a_tag_leaves_the_manifest_and_deleting_the_manifest_removes_its_tags(server, http, name):
    _, data = put(http, server, name, "one", manifest())
    put(http, server, name, "two", data)
    base, digest = f"{server.url}/{name}/manifests", digest_bytes(data)
    assert http.delete(f"{base}/one").status_code == 202
    assert http.get(f"{base}/one").status_code == 404
    assert http.get(f"{base}/two").status_code == http.get(f"{base}/{digest}").status_code == 200
    assert http.delete(f"{base}/{digest}").status_code == 202
    for reference in ("two", digest):
        assert http.get(f"{base}/{reference}").status_code == 404
        assert http.delete(f"{base}/{reference}").status_code == 404
    assert http.get(f"{server.url}/{name}/tags/list").json() == {"name": name, "tags": []}


def test_referrers(server, http, name):
    subject = digest_bytes(b"a subject that need not exist")
    url, descriptor = f"{server.url}/{name}/referrers/{subject}", {"mediaType": media.MANIFEST, "digest": subject, "size": 9}
    empty = http.get(url)
    assert (empty.status_code, empty.headers["Content-Type"], empty.json()["manifests"]) == (200, media.INDEX, [])
    answer, first = put(http, server, name, "first", manifest(subject=descriptor, annotations={"k": "v"}))
    assert answer.headers["OCI-Subject"] == subject
    plain = manifest(subject=descriptor)
    del plain["artifactType"]
    _, second = put(http, server, name, "second", plain)
    index = {"schemaVersion": 2, "mediaType": media.INDEX, "manifests": [], "subject": descriptor, "artifactType": "a/i"}
    _, third = put(http, server, name, "third", index)
    found = {d["digest"]: d for d in http.get(url).json()["manifests"]}
    assert found == {
        digest_bytes(first): {"mediaType": media.MANIFEST, "digest": digest_bytes(first), "size": len(first),
                              "artifactType": "application/x", "annotations": {"k": "v"}},
        digest_bytes(second): {"mediaType": media.MANIFEST, "digest": digest_bytes(second), "size": len(second),
                               "artifactType": media.EMPTY},
        digest_bytes(third): {"mediaType": media.INDEX, "digest": digest_bytes(third), "size": len(third),
                              "artifactType": "a/i"}}
    filtered = http.get(url, params={"artifactType": "application/x"})
    assert [d["digest"] for d in filtered.json()["manifests"]] == [digest_bytes(first)]
    assert filtered.headers["OCI-Filters-Applied"] == "artifactType"
    http.delete(f"{server.url}/{name}/manifests/{digest_bytes(first)}")
    assert len(http.get(url).json()["manifests"]) == 2
    assert http.get(f"{server.url}/{name}/referrers/sha256:zz").status_code == 400


def test_referrers_come_in_pages(server, http, name, monkeypatch):
    monkeypatch.setattr("fuseml_registry.referrers.PAGE", 2)
    descriptor = {"mediaType": media.MANIFEST, "digest": digest_bytes(b"s"), "size": 1}
    wanted = set()
    for number in range(5):
        _, data = put(http, server, name, f"t{number}", manifest(subject=descriptor, annotations={"n": str(number)}))
        wanted.add(digest_bytes(data))
    url, seen = f"/v2/{name}/referrers/{descriptor['digest']}", []
    while url:
        answer = http.get(f"http://{server.host}{url}")
        seen += [d["digest"] for d in answer.json()["manifests"]]
        url = answer.links.get("next", {}).get("url")
    assert len(seen) == 5
    assert set(seen) == wanted


def test_descriptor_of_a_pushed_manifest_resolves(server, client, http, name):
    _, data = put(http, server, name, "x", manifest())
    assert client.resolve(name, "x") == Descriptor(media.MANIFEST, digest_bytes(data), len(data),
                                                   artifact_type="application/x")
